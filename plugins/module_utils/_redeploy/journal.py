# SPDX-License-Identifier: GPL-3.0-or-later
"""How far a redeployment has come, on the agent itself, so that the same command goes on after an interruption.

``.deploy/redeploy.json``. Deciding what comes next is pure; reading and writing is at the end.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from ansible_collections.dmwm.wmagent.plugins.module_utils._agent.layout import AgentLayout
from ansible_collections.dmwm.wmagent.plugins.module_utils._errors import WMAgentError
from ansible_collections.dmwm.wmagent.plugins.module_utils._release.durable import sync_folder, write_file

STEPS = (
    "begun",
    "stopped",
    "saved",
    "wiping",
    "wiped",
    "creating",
    "created",
    "pushed",
    "filling",
    "filled",
    "started",
    "recorded",
)
"""``wiping``, ``creating`` and ``filling`` are noted before they begin, all others once they are over.

Until ``wiping`` nothing is lost by giving up, and everything is looked at anew by the next run. From there on there is
only the way ahead, or back by hand from what was saved.
"""

_NO_WAY_BACK = STEPS.index("wiping")


@dataclass(frozen=True)
class Redeployment:
    """One redeployment.

    agent:  name that a wipe has to be confirmed with
    origin: folder name of the release that was current before; target: of the one to come
    folder: where the databases are saved
    step:   one of STEPS
    begun:  UNIX time, seconds
    tables: table -> rows, as saved; None before that
    documents: CouchDB database -> what was saved of it (documents.Saved); None before that
    details: step -> figures, for the ledger
    """

    id: str
    owner: str
    agent: str
    origin: str
    target: str
    folder: str
    step: str
    begun: float
    tables: dict[str, int] | None = None
    documents: dict[str, dict[str, Any]] | None = None
    details: dict[str, Any] = field(default_factory=dict)

    @property
    def destroys(self) -> bool:
        """Whether something may be gone already."""
        return STEPS.index(self.step) >= _NO_WAY_BACK

    def reached(self, step: str) -> bool:
        """Whether it has come to a step or further."""
        return STEPS.index(self.step) >= STEPS.index(step)

    def at(self, step: str, **changes: Any) -> Redeployment:
        """The same one at another step; figures under ``details`` are added to those that are there."""
        if step not in STEPS:
            raise ValueError(step)
        details = {**self.details, **changes.pop("details", {})}
        return replace(self, step=step, details=details, **changes)


def begin(found: Redeployment | None, wanted: Redeployment) -> Redeployment:
    """What a run is to go on with. Pure.

    found:  what an interrupted run has left, None for nothing
    wanted: what this run would begin

    Raises WMAgentError where the two do not go together.
    """
    if found is None or not found.destroys:
        return wanted
    if found.agent != wanted.agent:
        raise WMAgentError(
            f"a redeployment of {found.agent} is under way here, and this agent is called {wanted.agent}; "
            "run it again under the name that it was begun with"
        )
    same = replace(found, id=wanted.id, owner=wanted.owner)
    if found.target == wanted.target:
        return same
    if found.reached("started"):
        raise WMAgentError(
            f"the redeployment to {found.target} has started its components already; finish it with that image, "
            "then go on to another one"
        )
    # Its tables hold nothing but what a release fills in by itself, so they are made anew.
    return replace(same, target=wanted.target, step=found.step if not found.reached("creating") else "creating")


def demand(found: Redeployment | None, *steps: str) -> Redeployment:
    """The redeployment under way, if it is at one of these steps. Raises WMAgentError. Pure."""
    if found is None:
        raise WMAgentError("no redeployment is under way on this agent; use the playbook dmwm.wmagent.redeploy")
    if found.step not in steps:
        raise WMAgentError(
            f"the redeployment is at step {found.step}, and this belongs to {' or '.join(steps)}; "
            "use the playbook dmwm.wmagent.redeploy, which keeps the order"
        )
    return found


def confirmed(confirm: str, agent: str) -> None:
    """Raise WMAgentError unless a person has named this agent, alone or among others between commas. Pure."""
    if agent not in [name.strip() for name in confirm.split(",")]:
        said = f"is {confirm!r}" if confirm else "is not given"
        raise WMAgentError(
            f"wmagent_confirm_wipe {said}; its databases will be wiped: say so with -e wmagent_confirm_wipe={agent}"
        )


def file_of(layout: AgentLayout) -> Path:
    """Where it stands."""
    return layout.deploy / "redeploy.json"


def read(layout: AgentLayout) -> Redeployment | None:
    """The redeployment under way, None for none. Raises WMAgentError where nobody can tell."""
    file = file_of(layout)
    try:
        found = Redeployment(**json.loads(file.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError) as error:
        raise WMAgentError(
            f"{file} cannot be read ({error}); look at the agent's databases and at what was saved, then remove it"
        ) from None
    if found.step not in STEPS:
        raise WMAgentError(f"{file} tells of a step {found.step!r}; go on with the version that wrote it")
    return found


def write(layout: AgentLayout, redeployment: Redeployment) -> None:
    """Replace it; on disk before this returns. Raises WMAgentError."""
    try:
        layout.deploy.mkdir(parents=True, exist_ok=True)
        write_file(file_of(layout), json.dumps(asdict(redeployment)).encode(), 0o600)
    except OSError as error:
        raise WMAgentError(f"{file_of(layout)} cannot be written ({error.strerror}); is its disk full?") from None


def clear(layout: AgentLayout) -> bool:
    """Remove it; True where there was one."""
    try:
        file_of(layout).unlink()
    except FileNotFoundError:
        return False
    sync_folder(layout.deploy)
    return True


def summary(found: Redeployment | None) -> Mapping[str, Any]:
    """Plain data for results."""
    if found is None:
        return {"step": "", "destroys": False}
    told = ("id", "agent", "origin", "target", "folder", "step", "begun")
    return {**{name: getattr(found, name) for name in told}, "destroys": found.destroys}
