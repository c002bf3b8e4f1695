# SPDX-License-Identifier: GPL-3.0-or-later
"""Real agents for tests: a small lab in a temporary folder, deployed by hand, with components that run.

@pytest.fixture(scope="module")
def agent(tmp_path_factory):
    with lab(tmp_path_factory, components=TEN) as running:
        yield running.agents[0]
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.dmwm.wmagent.plugins.module_utils._agent.layout import AgentLayout
from ansible_collections.dmwm.wmagent.plugins.module_utils._agent.secrets import read_secrets
from ansible_collections.dmwm.wmagent.plugins.module_utils._database.connection import (
    DatabaseSettings,
    settings_from_secrets,
)

CHECKOUT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(CHECKOUT / "roles" / "lab" / "files"))

from wmagent_lab import processes, verbs  # noqa: E402 - importable only after the line above

IMAGE = "2.4.4"
TEN = (
    "DBS3Upload",
    "JobAccountant",
    "JobCreator",
    "JobSubmitter",
    "JobTracker",
    "JobStatusLite",
    "ErrorHandler",
    "RetryManager",
    "ArchiveDataReporter",
    "AgentWatchdog",
)
"""Components that stay up without central services."""


@dataclass(frozen=True)
class LabAgent:
    """One agent of a running lab.

    name:        ``agent01`` and so on
    root:        ``wmagent_root``
    secrets:     ``wmagent_secrets``
    database:    ``wmagent_database_name``
    environment: ``wmagent_environment``
    overrides:   ``wmagent_config``
    components:  ``wmagent_components``; empty for all
    """

    name: str
    folder: Path
    root: Path
    secrets: Path
    database: str
    environment: Mapping[str, str]
    overrides: Mapping[str, Any]
    components: tuple[str, ...]

    @property
    def layout(self) -> AgentLayout:
        """Paths of the agent once it is adopted."""
        return AgentLayout(self.root)

    @property
    def by_hand(self) -> Path:
        """The folder ``v<tag>`` of the by-hand deployment."""
        return next(self.root.glob("v*"))

    @property
    def prefix(self) -> Path:
        """``sys.prefix`` of the by-hand software."""
        return self.by_hand / "sw"

    @property
    def config(self) -> Path:
        """The by-hand ``config.py``."""
        return self.by_hand / "config" / "wmagent" / "config.py"

    @property
    def work_dir(self) -> Path:
        """``General.workDir``: a folder for each component. It never moves."""
        return self.by_hand / "install" / "wmagent"

    def read_secrets(self) -> dict[str, str]:
        """The content of ``WMAgent.secrets``."""
        return read_secrets(self.secrets)

    def settings(self) -> DatabaseSettings:
        """How the agent reaches its database."""
        return settings_from_secrets(self.read_secrets(), self.database)

    def running(self) -> dict[str, int]:
        """Component -> pid of each live component process, by its working directory."""
        found: dict[str, int] = {}
        for item in processes.under(self.folder):
            found.setdefault(Path(f"/proc/{item.pid}/cwd").readlink().name, item.pid)
        return found

    def variables(self) -> dict[str, Any]:
        """This agent's variables, as an inventory would hold them."""
        return {
            "ansible_connection": "local",
            "ansible_python_interpreter": sys.executable,
            "wmagent_root": str(self.root),
            "wmagent_secrets": str(self.secrets),
            "wmagent_database_name": self.database,
            "wmagent_environment": dict(self.environment),
            "wmagent_config": dict(self.overrides),
            "wmagent_components": list(self.components),
        }


@dataclass(frozen=True)
class RunningLab:
    """A lab that is up; ``requests`` is what the lab's verbs take for each agent."""

    folder: Path
    agents: tuple[LabAgent, ...]
    requests: tuple[dict[str, Any], ...]

    def start(self, agent: LabAgent) -> None:
        """Start the components of the agent's current release, unless some run."""
        verbs.run("agent-up", self._request(agent))

    def stop(self, agent: LabAgent) -> None:
        """End the agent's components, whichever release they run from."""
        verbs.run("agent-stop", self._request(agent))

    def _request(self, agent: LabAgent) -> dict[str, Any]:
        return next(request for request in self.requests if request["agent"] == agent.name)


