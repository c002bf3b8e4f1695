# SPDX-License-Identifier: GPL-3.0-or-later
"""Action plugin: put an agent into drain mode when its turn comes, and watch until it is drained.

On the controller, since it waits for days, shows progress, and knows what the other agents of the team do.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleConnectionFailure
from ansible.plugins.action import ActionBase
from ansible_collections.dmwm.wmagent.plugins.module_utils._drain import turns, watching
from ansible_collections.dmwm.wmagent.plugins.module_utils._drain.memory import Memory, one_at_a_time
from ansible_collections.dmwm.wmagent.plugins.module_utils._drain.verdict import UNDECIDED
from ansible_collections.dmwm.wmagent.plugins.module_utils._duration import seconds_of
from ansible_collections.dmwm.wmagent.plugins.module_utils._errors import WMAgentError
from ansible_collections.dmwm.wmagent.plugins.plugin_utils import live

ARGUMENTS: dict[str, Any] = {
    "connection": {"type": "dict", "required": True},
    "database_name": {"type": "str", "default": "wmagent"},
    "condor_q": {"type": "str", "default": "condor_q"},
    "waivers": {"type": "list", "elements": "dict", "default": []},
    "stuck_after": {"type": "str", "default": "24h"},
    "speed_drain": {"type": "dict", "default": {}},
    "team": {"type": "str", "required": True},
    "agents": {"type": "list", "elements": "str", "required": True},
    "min_active": {"type": "int", "default": 1},
    "max_runtime": {"type": "str", "default": "14d"},
    "shortest_pause": {"type": "str", "default": "1m"},
    "longest_pause": {"type": "str", "default": "15m"},
    "stop_file": {"type": "path"},
    "state_dir": {"type": "path", "required": True},
}
_LOOKS_AT_STOP_FILE = 2.0
_SHOWN_AGAIN = 1800.0
DEFAULT_TEAM = "production"
WAITING, STOPPED, TOO_LONG = "waiting", "stopped", "not finished"


class ModuleFailedError(WMAgentError):
    """A module on the agent failed, or the agent did not answer."""


class ActionModule(ActionBase):
    """See the module of the same name for the documentation."""

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Entry point."""
        result = super().run(tmp, task_vars)
        _spec, params = self.validate_argument_spec(argument_spec=ARGUMENTS)
        self._vars = task_vars or {}
        self._params = params
        self._changed = False
        self._shown: tuple[Any, float] = (None, 0.0)
        try:
            self._name = self._vars["inventory_hostname"]
            self._times = {
                name: seconds_of(params[name], f"wmagent_drain_{name}")
                for name in ("stuck_after", "max_runtime", "shortest_pause", "longest_pause")
            }
            self._members = self._team_members()
            self._check()
            fleet = ",".join(self._vars.get("ansible_inventory_sources") or [])
            self._memory = Memory.of(Path(params["state_dir"]).expanduser(), fleet, self._name)
            result.update(self._look_only() if self._task.check_mode else self._watch())
        except WMAgentError as error:
            result.update(failed=True, msg=str(error))
        return {**result, "changed": self._changed}

    def _check(self) -> None:
        unknown = sorted(set(self._params["speed_drain"]) - set(watching.SPEED_PARTS))
        if unknown:
            raise WMAgentError(
                f"wmagent_speed_drain has {', '.join(unknown)}; there are: {', '.join(watching.SPEED_PARTS)}"
            )
        turns.check_minimum(self._params["min_active"], self._params["team"], list(self._members))

    def _team_members(self) -> dict[str, str]:
        """Agents of the same team, this one among them: name in the inventory -> full host name."""
        members = {self._name: str(self._params["connection"].get("agent") or self._name)}
        for name in self._params["agents"]:
            variables = self._vars["hostvars"][name]
            if name != self._name and variables.get("wmagent_team", DEFAULT_TEAM) == self._params["team"]:
                members[name] = str(variables.get("wmagent_fqdn") or name)
        return members

    def _look_only(self) -> dict[str, Any]:
        """Check mode: what would be done now, and where the agent stands."""
        reading = self._read()
        waits = self._waits()
        flags = self._set_drain()
        self._changed = bool(flags["changed"]) and not waits
        plan = f"would wait: {waits}" if waits else str(flags["summary"])
        return self._told(WAITING if waits else str(reading["verdict"]), reading, plan)

    def _watch(self) -> dict[str, Any]:
        with live.task(self._name) as self._tell:
            return self._watch_on()

    def _watch_on(self) -> dict[str, Any]:
        end = time.monotonic() + self._times["max_runtime"]
        unreadable_since: float | None = None
        pause, reading, begun = self._times["shortest_pause"], None, False
        while True:
            try:
                waits = "" if begun else self._begin()
                begun = not waits
                if begun:
                    before, reading = reading, self._read()
                    self._memory.readings.append(reading)
                    unreadable_since = unreadable_since or time.time() if reading["verdict"] == UNDECIDED else None
                    self._speed_up(reading)
                    self._memory.save()
                    self._show_progress([*self._memory.readings[:-1], reading])
                    pause = watching.pause(
                        reading, before, pause, self._times["shortest_pause"], self._times["longest_pause"]
                    )
                else:
                    self._show(f"waits for its turn: {waits}")
            except ModuleFailedError as error:
                if not begun:
                    raise
                unreadable_since = unreadable_since or time.time()
                self._show(f"no reading: {error}")
            over = watching.ends(self._memory.readings, unreadable_since, time.time(), self._times["stuck_after"])
            if over:
                return self._told(over, reading)
            if why := self._sleep(pause, end):
                return self._told(WAITING if waits else why, reading, waits)

    def _begin(self) -> str:
        """Why it is not this agent's turn; '' once it is in drain mode."""
        with one_at_a_time(self._memory.file.parent):
            if waits := self._waits():
                return waits
            flags = self._set_drain()
        now = time.time()
        if "UserDrainMode" in [change["field"] for change in flags["changes"]]:
            # What is remembered is of an earlier drain: the agent has taken work since.
            self._memory = Memory(self._memory.file)
        self._changed = self._changed or bool(flags["changed"])
        self._memory.began = self._memory.began or now
        if flags["changed"]:
            self._memory.events.append({"time": now, "what": str(flags["summary"])})
        self._memory.save()
        return ""

    def _waits(self) -> str:
        members, params = self._members, self._params
        team = self._module("drain_team_info", {**params["connection"], "agents": list(members.values())})
        active = {name: team["active"][host] for name, host in members.items()}
        if active[self._name] is None:
            raise ModuleFailedError(team["problems"][members[self._name]])
        if not active[self._name]:
            return ""
        return turns.waits_for(self._name, params["team"], active, params["min_active"])

    def _set_drain(self) -> dict[str, Any]:
        speed = {part: {"threshold": threshold} for part, threshold in self._params["speed_drain"].items()}
        arguments = {**self._params["connection"], "state": "draining", **({"speed_drain": speed} if speed else {})}
        return self._module("drain", arguments)

    def _read(self) -> dict[str, Any]:
        params = self._params
        return self._module(
            "drain_info",
            {
                **params["connection"],
                "database_name": params["database_name"],
                "condor_q": params["condor_q"],
                "waivers": params["waivers"],
                "stuck_after": params["stuck_after"],
                "before": self._memory.readings,
            },
        )

    def _speed_up(self, reading: Mapping[str, Any]) -> None:
        due = watching.speed_due(reading, self._params["speed_drain"], reading["flags"])
        if due:
            done = self._module("drain", {**self._params["connection"], "speed_drain": due})
            self._memory.events.append({"time": time.time(), "what": f"speed drain: {', '.join(due)}"})
            self._show(str(done["summary"]))

    def _module(self, name: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
        try:
            answer: dict[str, Any] = self._execute_module(
                module_name=f"dmwm.wmagent.{name}", module_args=dict(arguments), task_vars=self._vars
            )
        except AnsibleConnectionFailure as error:
            raise ModuleFailedError(f"unreachable: {' '.join(str(error).split())}") from None
        if answer.get("failed") or answer.get("unreachable"):
            raise ModuleFailedError(str(answer.get("msg", "failed without a reason")).splitlines()[0])
        return answer

    def _show_progress(self, readings: Sequence[Mapping[str, Any]]) -> None:
        """The live line each time; a line that stays where something changed, and now and then."""
        reading = readings[-1]
        self._tell(watching.progress_of(readings))
        news = (reading["verdict"], reading["bottleneck"])
        if news != self._shown[0] or time.monotonic() - self._shown[1] >= _SHOWN_AGAIN:
            self._shown = (news, time.monotonic())
            self._show(watching.line(readings))

    def _show(self, text: str) -> None:
        self._display.display(f"{time.strftime('%H:%M:%S')} {self._name}  {text}")

    def _sleep(self, seconds: float, end: float) -> str:
        """Wait; why the watch has to end meanwhile, '' where it goes on."""
        stop = self._params["stop_file"]
        wake = time.monotonic() + seconds
        while (left := min(wake, end) - time.monotonic()) > 0:
            if stop and Path(stop).expanduser().exists():
                return STOPPED
            time.sleep(min(left, _LOOKS_AT_STOP_FILE))
        return TOO_LONG if time.monotonic() >= end else ""

    def _told(self, state: str, reading: Mapping[str, Any] | None, reason: str = "") -> dict[str, Any]:
        readings = self._memory.readings
        waived = list((reading or {}).get("waived", []))
        told = f"{state}, waived: {','.join(sorted(str(one['signal']) for one in waived))}"
        news = told != self._memory.told
        if self._memory.began and not self._task.check_mode:
            self._memory.told = told
            self._memory.save()
        return {
            "state": state,
            "news": news,
            "reason": reason or str((reading or {}).get("reason", "")),
            "blockers": list((reading or {}).get("blockers", [])),
            "waived": waived,
            "bottleneck": str((reading or {}).get("bottleneck", "")),
            "requests": dict((reading or {}).get("requests", {})),
            "began": self._memory.began or None,
            "seconds": watching.seconds_taken(self._memory.began, readings, time.time()),
            "stages": watching.durations(readings) if readings else [],
            "events": self._memory.events,
        }
