# SPDX-License-Identifier: GPL-3.0-or-later
"""Which of the report's files say something new, and writing them so that a reader finds the old one or the new one."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ansible_collections.dmwm.wmagent.plugins.module_utils._errors import WMAgentError
from ansible_collections.dmwm.wmagent.plugins.module_utils._history import model
from ansible_collections.dmwm.wmagent.plugins.module_utils._release.durable import write_file
from ansible_collections.dmwm.wmagent.plugins.module_utils._report.markdown import to_markdown
from ansible_collections.dmwm.wmagent.plugins.module_utils._report.page import to_page
from ansible_collections.dmwm.wmagent.plugins.module_utils._report.redact import redacted

FORMATS = ("html", "json", "markdown")

_MADE_AT = {
    "html": re.compile(r'<title>WMAgents, [^<]*</title>|<time id="generated".*?</time>'),
    "json": re.compile(r'^  "generated_at": ".*",?$', re.MULTILINE),
    "markdown": re.compile(r"^As of .* UTC\. ", re.MULTILINE),
}
"""Where each format tells when the report was made; by that alone, none has changed."""


def checked(report: Mapping[str, Any]) -> model.Report:
    """``report`` without what looks like a secret.

    Raises WMAgentError where it is no report of this version.
    """
    if report.get("version") != model.VERSION:
        raise WMAgentError(
            f"the report's version is {report.get('version')!r}, this collection writes {model.VERSION}; "
            "give what dmwm.wmagent.history returns as report"
        )
    if missing := sorted(model.Report.__annotations__.keys() - report.keys()):
        raise WMAgentError(f"the report lacks {', '.join(missing)}; give what dmwm.wmagent.history returns as report")
    clean: model.Report = redacted(report)
    return clean


def contents(report: model.Report, formats: Mapping[str, Path]) -> dict[Path, str]:
    """What of each of ``formats`` (name to file) says something new, by file; what is there already is left out.

    Raises WMAgentError where the report is damaged, matplotlib is missing, or a file can't be read.
    """
    make = {"html": to_page, "json": _to_json, "markdown": to_markdown}
    found = {}
    for name, file in formats.items():
        try:
            new = make[name](report)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise WMAgentError(
                f"{name}: the report is damaged ({type(error).__name__}: {error}); "
                "give what dmwm.wmagent.history returns as report"
            ) from None
        if _timeless(name, _read(file)) != _timeless(name, new):
            found[file] = new
    return found


def write(files: Mapping[Path, str]) -> None:
    """Write each file, its folder too where it is missing. Raises WMAgentError where one can't be written."""
    for file, text in files.items():
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            write_file(file, text.encode())
        except OSError as error:
            raise WMAgentError(
                f"{file} can't be written ({error.strerror}); is there room, and may you write there?"
            ) from None


def _to_json(report: model.Report) -> str:
    return json.dumps(report, indent=2, ensure_ascii=False) + "\n"


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except FileNotFoundError:
        return ""
    except (OSError, UnicodeDecodeError) as error:
        if isinstance(error, UnicodeDecodeError):
            return ""  # not one of ours: it is written anew
        raise WMAgentError(f"{file} can't be read ({error.strerror}); name another file or remove it") from None


def _timeless(name: str, text: str) -> str:
    return _MADE_AT[name].sub("", text)
