# SPDX-License-Identifier: GPL-3.0-or-later
"""Action plugin: keep what agents told, and report on it. Runs on the controller only."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ansible.plugins.action import ActionBase
from ansible_collections.dmwm.wmagent.plugins.module_utils._duration import seconds_of
from ansible_collections.dmwm.wmagent.plugins.module_utils._errors import WMAgentError
from ansible_collections.dmwm.wmagent.plugins.module_utils._history.build import build_report, known_of, summary_of
from ansible_collections.dmwm.wmagent.plugins.module_utils._history.store import History
from ansible_collections.dmwm.wmagent.plugins.module_utils._history.told import Told, read_results

DAY = 86400.0
FACT = "wmagent_collected"
"""The variable of an agent that holds what was collected from it."""

ARGUMENTS: dict[str, Any] = {
    "state": {"type": "str", "choices": ["recorded", "read", "reported"], "required": True},
    "path": {"type": "path", "required": True},
    "agent": {"type": "str"},
    "results": {"type": "dict"},
    "time": {"type": "float"},
    "agents": {"type": "list", "elements": "str"},
    "kinds": {"type": "list", "elements": "str", "default": []},
    "days": {"type": "float", "default": 400},
    "threshold": {"type": "float", "default": 85},
    "damaged": {"type": "str", "choices": ["fail", "aside"], "default": "fail"},
    "timeout": {"type": "str", "default": "30s"},
}
REQUIRED = [
    ("state", "recorded", ("agent", "results")),
    ("state", "read", ("agents",)),
    ("state", "reported", ("agents",)),
]


class ActionModule(ActionBase):
    """See the module of the same name for the documentation."""

    _requires_connection = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Entry point."""
        result = super().run(tmp, task_vars)
        _spec, params = self.validate_argument_spec(argument_spec=ARGUMENTS, required_if=REQUIRED)
        act = {"recorded": self._record, "read": self._read, "reported": self._report}[params["state"]]
        try:
            _check(params)
            history = History(Path(params["path"]).expanduser(), seconds_of(params["timeout"], "timeout"))
            result.update(act(history, params, task_vars or {}))
        except WMAgentError as error:
            result.update(failed=True, msg=str(error))
        return result

    def _record(self, history: History, params: Mapping[str, Any], task_vars: Mapping[str, Any]) -> dict[str, Any]:
        agent, now, keep = params["agent"], time.time(), params["days"] * DAY
        told = read_results(agent, params["results"], params["time"] or now)
        if self._task.check_mode:
            added, pruned, aside = history.missing(told.measures, told.events, keep, now), 0, ""
        else:
            aside = self._aside(history, params, now)
            recorded = history.record(told.measures, told.events, keep, now)
            added, pruned = recorded.added, recorded.pruned
        verb = "would be recorded" if self._task.check_mode else "recorded"
        summary = f"{agent}: {added} measures and events {verb}, {pruned} forgotten"
        return {
            "changed": bool(added or pruned),
            "added": added,
            "pruned": pruned,
            "gaps": told.gaps,
            "aside": aside,
            "summary": "; ".join([summary, *told.gaps]),
            **({"diff": {"before": "", "after": f"{summary}\n"}} if added or pruned else {}),
        }

    def _aside(self, history: History, params: Mapping[str, Any], now: float) -> str:
        aside = history.set_aside(now) if params["damaged"] == "aside" else None
        if aside is None:
            return ""
        self._display.warning(f"history {history.file} was damaged; it is now {aside}, and a new one is begun")
        return str(aside)

    def _read(self, history: History, params: Mapping[str, Any], task_vars: Mapping[str, Any]) -> dict[str, Any]:
        since, kinds = time.time() - params["days"] * DAY, params["kinds"]
        series, events = history.series(params["agents"], since), history.events(params["agents"], since)
        return {
            "changed": False,
            "series": {
                agent: [
                    {"kind": kind, "name": name, "quantity": quantity, "points": points}
                    for (kind, name, quantity), points in found.items()
                    if not kinds or kind in kinds
                ]
                for agent, found in series.items()
            },
            "events": {
                agent: [
                    {"time": event.time, "kind": event.kind, "details": event.details}
                    for event in found
                    if not kinds or event.kind in kinds
                ]
                for agent, found in events.items()
            },
        }

    def _report(self, history: History, params: Mapping[str, Any], task_vars: Mapping[str, Any]) -> dict[str, Any]:
        now = time.time()
        since, agents = now - params["days"] * DAY, params["agents"]
        trouble = ""
        try:
            series, events = history.series(agents, since), history.events(agents, since)
        except WMAgentError as error:
            # What was found out now is worth a report all the same.
            series, events, trouble = {}, {}, f"history: {error}"
            self._display.warning(str(error))
        known = []
        for agent in agents:
            collected = task_vars["hostvars"][agent].get(FACT) or {}
            told = _told(agent, collected, trouble, now)
            reached = bool(collected.get("reached"))
            known.append(known_of(agent, series.get(agent, {}), events.get(agent, []), told, reached))
        report = build_report(known, params["threshold"] / 100, now)
        return {"changed": False, "report": report, "summary": summary_of(report)}


def _check(params: Mapping[str, Any]) -> None:
    if not 0 < params["threshold"] < 100:
        raise WMAgentError(f"threshold is {params['threshold']:g} %; it must be between 0 and 100")
    if not params["days"] > 0:
        raise WMAgentError(f"days is {params['days']:g}; it must be more than 0")


def _told(agent: str, collected: Mapping[str, Any], trouble: str, now: float) -> Told:
    told = read_results(agent, collected.get("results") or {}, float(collected.get("time") or now))
    reason = "" if collected.get("reached") else str(collected.get("reason") or "nothing was collected from it")
    gaps = [*(["not reached: " + reason] if reason else []), *told.gaps, *([trouble] if trouble else [])]
    return Told(told.measures, told.events, gaps)