@contextmanager
def lab(
    tmp_path_factory: pytest.TempPathFactory,
    *,
    agents: int = 1,
    components: Sequence[str] = (),
    image: str = IMAGE,
    couchdb: str = "stand-in",
    start: str = "quick",
    hand_patch: Sequence[int] = (),
    overrides: Mapping[str, Any] | None = None,
) -> Iterator[RunningLab]:
    """Bring up ``agents`` real agents on the release ``image``; all is stopped and removed at the end.

    components: those to run; empty for all
    couchdb:    ``stand-in``, or ``auto`` for a real one where there is one
    start:      ``quick``, or ``upstream`` for ``wmcoreD --start``
    hand_patch: which agents (from 0) carry a change made by hand
    overrides:  ``wmagent_config`` of all agents

    Packages come from an image of the checkout's ``build/images`` (elsewhere: WMAGENT_TEST_IMAGES), and from the
    package index where there is no such image. By-hand software is kept under ``.cache`` for the next time.
    """
    folder = tmp_path_factory.mktemp("lab", numbered=True)
    names = [f"agent{number + 1:02d}" for number in range(agents)]
    common: dict[str, Any] = {
        "lab": str(folder),
        "software": str(CHECKOUT / ".cache" / "lab-software"),
        "agents": names,
        "components": list(components),
        "overrides": dict(overrides or {}),
        "couchdb": couchdb,
        "start": start,
        **_source(image),
    }
    try:
        verbs.run("services-up", common)
        requests = [_request(folder, name, common, number in hand_patch) for number, name in enumerate(names)]
        with ThreadPoolExecutor(max_workers=2) as pool:
            list(pool.map(lambda request: verbs.run("agent-up", request), requests))
        yield RunningLab(folder, tuple(_agent(request) for request in requests), tuple(requests))
    finally:
        # Nothing of it is needed any more, so nothing has to end in an orderly way.
        services = [processes.recorded(service) for service in (folder / "services").glob("*")]
        processes.end([*processes.under(folder), *(service for service in services if service)], 0.0)
        shutil.rmtree(folder, ignore_errors=True)


def _source(image: str) -> dict[str, Any]:
    repository = Path(os.environ.get("WMAGENT_TEST_IMAGES") or CHECKOUT / "build" / "images")
    if (repository / "index.json").is_file() and f'"{image}"' in (repository / "index.json").read_text():
        return {"image": image, "repository": str(repository)}
    return {"requirements": [f"wmagent=={image}"]}


def _request(folder: Path, name: str, common: Mapping[str, Any], hand_patch: bool) -> dict[str, Any]:
    home = folder / "agents" / name
    secrets = home / "admin" / "wmagent" / "WMAgent.secrets"
    return {
        **common,
        "agent": name,
        "root": str(home / "srv" / "wmagent"),
        "secrets": str(secrets),
        "database": f"wmagent_{name}",
        "environment": environment(folder, secrets),
        "overrides": {"Agent.hostName": f"{name}.lab.example", **common["overrides"]},
        "hand_patch": hand_patch,
    }


def environment(folder: Path, secrets: Path) -> dict[str, str]:
    """``wmagent_environment`` of an agent of the lab in ``folder``."""
    certs, proxy = folder / "certs", f"http://127.0.0.1:{verbs.Lab(folder).port('central')}"
    return {
        "PATH": f"{folder}/bin:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin",
        "PYTHONPATH": f"{folder}/python",
        "X509_HOST_CERT": f"{certs}/servicecert.pem",
        "X509_HOST_KEY": f"{certs}/servicekey.pem",
        "X509_USER_CERT": f"{certs}/servicecert.pem",
        "X509_USER_KEY": f"{certs}/servicekey.pem",
        "X509_USER_PROXY": f"{certs}/myproxy.pem",
        "X509_CERT_DIR": f"{certs}/certificates",
        "RUCIO_HOME": f"{folder}/rucio",
        "WMAGENT_SECRETS_LOCATION": str(secrets),
        "http_proxy": proxy,
        "https_proxy": proxy,
        "no_proxy": "127.0.0.1",
    }


def _agent(request: Mapping[str, Any]) -> LabAgent:
    return LabAgent(
        name=request["agent"],
        folder=Path(request["lab"]) / "agents" / request["agent"],
        root=Path(request["root"]),
        secrets=Path(request["secrets"]),
        database=request["database"],
        environment=request["environment"],
        overrides=request["overrides"],
        components=tuple(request["components"]),
    )
