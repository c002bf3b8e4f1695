# SPDX-License-Identifier: GPL-3.0-or-later
"""The controller's end of a long module, see ``module_utils/_long_task.py``: asks, shows progress, returns the result.

Everything else is Ansible's own: the module is started as any other, and its result, read from the agent's file, is
taken as if it had come at once.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import signal
import time
from collections.abc import Mapping
from typing import Any

from ansible.errors import AnsibleConnectionFailure, AnsibleError
from ansible.plugins.action.normal import ActionModule as NormalAction
from ansible_collections.dmwm.wmagent.plugins.module_utils._long_task import ASKED_FOR, HANDED_OVER, LOST
from ansible_collections.dmwm.wmagent.plugins.module_utils._progress import parse
from ansible_collections.dmwm.wmagent.plugins.plugin_utils import live

_PATIENCE = 1.5
"""Seconds after which a module hands over: less than that needs no line on a screen."""
_SHORTEST, _LONGEST, _SHARE = 0.2, 5.0, 0.05
"""Seconds between two questions, and the part of the time so far that they may be apart."""
_GRACE = 20
"""Seconds for a module that has to end until it is killed, which each of them survives."""

# A process that ended may be kept as a zombie where nobody waits for it, as in a container.
_ALIVE = "grep -qs '^State:[[:space:]]*[^[:space:]ZX]' /proc/{process}/status"
_ASK = """cd {folder} 2>/dev/null || {{ echo gone; exit 0; }}; : > alive
if {alive}; then echo working; cat progress 2>/dev/null; else echo ended; cat result; cat errors >&2; fi"""
_STOP = "cd {folder} && : > stop"
_END = """cd {folder} || exit 0; : > stop; n=0
while {alive} && [ $n -lt {seconds} ]; do sleep 1; n=$((n + 1)); done
if {alive}; then kill -KILL -- -{process}; fi; rm -rf {folder}"""

_ENDS = (signal.SIGTERM, signal.SIGINT)
"""Signals by which Ansible ends a worker."""


class _InterruptedError(BaseException):
    """Ansible ends this worker."""


class LongTaskAction(NormalAction):
    """Runs the module of the same name and shows how far it is.

    A play's ``timeout`` waits until the module has ended, at most ``_GRACE`` seconds; an interruption of the play asks
    it to end and does not wait; a controller that is gone is noticed on the agent.
    """

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Entry point."""
        self._agent = str((task_vars or {}).get("inventory_hostname", "localhost"))
        result: dict[str, Any] = super().run(tmp, task_vars)
        return result

    def cleanup(self, force: bool = False) -> None:
        """Ansible's own, whose failure would hide why there is no connection."""
        with contextlib.suppress(AnsibleConnectionFailure):
            super().cleanup(force)

    def _compute_environment_string(self, raw_environment_out: dict[str, Any] | None = None) -> str:
        text = str(super()._compute_environment_string(raw_environment_out))
        if self._task.async_val:
            return text  # Ansible's own way to let it work alone
        return f"{text} {self._connection._shell.env_prefix(**{ASKED_FOR: str(_PATIENCE)})}".strip()

    def _low_level_execute_command(self, cmd: str, **options: Any) -> dict[str, Any]:
        answer: dict[str, Any] = super()._low_level_execute_command(cmd, **options)
        task = _handed_over(answer)
        if task is None:
            return answer
        handlers = {number: signal.signal(number, _interrupt) for number in _ENDS}
        try:
            with live.task(self._agent) as tell:
                return self._watch(task, tell)
        except _InterruptedError:
            self._ask(_STOP.format(**task))
            _restore(handlers)
            os.kill(os.getpid(), signal.SIGTERM)  # what Ansible does at its end
            raise
        except AnsibleError:
            raise  # nobody is there to be asked, and the agent ends it by itself
        except BaseException:
            self._ask(_END.format(**task, seconds=_GRACE))
            raise
        finally:
            _restore(handlers)

    def _watch(self, task: Mapping[str, Any], tell: Any) -> dict[str, Any]:
        """The module's own answer, once it has ended. Raises AnsibleError where it cannot be had."""
        began = heard = time.monotonic()
        while True:
            time.sleep(min(_LONGEST, max(_SHORTEST, (time.monotonic() - began) * _SHARE)))
            answer = self._ask(_ASK.format(**task))
            word, _, rest = str(answer.get("stdout", "")).partition("\n")
            if word == "ended" and rest.strip():
                self._ask(f"rm -rf {task['folder']}")
                return {**answer, "stdout": rest, "stdout_lines": rest.splitlines()}
            if word in ("ended", "gone"):
                self._ask(f"rm -rf {task['folder']}")
                raise AnsibleError(
                    f"{self._task.action} ended on {self._agent} without a result; was it killed, or the host "
                    "restarted? Run it again, it goes on where it was"
                )
            if word == "working":
                heard = time.monotonic()
                if progress := parse(rest):
                    tell(progress)
            elif time.monotonic() - heard > LOST:
                raise AnsibleConnectionFailure(
                    f"no connection for {LOST:.0f} s while {self._task.action} was at work; it ends between two steps. "
                    "Run it again, it goes on where it was"
                )

    def _ask(self, command: str) -> dict[str, Any]:
        """A command's answer; empty where there is no connection now."""
        try:
            answer: dict[str, Any] = super()._low_level_execute_command(command)
        except AnsibleConnectionFailure:
            return {}
        return answer


def _handed_over(answer: Mapping[str, Any]) -> dict[str, Any] | None:
    """What the commands need to know of a module that goes on by itself; None for any other answer. Pure."""
    found = re.search(rf'^\{{"{HANDED_OVER}": .*\}}$', str(answer.get("stdout", "")), re.MULTILINE)
    if not found:
        return None
    told = json.loads(found[0])[HANDED_OVER]
    process = int(told["process"])
    return {"folder": shlex.quote(str(told["folder"])), "process": process, "alive": _ALIVE.format(process=process)}


def _interrupt(*_: object) -> None:
    # Ansible sends a second signal right after the first, by which the command that tells the agent would end as well.
    for number in _ENDS:
        signal.signal(number, signal.SIG_IGN)
    raise _InterruptedError


def _restore(handlers: Mapping[signal.Signals, Any]) -> None:
    for number, handler in handlers.items():
        signal.signal(number, handler)
