# SPDX-License-Identifier: GPL-3.0-or-later
"""A real release's Python with its packages, for tests that ask its own classes."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

from ansible_collections.dmwm.wmagent.plugins.module_utils._database.connection import DatabaseSettings
from ansible_collections.dmwm.wmagent.plugins.module_utils._database.describe import MODULES
from ansible_collections.dmwm.wmagent.plugins.module_utils._release.interpreter import (
    environment_config,
    environment_links,
    probe,
)
from ansible_collections.dmwm.wmagent.plugins.module_utils._release.materialize import (
    LinkSources,
    place_files,
    place_links,
)
from ansible_collections.dmwm.wmagent.plugins.module_utils._release.repository import open_repository
from ansible_collections.dmwm.wmagent.plugins.module_utils._release.wheel_plan import plan_wheels
from support.wheels import PYTHON

ROOT = Path(__file__).resolve().parents[3]
IMAGES = os.environ.get("WMAGENT_TEST_IMAGES") or str(ROOT / "build" / "images")
_NOT_NEEDED = {
    *("babel", "cherrypy", "coverage", "ct3", "docutils", "jinja2", "pydantic", "pydantic-core", "pygments", "pyzmq"),
    *("rich", "rucio-clients", "setuptools", "snowballstemmer", "sphinx", "tzdata"),
}
"""Packages that neither draining nor the database's setup imports."""


def place_release(name: str, folder: Path) -> Path:
    """An environment with an image's packages, without byte code; returns its prefix."""
    repository = open_repository(IMAGES)
    wheels = []
    for wheel in repository.image(name).description.part("release"):
        if wheel.name in _NOT_NEEDED or wheel.name.startswith("sphinxcontrib"):
            continue
        path = folder / wheel.filename
        with repository.open_blob(wheel.digest, wheel.size) as stream:
            path.write_bytes(stream.read())
        wheels.append((wheel, path))
    python, prefix = probe(PYTHON), folder / "environment"
    place_links(environment_links(python), prefix)
    (prefix / "pyvenv.cfg").write_bytes(environment_config(python))
    planned = plan_wheels(wheels, prefix, python.library, python.version)
    place_files(list(planned.values()), prefix, LinkSources([]), python.cache_tag)
    return prefix


def database_url(database: DatabaseSettings) -> str:
    """As config.py's CoreDatabase has it."""
    return f"mysql://{database.user}:{database.password}@{database.host}:{database.port}/{database.name}"


def create_tables(prefix: Path, database: DatabaseSettings, folder: Path) -> None:
    """All tables of an agent, by the release's own ``wmcore-db-init``."""
    config = folder / f"{database.name}.py"
    config.write_text(
        "from WMCore.Configuration import Configuration\n"
        "config = Configuration()\n"
        f'config.section_("CoreDatabase").connectUrl = {database_url(database)!r}\n'
    )
    options = [f"--config={config}", "--create", f"--modules={','.join(MODULES)}"]
    command = [prefix / "bin/python", "-I", prefix / "bin/wmcore-db-init", *options]
    subprocess.run([str(part) for part in command], capture_output=True, check=True, timeout=120)


def couchapp(prefix: Path, name: str) -> dict[str, Any]:
    """A design document with the views and lists of the release's couchapp."""
    folder = prefix / "data" / "couchapps" / name
    views = {
        view.name: {part.stem: part.read_text().strip() for part in view.glob("*.js")}
        for view in (folder / "views").iterdir()
    }
    lists = {one.stem: one.read_text() for one in (folder / "lists").glob("*.js")}
    return {"_id": f"_design/{name}", "language": "javascript", "views": views, "lists": lists}
