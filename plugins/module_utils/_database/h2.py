# SPDX-License-Identifier: GPL-3.0-or-later
"""Oracle SQL files run in H2's Oracle mode, to learn the structure that they make. Needs a Java runtime, no Oracle."""

from __future__ import annotations

import csv
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

from ansible_collections.dmwm.wmagent.plugins.module_utils._database import oracle_dictionary, oracle_rules
from ansible_collections.dmwm.wmagent.plugins.module_utils._database.schema import Structure
from ansible_collections.dmwm.wmagent.plugins.module_utils._errors import WMAgentError

_URL = "jdbc:h2:mem:schema;MODE=Oracle"
H2_JAR = Path("/usr/share/java/h2.jar")
"""Where Debian's libh2-java puts it."""


def split_statements(text: str) -> list[str]:
    """The statements of an Oracle SQL file: a line with nothing but ``/`` ends each; comment lines are dropped."""
    statements: list[str] = []
    lines: list[str] = []
    for raw in [*text.splitlines(), "/"]:
        line = raw.strip()
        if line == "/":
            if lines:
                statements.append("\n".join(lines))
            lines = []
        elif line and not line.startswith("--"):
            lines.append(line)
    return statements


def describe_oracle(files: Sequence[Path], *, jar: Path = H2_JAR, timeout: float = 60) -> Structure:
    """The structure that Oracle SQL files make, run unmodified and in this order.

    timeout: seconds.

    Raises WMAgentError: a statement that H2 refuses or that Oracle would (:mod:`oracle_rules`), Java or H2 missing.
    """
    statements: list[str] = []
    for file in files:
        found = split_statements(_text(file))
        for statement in found:
            if problems := oracle_rules.problems(statement):
                raise WMAgentError(f"{file}: Oracle would refuse '{_start(statement)}': {problems[0]}")
        statements += found
    structure = structure_of_statements(statements, jar=jar, timeout=timeout)
    if not structure:
        raise WMAgentError(
            f"the Oracle SQL files make no table: {', '.join(str(file) for file in files) or 'no files'}"
        )
    return structure


def structure_of_statements(statements: Iterable[str], *, jar: Path = H2_JAR, timeout: float = 60) -> Structure:
    """The structure after these statements in an empty H2 database in Oracle mode. Raises WMAgentError."""
    java = shutil.which("java")
    if java is None:
        raise WMAgentError("java is not installed; install default-jre-headless")
    if not jar.is_file():
        raise WMAgentError(f"{jar} does not exist; install libh2-java")
    with tempfile.TemporaryDirectory(prefix="wmagent-h2-") as name:
        folder = Path(name)
        script = folder / "script.sql"
        script.write_text(_script(statements, folder), encoding="utf-8")
        _run(
            [java, "-Xmx256m", "-cp", str(jar), "org.h2.tools.RunScript", "-url", _URL, "-script", str(script)],
            timeout,
        )
        return oracle_dictionary.h2_structure(
            {part: _read_csv(folder / f"{part}.csv") for part in oracle_dictionary.H2_QUERIES}
        )


def _script(statements: Iterable[str], folder: Path) -> str:
    lines = [f"{statement};" for statement in statements]
    for part, query in oracle_dictionary.H2_QUERIES.items():
        target = str(folder / f"{part}.csv").replace("'", "''")
        quoted = " ".join(query.split()).replace("'", "''")
        lines.append(f"CALL CSVWRITE('{target}', '{quoted}', 'charset=UTF-8');")
    return "\n".join(lines) + "\n"


def _run(command: list[str], timeout: float) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False)
    except subprocess.TimeoutExpired:
        raise WMAgentError(f"H2 did not finish in {timeout:g} s; look at this host's load") from None
    if done.returncode != 0:
        lines = [line.strip() for line in (done.stderr + done.stdout).splitlines() if line.strip()]
        reason = next((line for line in lines if "Exception" in line), lines[0] if lines else "no reason given")
        raise WMAgentError(f"H2 refused the Oracle SQL: {reason[:400]}")


def _read_csv(file: Path) -> list[list[str | None]]:
    """Rows without the header; H2 leaves NULL empty, which no value here is."""
    with file.open(newline="", encoding="utf-8") as lines:
        return [[value or None for value in row] for row in csv.reader(lines)][1:]


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except OSError as error:
        raise WMAgentError(f"{file} cannot be read ({error.strerror}); is the release complete?") from None


def _start(statement: str) -> str:
    return " ".join(statement.split())[:60]
