# SPDX-License-Identifier: GPL-3.0-or-later
"""Callback: what happens on a fleet, one line for each agent and step."""

from __future__ import annotations

DOCUMENTATION = r"""
name: rollout
type: stdout
short_description: One line for each agent and step
version_added: 0.1.0
description:
  - Shows a task once something happens in it, with a line for each agent, the time it took and what went wrong.
  - Steps that change nothing and were not asked for are left out; C(-v) shows them.
  - Below that, a terminal shows live which step runs and how far each agent's long task is. Elsewhere how far it is
    comes as a line when that changes and every half minute.
  - Lists of lines from M(ansible.builtin.debug) are printed as they are, so tables stay tables.
author:
  - dmwm.wmagent contributors (@dmwm)
extends_documentation_fragment:
  - ansible.builtin.default_callback
"""

import time
from typing import Any

from ansible import constants as C  # noqa: N812 - Ansible's own spelling in every callback
from ansible.plugins.callback.default import CallbackModule as DefaultCallback
from ansible_collections.dmwm.wmagent.plugins.plugin_utils.live_view import LiveView

ASKS = ("pause", "ansible.builtin.pause", "ansible.legacy.pause")
COLOURS = {"ok": "COLOR_OK", "changed": "COLOR_CHANGED", "failed": "COLOR_ERROR", "unreachable": "COLOR_UNREACHABLE"}


class CallbackModule(DefaultCallback):
    """Prints a step when its first result comes that is worth a line."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "stdout"
    CALLBACK_NAME = "dmwm.wmagent.rollout"

    def __init__(self) -> None:
        super().__init__()
        self._step = ""
        self._step_shown = True
        self._width = 8
        self._begun: dict[tuple[str, str], float] = {}
        self._live = LiveView(self._display, self._show_step)

    def v2_playbook_on_start(self, playbook: Any) -> None:
        """The plays name themselves; the file's name says nothing more."""
        self._live.start()

    def v2_playbook_on_play_start(self, play: Any) -> None:
        """Show a play as a heading."""
        self._play = play
        name = play.get_name().strip()
        manager = play._variable_manager
        hosts = manager.get_vars(play=play).get("ansible_play_batch", []) if manager else []
        self._width = max([self._width, *(len(host) for host in hosts)])
        suffix = f" ({', '.join(hosts)})" if play.serial and play.serial != [] and hosts else ""
        self._display.display(f"\n== {name}{suffix}", color=C.COLOR_HIGHLIGHT)

    def v2_playbook_on_task_start(self, task: Any, is_conditional: bool) -> None:
        """Remember the step; it is shown with its first result."""
        del is_conditional
        self._step, self._step_shown = task.get_name().strip(), False
        # A question would be drawn over.
        self._live.quiet = task.action in ASKS
        self._live.step(self._step)
        if self._display.verbosity:
            self._show_step()

    def v2_playbook_on_handler_task_start(self, task: Any) -> None:
        """A handler is a step as any other."""
        self.v2_playbook_on_task_start(task, False)

    def v2_runner_on_start(self, host: Any, task: Any) -> None:
        """For the seconds in the line, and for how many agents are at work."""
        self._live.begun(host.get_name())
        self._begun[host.get_name(), task._uuid] = time.monotonic()

    def v2_runner_on_ok(self, result: Any) -> None:
        """One line where something changed, raw text for debug."""
        self._live.done(result._host.get_name())
        data = result._result
        if result._task.action in C._ACTION_DEBUG:
            self._raw(data.get("msg"))
            return
        self._warnings(data)
        word = "changed" if data.get("changed") else "ok"
        if word == "changed" or self._display.verbosity or data.get("message"):
            self._line(result, word, str(data.get("message") or ""))
        if result._task.diff or self._display.verbosity > 1:
            self.v2_on_file_diff(result)

    def v2_runner_on_failed(self, result: Any, ignore_errors: bool = False) -> None:
        """One line with what went wrong, in full with ``-v``."""
        self._live.done(result._host.get_name())
        data = result._result
        if ignore_errors and not self._display.verbosity:
            return
        message = str(data.get("msg") or data.get("stderr") or "no reason given").strip()
        if not self._display.verbosity and data.get("exception") and "Traceback" in message:
            message = message.splitlines()[-1]
        self._line(result, "failed", message)
        if self._display.verbosity:
            self._display.display(self._dump_results(data, indent=2), color=C.COLOR_ERROR)

    def v2_runner_on_unreachable(self, result: Any) -> None:
        """The connection's own words, on one line."""
        self._live.done(result._host.get_name())
        message = " ".join(str(result._result.get("msg", "")).split())
        self._line(result, "unreachable", message)

    def v2_runner_on_skipped(self, result: Any) -> None:
        """Not shown: a step that is not due is not news."""
        self._live.done(result._host.get_name())
        if self._display.verbosity > 1:
            self._line(result, "skipped", "")

    def v2_runner_item_on_ok(self, result: Any) -> None:
        """An item as a result of its own, only where asked for."""
        if self._display.verbosity:
            self.v2_runner_on_ok(result)

    def v2_runner_item_on_failed(self, result: Any) -> None:
        """An item that failed is news."""
        self.v2_runner_on_failed(result)

    def v2_runner_item_on_skipped(self, result: Any) -> None:
        """Not shown."""

    def v2_playbook_on_include(self, included_file: Any) -> None:
        """Not shown: includes are how roles are written, not what happens."""

    def v2_playbook_on_no_hosts_matched(self) -> None:
        """A typo in the inventory or in --limit."""
        self._display.display("no agent matches; check the inventory, wmagent_hosts and --limit", color=C.COLOR_ERROR)

    def v2_playbook_on_no_hosts_remaining(self) -> None:
        """Not shown: the failures were."""

    def v2_playbook_on_stats(self, stats: Any) -> None:
        """The last line: what came of it."""
        self._live.step("")
        hosts = sorted(stats.processed)
        failed = [h for h in hosts if stats.failures.get(h)]
        gone = [h for h in hosts if stats.dark.get(h)]
        changed = sum(stats.changed.get(h, 0) for h in hosts)
        parts = [f"{len(hosts)} agents" if len(hosts) != 1 else "1 agent", f"changed={changed}"]
        if failed:
            parts.append(f"failed: {', '.join(failed)}")
        if gone:
            parts.append(f"unreachable: {', '.join(gone)}")
        colour = C.COLOR_ERROR if failed or gone else C.COLOR_CHANGED if changed else C.COLOR_OK
        self._display.display(f"\n{'FAILED' if failed or gone else 'OK'}  {'  '.join(parts)}", color=colour)

    def _show_step(self) -> None:
        if not self._step_shown:
            self._display.display(f"{time.strftime('%H:%M:%S')} {self._step}")
            self._step_shown = True

    def _line(self, result: Any, word: str, message: str) -> None:
        self._show_step()
        host = result._host.get_name()
        begun = self._begun.get((host, result._task._uuid))
        seconds = f"{time.monotonic() - begun:6.1f} s" if begun else " " * 8
        text = f"         {host:<{self._width}}  {word:<8} {seconds}  {message}".rstrip()
        self._display.display(text, color=getattr(C, COLOURS.get(word, "COLOR_SKIP")))

    def _raw(self, message: Any) -> None:
        if message in (None, "", []):
            return
        for line in message if isinstance(message, list) else str(message).splitlines():
            self._display.display(str(line))

    def _warnings(self, data: dict[str, Any]) -> None:
        if C.ACTION_WARNINGS and data.get("warnings"):
            for warning in data["warnings"]:
                self._display.warning(str(warning))
