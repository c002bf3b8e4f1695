# SPDX-License-Identifier: GPL-3.0-or-later
"""A CouchDB for each agent, as in production: given by ``COUCHDB_URL``, found on this machine, or a stand-in."""

from __future__ import annotations

import base64
import json
import os
import secrets
import shutil
import sys
import urllib.error
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from ansible_collections.dmwm.wmagent.plugins.module_utils._errors import WMAgentError

from . import processes
from .settings import Lab, answers

USUAL_PLACE = Path("/opt/couchdb/bin/couchdb")
GIVEN, FOUND, STAND_IN = "given", "found", "stand-in"

# No distribution port and no epmd: several servers with one node name then live side by side on one machine.
VM_ARGS = """\
-name couchdb@127.0.0.1
-start_epmd false
-dist_listen false
-setcookie {cookie}
-kernel inet_dist_use_interface {{127,0,0,1}}
-kernel error_logger silent
-sasl sasl_error_logger false
-kernel prevent_overlapping_partitions false
+SDio 4
+sbwt none
+sbwtdcpu none
+sbwtdio none
+Bd -noinput
-os_mon start_cpu_sup false
-os_mon start_memsup false
"""

SETTINGS = """\
[couchdb]
single_node = true
uuid = {uuid}
database_dir = {folder}/data
view_index_dir = {folder}/data
[chttpd]
bind_address = 127.0.0.1
port = {port}
[smoosh]
state_dir = {folder}/data
[log]
writer = file
file = {folder}/couch.log
level = warning
[admins]
{user} = {password}
"""


@dataclass(frozen=True)
class Couch:
    """Where one agent's CouchDB answers, and what it is (``given``, ``found`` or ``stand-in``)."""

    kind: str
    host: str
    port: int
    user: str
    password: str

    def describe(self) -> dict[str, object]:
        """What lab.json remembers of it: no password."""
        return {"kind": self.kind, "host": self.host, "port": self.port}


def choose(lab: Lab, agent: str, agents: Sequence[str], urls: str, allow_found: bool = True) -> Couch:
    """The CouchDB of one agent. ``urls``: blank separated, the first for the first agent and so on.

    Two agents never share one, since a change in it must tell which agent it belongs to.
    """
    given = urls.split()
    position = list(agents).index(agent) if agent in agents else len(given)
    if position < len(given):
        return _parse(given[position])
    kind = FOUND if allow_found and find_program() else STAND_IN
    name = service_name(agent)
    return Couch(kind, "127.0.0.1", lab.port(name), "wmagent", lab.password(name))


def service_name(agent: str) -> str:
    """Name of the service that is this agent's CouchDB."""
    return f"couchdb-{agent}"


def find_program() -> str | None:
    """A ``couchdb`` on the PATH or in its usual place."""
    found = shutil.which("couchdb")
    return found or (str(USUAL_PLACE) if os.access(USUAL_PLACE, os.X_OK) else None)


def up(lab: Lab, agent: str, couch: Couch) -> bool:
    """Start it where it does not run yet; True where anything was done. WMAgentError where it does not answer."""
    folder = lab.service(service_name(agent))
    if couch.kind == GIVEN:
        _welcome(couch)
        return False
    if processes.recorded(folder) is not None:
        return False
    lab.refuse_taken_port(service_name(agent))
    folder.mkdir(parents=True, exist_ok=True)
    running = _start_found(folder, couch) if couch.kind == FOUND else _start_stand_in(folder, couch)
    processes.wait_until(lambda: answers(couch.port) and _ready(couch), running, folder, 60)
    for database in ("_users", "_replicator"):
        if couch.kind == FOUND:
            _request(couch, "PUT", database)
    return True


def down(lab: Lab, agent: str) -> bool:
    """Stop it; True where it ran."""
    return processes.stop(lab.service(service_name(agent)))


def _start_found(folder: Path, couch: Couch) -> processes.Running:
    program = find_program()
    if program is None:
        raise WMAgentError("couchdb is not on this machine any more; remove the lab and start it again")
    default = Path(program).resolve().parent.parent / "etc" / "default.ini"
    if not default.is_file():
        raise WMAgentError(f"{program} has no {default}; set COUCHDB_URL to a CouchDB that runs")
    (folder / "data").mkdir(exist_ok=True)
    settings = folder / "local.ini"
    if not settings.exists():
        text = SETTINGS.format(
            folder=folder, port=couch.port, uuid=secrets.token_hex(16), user=couch.user, password=couch.password
        )
        _private(settings, text)
    arguments = folder / "vm.args"
    if not arguments.exists():
        _private(arguments, VM_ARGS.format(cookie=secrets.token_hex(16)))
    environment = {
        "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
        "HOME": str(folder),
        "ERL_CRASH_DUMP": str(folder / "erl_crash.dump"),
        "COUCHDB_INI_FILES": f"{default} {settings}",
        "COUCHDB_ARGS_FILE": str(arguments),
    }
    return processes.start(folder, [program], environment)


def _start_stand_in(folder: Path, couch: Couch) -> processes.Running:
    account = folder / "account.json"
    _private(account, json.dumps({"user": couch.user, "password": couch.password}))
    argv = [sys.executable, "-m", "wmagent_lab.couch_standin", str(couch.port), str(account), str(folder / "data.json")]
    environment = {"PATH": "/usr/bin:/bin", "PYTHONPATH": str(Path(__file__).parent.parent)}
    return processes.start(folder, argv, environment)


def _private(file: Path, text: str) -> None:
    with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as handle:
        handle.write(text)


def _parse(url: str) -> Couch:
    parts = urlsplit(url)
    if parts.scheme != "http" or not parts.hostname or not parts.username or parts.password is None:
        raise WMAgentError("COUCHDB_URL must look like http://user:password@host:port, with an admin's credentials")
    return Couch(GIVEN, parts.hostname, parts.port or 5984, unquote(parts.username), unquote(parts.password))


def _ready(couch: Couch) -> bool:
    try:
        _welcome(couch)
    except WMAgentError:
        return False
    return True


def _welcome(couch: Couch) -> None:
    status = _request(couch, "GET", "_all_dbs")
    if status == 401:
        raise WMAgentError(f"CouchDB at {couch.host}:{couch.port} refuses the credentials; correct COUCHDB_URL")
    if status != 200:
        raise WMAgentError(f"CouchDB at {couch.host}:{couch.port} does not answer; start it or unset COUCHDB_URL")


def _request(couch: Couch, method: str, path: str) -> int:
    """HTTP status, 0 where there is no answer within 10 s."""
    token = base64.b64encode(f"{couch.user}:{couch.password}".encode()).decode()
    request = urllib.request.Request(
        f"http://{couch.host}:{couch.port}/{path}", method=method, headers={"Authorization": f"Basic {token}"}
    )
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=10) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return 0
