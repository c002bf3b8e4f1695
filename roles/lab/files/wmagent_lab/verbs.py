# SPDX-License-Identifier: GPL-3.0-or-later
"""What the role asks for: each verb takes plain data, brings the lab to a state and tells whether it had to."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ansible_collections.dmwm.wmagent.plugins.module_utils._errors import WMAgentError

from . import agent as agents
from . import processes, services
from .agent import Agent
from .settings import Lab
from .software import Source

Request = dict[str, Any]


def run(verb: str, request: Request) -> dict[str, Any]:
    """Do one verb. Raises WMAgentError."""
    if verb not in _VERBS:
        raise WMAgentError(f"no verb {verb}; there are: {', '.join(_VERBS)}")
    shared = request.get("software")
    lab = Lab(Path(request["lab"]).resolve(), Path(shared).resolve() if shared else None)
    if request.get("check"):
        return {"changed": _would_change(verb, lab, request)}
    return _VERBS[verb](lab, request)


def _would_change(verb: str, lab: Lab, request: Request) -> bool:
    """Whether the verb would do anything: by what stands and runs now; changes nothing."""
    runs = bool(processes.under(lab.agents / request["agent"])) if "agent" in request else False
    stands = {
        "services-up": lambda: not services.all_up(lab),
        "agent-up": lambda: not runs,
        "agent-stop": lambda: runs,
        "services-down": lambda: services.any_up(lab),
        "agent-remove": lambda: (lab.agents / request["agent"]).exists(),
        "remove": lambda: lab.root.exists(),
    }
    return stands[verb]()


def _services_up(lab: Lab, request: Request) -> dict[str, Any]:
    return {"changed": services.up(lab)}


def _agent_up(lab: Lab, request: Request) -> dict[str, Any]:
    agent = _agent(lab, request)
    couch, changed = services.couch_up(
        lab, agent.name, request["agents"], os.environ.get("COUCHDB_URL", ""), request.get("couchdb", "auto")
    )
    changed = agents.up(agent, _source(request), couch) or changed
    changed = services.work_up(lab, agent) or changed
    return {"changed": changed, "couchdb": couch.describe(), "processes": len(processes.under(agent.folder))}


def _agent_stop(lab: Lab, request: Request) -> dict[str, Any]:
    return {"changed": agents.stop(_agent(lab, request))}


def _services_down(lab: Lab, request: Request) -> dict[str, Any]:
    return {"changed": services.down(lab)}


def _agent_remove(lab: Lab, request: Request) -> dict[str, Any]:
    agent = _agent(lab, request)
    stopped = agents.stop(agent)
    return {"changed": services.remove_agent(lab, agent.name) or stopped}


def _remove(lab: Lab, request: Request) -> dict[str, Any]:
    return {"changed": services.remove(lab)}


def _source(request: Request) -> Source:
    return Source(
        image=request.get("image", ""),
        repository=request.get("repository", ""),
        requirements=tuple(request.get("requirements", ())),
        python=request.get("python", "/usr/bin/python3.11"),
    )


def _agent(lab: Lab, request: Request) -> Agent:
    return Agent(
        lab=lab,
        name=request["agent"],
        root=Path(request["root"]),
        secrets=Path(request["secrets"]),
        database=request["database"],
        environment=request.get("environment", {}),
        overrides=request.get("overrides", {}),
        components=tuple(request.get("components", ())),
        start=request.get("start", "upstream"),
        hand_patch=bool(request.get("hand_patch", False)),
        workflows=int(request.get("workflows", 3)),
        work_seconds=float(request.get("work_seconds", 0)),
    )


_VERBS: dict[str, Callable[[Lab, Request], dict[str, Any]]] = {
    "services-up": _services_up,
    "agent-up": _agent_up,
    "agent-stop": _agent_stop,
    "services-down": _services_down,
    "agent-remove": _agent_remove,
    "remove": _remove,
}
