# SPDX-License-Identifier: GPL-3.0-or-later
"""One agent of the lab, deployed the way people deploy one by hand, then started and stopped."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ansible_collections.dmwm.wmagent.plugins.module_utils._agent.adopt import find_deployment
from ansible_collections.dmwm.wmagent.plugins.module_utils._agent.components import failures, prepare_start
from ansible_collections.dmwm.wmagent.plugins.module_utils._agent.config import render_config
from ansible_collections.dmwm.wmagent.plugins.module_utils._agent.layout import RELEASE_FILE, AgentLayout
from ansible_collections.dmwm.wmagent.plugins.module_utils._agent.secrets import mask, read_secrets, secret_values
from ansible_collections.dmwm.wmagent.plugins.module_utils._errors import WMAgentError

from . import central, mariadb, processes, software
from .couchdb import Couch
from .settings import Lab

MODULES = "WMCore.WMBS,WMCore.Agent.Database,WMComponent.DBS3Buffer,WMCore.BossAir,WMCore.ResourceControl"
_INSIDE = Path(__file__).with_name("inside.py")


@dataclass(frozen=True)
class Agent:
    """What to deploy.

    name:        the inventory's name of it
    root:        ``wmagent_root``, e.g. ``<lab>/agents/<name>/srv/wmagent``
    secrets:     ``wmagent_secrets``
    database:    ``wmagent_database_name``
    environment: ``wmagent_environment``
    overrides:   ``wmagent_config``
    components:  ``wmagent_components``; empty for all that the config names
    work_seconds: in which its work ends once it is in drain mode; 0 for work that never ends
    start:       ``upstream`` (``wmcoreD --start``) or ``quick`` (this collection's own starter)
    """

    lab: Lab
    name: str
    root: Path
    secrets: Path
    database: str
    environment: Mapping[str, str] = field(default_factory=dict)
    overrides: Mapping[str, Any] = field(default_factory=dict)
    components: Sequence[str] = ()
    start: str = "upstream"
    hand_patch: bool = False
    workflows: int = 3
    work_seconds: float = 0

    @property
    def folder(self) -> Path:
        """The agent's own ``/data``: nothing of it stands elsewhere."""
        return self.lab.agents / self.name

    def check(self) -> None:
        """Raises WMAgentError where a path leads out of the agent's folder: ``absent`` removes that folder only."""
        for path in (self.root, self.secrets):
            if self.folder not in path.resolve().parents:
                raise WMAgentError(f"{path} is not under {self.folder}; the lab only touches its own folder")


@dataclass(frozen=True)
class _Deployed:
    """What runs now: the by-hand deployment, or the release an upgrade switched to."""

    prefix: Path
    python: Path
    config: Path


def up(agent: Agent, source: software.Source, couch: Couch) -> bool:
    """Deploy where it is not deployed yet, start what does not run; True where anything was done."""
    agent.check()
    changed = _deploy(agent, source, couch)
    changed = _central_queue(agent) or changed
    return start(agent) or changed


def start(agent: Agent) -> bool:
    """Start the agent's current release unless it runs; True where it was started."""
    if processes.under(agent.folder):
        return False
    _forget_processes(agent)
    deployed = _current(agent)
    if agent.start == "quick":
        _start_quickly(agent)
        return True
    argv = [str(deployed.prefix / "bin" / "wmcoreD"), "--start", f"--config={deployed.config}"]
    if agent.components:
        argv.append(f"--components={','.join(agent.components)}")
    _python(agent, deployed, argv, "", 300)
    return True


def _central_queue(agent: Agent) -> bool:
    """Push the central workqueue's design document where it is missing: the stand-in forgets it when it ends."""
    url = read_secrets(agent.secrets)["GLOBAL_WORKQUEUE_URL"]
    with agent.lab.alone():  # agents come up side by side
        try:
            urllib.request.urlopen(f"{url}/_design/WorkQueue", timeout=20).close()  # noqa: S310 - the lab's own address
        except urllib.error.HTTPError:
            _inside(agent, _current(agent), "central_queue", {"url": url}, 120)
            return True
    return False


def _start_quickly(agent: Agent) -> None:
    layout = AgentLayout(agent.root)
    if layout.is_adopted():
        release = layout.current_release()
    else:
        deployment = find_deployment(agent.root)
        layout = AgentLayout(agent.root, by_hand_work=deployment.work_dir)
        release = deployment.release(layout)
    prepared = prepare_start(release, layout, agent.components, agent.environment, timeout=120)
    if failed := failures(prepared.go()):
        raise WMAgentError(f"{agent.name}: {failed}")


def stop(agent: Agent) -> bool:
    """End the components, whichever release they run from; True where there were any."""
    agent.check()
    running = processes.under(agent.folder)
    # AgentWatchdog would start again what ends before it.
    first = [item for item in running if _works_in(item, "AgentWatchdog")]
    processes.end(first)
    processes.end([item for item in running if item not in first])
    _forget_processes(agent)
    return bool(running)


def _forget_processes(agent: Agent) -> None:
    """Remove what names processes that are gone, once none runs.

    ``wmcoreD --start`` gives up at a Daemon.xml without its process, and components signal the thread ids that their
    Timer files hold, which by then may be anyone's.
    """
    for pattern in ("Daemon.xml", "threads.json", "Timer-*"):
        for file in agent.root.glob(f"v*/install/wmagent/*/{pattern}"):
            file.unlink()


def _works_in(running: processes.Running, component: str) -> bool:
    try:
        return Path(f"/proc/{running.pid}/cwd").readlink().name == component
    except OSError:
        return False


def _deploy(agent: Agent, source: software.Source, couch: Couch) -> bool:
    marker = agent.folder / "deployed.json"
    if marker.exists():
        return False
    shared = software.build(agent.lab, source)
    tag = software.tag_of(shared)
    home = agent.root / f"v{tag}"
    deployed = _Deployed(home / "sw", home / "sw" / "bin" / "python", home / "config" / "wmagent" / "config.py")
    work_dir = home / "install" / "wmagent"
    shutil.rmtree(home, ignore_errors=True)
    for folder in (work_dir, deployed.config.parent, home / "apps", agent.secrets.parent):
        folder.mkdir(parents=True, exist_ok=True)
    software.copy(shared, deployed.prefix)
    _link(home / "apps" / "wmagent", Path("../sw"))
    _write_secrets(agent, couch)
    _write_env(agent)
    _make_database(agent, deployed)
    _make_config(agent, deployed, work_dir)
    schema = [str(deployed.prefix / "bin" / "wmcore-db-init"), f"--config={deployed.config}", "--create"]
    _python(agent, deployed, [*schema, f"--modules={MODULES}"], "", 120)
    _inside(agent, deployed, "couchapps", {"config": str(deployed.config)}, 120)
    _seed(agent, deployed, tag, work_dir)
    if agent.hand_patch:
        software.hand_patch(deployed.prefix)
    _link(agent.root / "current", Path(home.name))
    marker.write_text(json.dumps({"tag": tag, "software": shared.name}) + "\n", encoding="utf-8")
    return True


def _current(agent: Agent) -> _Deployed:
    layout = AgentLayout(agent.root)
    if (layout.current / RELEASE_FILE).is_file():
        release = layout.current_release()
        return _Deployed(release.prefix, release.python, release.config)
    home = agent.root / layout.current.readlink()
    return _Deployed(home / "sw", home / "sw" / "bin" / "python", home / "config" / "wmagent" / "config.py")


def _write_secrets(agent: Agent, couch: Couch) -> None:
    if agent.secrets.exists():
        return
    values = {
        "MDB_USER": "wmagent_" + agent.name,
        "MDB_PASS": agent.lab.password(f"mariadb-{agent.name}"),
        "MDB_HOST": "127.0.0.1",
        "MDB_PORT": str(agent.lab.port(mariadb.NAME)),
        "COUCH_USER": couch.user,
        "COUCH_PASS": couch.password,
        "COUCH_HOST": couch.host,
        "COUCH_PORT": str(couch.port),
        "COUCH_CERT_FILE": str(agent.lab.certs / "servicecert.pem"),
        "COUCH_KEY_FILE": str(agent.lab.certs / "servicekey.pem"),
        **central.secrets(agent.lab.port(central.NAME)),
        "TEAMNAME": f"testbed-{agent.name}",
        "AGENT_NUMBER": "0",
        "ALERT_EMAILS": "operator@lab.example",
        "GRAFANA_TOKEN": agent.lab.password("grafana"),
    }
    text = "# Made by the lab: random passwords, addresses of this machine only.\n"
    text += "".join(f"{key}={value}\n" for key, value in values.items())
    text += "RESOURCE_OPP1=([name]=T3_US_NERSC [run]=3000 [pend]=2000 [state]=normal)\n"
    _private(agent.secrets, text)


def _write_env(agent: Agent) -> None:
    lines = [
        f"cd {agent.root}/current",
        f"export WMAGENT_SECRETS_LOCATION={agent.secrets}",
        f"export install={agent.root}/current/install/wmagent",
        f"export config={agent.root}/current/config/wmagent",
        *(f"export {key}={value}" for key, value in sorted(agent.environment.items())),
    ]
    (agent.secrets.parent / "env.sh").write_text("\n".join(lines) + "\n", encoding="utf-8")


def _make_database(agent: Agent, deployed: _Deployed) -> None:
    secrets = read_secrets(agent.secrets)
    request = {
        "port": int(secrets["MDB_PORT"]),
        "admin": mariadb.ADMIN,
        "admin_password": agent.lab.password(mariadb.NAME),
        "database": agent.database,
        "user": secrets["MDB_USER"],
        "password": secrets["MDB_PASS"],
    }
    _inside(agent, deployed, "database", request, 60)


def _make_config(agent: Agent, deployed: _Deployed, work_dir: Path) -> None:
    text = render_config(
        prefix=deployed.prefix,
        python=deployed.python,
        secrets=read_secrets(agent.secrets),
        database=agent.database,
        work_dir=work_dir,
        overrides=agent.overrides,
        environment=_environment(agent, deployed),
    )
    _private(deployed.config, text)
    if agent.components:
        request = {"config": str(deployed.config), "components": list(agent.components)}
        _inside(agent, deployed, "keep_components", request, 60)


def _seed(agent: Agent, deployed: _Deployed, tag: str, work_dir: Path) -> None:
    secrets = read_secrets(agent.secrets)
    release = ".".join(tag.split(".")[:3])
    request = {
        "port": int(secrets["MDB_PORT"]),
        "database": agent.database,
        "user": secrets["MDB_USER"],
        "password": secrets["MDB_PASS"],
        "agent": agent.name,
        "tag": tag,
        "build_id": hashlib.sha256(f"{release}\n".encode()).hexdigest(),
        "work_dir": str(work_dir),
        "workflows": agent.workflows,
        "priority": central.PRIORITY,
    }
    _inside(agent, deployed, "seed", request, 60)


def _inside(agent: Agent, deployed: _Deployed, verb: str, request: Mapping[str, Any], timeout: float) -> None:
    _python(agent, deployed, [str(_INSIDE), verb], json.dumps(request), timeout)


def _environment(agent: Agent, deployed: _Deployed) -> dict[str, str]:
    inherited = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "VIRTUAL_ENV"))}
    wanted = dict(agent.environment)
    return {
        **inherited,
        **wanted,
        "PATH": f"{deployed.prefix}/bin:{wanted.get('PATH', inherited.get('PATH', '/usr/bin:/bin'))}",
        "WMCORE_ROOT": str(deployed.prefix),
        "WMA_DEPLOY_DIR": str(deployed.prefix),
        "WMAGENT_SECRETS_LOCATION": str(agent.secrets),
    }


def _python(
    agent: Agent,
    deployed: _Deployed,
    arguments: Sequence[str],
    stdin: str,
    timeout: float,
) -> None:
    """Run the agent's interpreter; WMAgentError with the last line it wrote, passwords masked."""
    program = Path(arguments[0]).name
    try:
        done = subprocess.run(
            [str(deployed.python), *arguments],
            input=stdin,
            env=_environment(agent, deployed),
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
            cwd=agent.folder,
        )
    except subprocess.TimeoutExpired:
        raise WMAgentError(
            f"{program} of {agent.name} took longer than {timeout:.0f} s; look at this host's load"
        ) from None
    if done.returncode == 0:
        return
    secrets = read_secrets(agent.secrets)
    said = mask(done.stderr.strip() or done.stdout.strip(), secret_values(secrets))
    lines = [line for line in said.splitlines() if not line.startswith("<@")]
    raise WMAgentError(f"{program} of {agent.name} failed: {lines[-1] if lines else 'no reason given'}")


def _private(file: Path, text: str) -> None:
    file.unlink(missing_ok=True)
    with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as handle:
        handle.write(text)


def _link(link: Path, target: Path) -> None:
    if not link.is_symlink():
        link.symlink_to(target)
