# SPDX-License-Identifier: GPL-3.0-or-later
"""The lab's services together: up in order, down in reverse; the folder away at the end."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from ansible_collections.dmwm.wmagent.plugins.module_utils._errors import WMAgentError

from . import central, certificates, couchdb, mariadb, processes
from .agent import Agent
from .settings import Lab, answers

_FILES = Path(__file__).resolve().parent.parent


def up(lab: Lab) -> bool:
    """Certificates, MariaDB and the central stand-in; True where anything was done."""
    lab.root.mkdir(parents=True, exist_ok=True)
    changed = certificates.up(lab)
    changed = mariadb.up(lab) or changed
    changed = _central_up(lab) or changed
    changed = _rucio(lab) or changed
    return _programs(lab) or changed


def all_up(lab: Lab) -> bool:
    """True where ``up`` has nothing to do."""
    return all(processes.recorded(lab.service(name)) for name in (mariadb.NAME, central.NAME))


def any_up(lab: Lab) -> bool:
    """True where any service runs."""
    folder = lab.root / "services"
    return any(processes.recorded(folder / name) for name in _names(folder))


def couch_up(lab: Lab, agent: str, agents: Sequence[str], urls: str, kind: str) -> tuple[couchdb.Couch, bool]:
    """The agent's own CouchDB, running, and whether anything was done. ``kind``: ``auto`` or ``stand-in``."""
    remembered = lab.read().get("couchdb", {}).get(agent, {}).get("kind")
    wanted = kind == couchdb.STAND_IN
    couch = couchdb.choose(
        lab, agent, agents, "" if wanted else urls, allow_found=not wanted and remembered != couchdb.STAND_IN
    )
    changed = couchdb.up(lab, agent, couch)
    lab.remember_in("couchdb", agent, couch.describe())
    return couch, changed


def work_up(lab: Lab, agent: Agent) -> bool:
    """The agent's work, where it is one that ends; True where it was started."""
    folder = lab.service(f"work-{agent.name}")
    if not agent.work_seconds or processes.recorded(folder) or (folder / "began.json").exists():
        return False
    folder.mkdir(parents=True, exist_ok=True)
    request = {
        "agent": agent.name,
        "name": agent.overrides["Agent.hostName"],
        "secrets": str(agent.secrets),
        "database": agent.database,
        "queue": str(agent.folder / "condor.json"),
        "seconds": agent.work_seconds,
    }
    (folder / "request.json").write_text(json.dumps(request), encoding="utf-8")
    # Not this package's own folder, where a module is called as python-couchdb is.
    libraries = [path for path in sys.path if Path(path).resolve() != _FILES / "wmagent_lab"]
    environment = {"PATH": "/usr/bin:/bin", "PYTHONPATH": os.pathsep.join([str(_FILES), *libraries])}
    processes.start(folder, [sys.executable, "-m", "wmagent_lab.work", str(folder / "request.json")], environment)
    return True


def down(lab: Lab) -> bool:
    """Stop the services; True where any ran. Nothing is stopped while an agent of the lab still needs them."""
    if processes.under(lab.agents):
        return False
    folder = lab.root / "services"
    stopped = [name for name in _names(folder) if processes.stop(folder / name, 60)]
    return bool(stopped)


def remove_agent(lab: Lab, agent: str) -> bool:
    """Remove one agent's folder and its CouchDB, its components having been stopped; True where anything was there."""
    _refuse_other_folder(lab)
    folders = [lab.agents / agent, lab.service(couchdb.service_name(agent)), lab.service(f"work-{agent}")]
    for folder in folders[1:]:
        processes.stop(folder, 60)
    present = [folder for folder in folders if folder.exists()]
    for folder in present:
        shutil.rmtree(folder)
    return bool(present)


def remove(lab: Lab) -> bool:
    """Remove the lab once no agent stands in it any more; True where it was there."""
    _refuse_other_folder(lab)
    if not lab.root.exists() or (lab.agents.is_dir() and any(lab.agents.iterdir())):
        return False
    down(lab)
    processes.end(processes.under(lab.root))
    shutil.rmtree(lab.root)
    return True


def _refuse_other_folder(lab: Lab) -> None:
    if lab.root.exists() and not lab.file.exists():
        raise WMAgentError(f"{lab.root} holds no {lab.file.name}, so it is no lab and stays; check wmagent_lab_dir")


def _names(folder: Path) -> list[str]:
    return sorted((entry.name for entry in folder.iterdir()), reverse=True) if folder.is_dir() else []


def _central_up(lab: Lab) -> bool:
    folder = lab.service(central.NAME)
    if processes.recorded(folder) is not None:
        return False
    port = lab.port(central.NAME)
    lab.refuse_taken_port(central.NAME)
    argv = [sys.executable, "-m", "wmagent_lab.central", str(port)]
    argv += [str(lab.certs / "servicecert.pem"), str(lab.certs / "servicekey.pem")]
    running = processes.start(folder, argv, {"PATH": "/usr/bin:/bin", "PYTHONPATH": str(_FILES)})
    processes.wait_until(lambda: answers(port), running, folder, 20)
    return True


def _rucio(lab: Lab) -> bool:
    """``rucio.cfg``, which the Rucio client reads from ``$RUCIO_HOME/etc``."""
    file = lab.root / "rucio" / "etc" / "rucio.cfg"
    if file.exists():
        return False
    names = central.secrets(lab.port(central.NAME))
    lines = [
        "[common]",
        "[client]",
        f"rucio_host = {names['RUCIO_HOST']}",
        f"auth_host = {names['RUCIO_AUTH']}",
        f"account = {names['RUCIO_ACCOUNT']}",
        "auth_type = x509",
        f"ca_cert = {lab.certs / 'certificates'}",
        f"client_cert = {lab.certs / 'servicecert.pem'}",
        f"client_key = {lab.certs / 'servicekey.pem'}",
        "request_retries = 1",
    ]
    file.parent.mkdir(parents=True)
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return True


def _programs(lab: Lab) -> bool:
    """Stand-ins that components call (condor_q) or import (htcondor), copied so that the lab stays as it was made."""
    changed = False
    for source, target in ((_FILES / "bin", lab.root / "bin"), (_FILES / "python", lab.root / "python")):
        if not target.exists() and source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
            changed = True
    return changed
