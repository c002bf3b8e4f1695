# SPDX-License-Identifier: GPL-3.0-or-later
"""Show how far a long task has come, from an action plugin; callback ``dmwm.wmagent.rollout`` puts it on the screen.

::

    with live.task(agent) as tell:
        while ...:
            tell(Progress("drains", done=30, total=120, unit="elements", eta=5400))

A terminal has one line for each agent, drawn anew in place; elsewhere a plain line comes when the step changes and
every half minute. What is told often is not shown more often, so tell whenever there is news. With any other callback
nothing is shown and nothing is lost.
"""

from __future__ import annotations

import contextlib
import json
import socket
from collections.abc import Callable, Iterator
from dataclasses import asdict

from ansible_collections.dmwm.wmagent.plugins.module_utils._progress import Progress, parse

_LARGEST = 4096

_sending: socket.socket | None = None


@contextlib.contextmanager
def task(agent: str) -> Iterator[Callable[[Progress], None]]:
    """Tells an agent's progress while the block lasts; its line goes with the block."""
    try:
        yield lambda progress: _send(agent, asdict(progress))
    finally:
        _send(agent, None)


def _send(agent: str, progress: dict[str, object] | None) -> None:
    if _sending is None:
        return
    with contextlib.suppress(OSError):  # shown or not, the work goes on
        _sending.send(json.dumps([agent, progress]).encode(), socket.MSG_DONTWAIT)


def open_channel() -> socket.socket:
    """The end from which the callback receives; Ansible's workers are forked later, and inherit the other."""
    global _sending
    receiving, _sending = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    return receiving


def receive(receiving: socket.socket, seconds: float) -> tuple[str, Progress | None] | None:
    """The next agent and its progress (None: its task is over); None where nothing comes within some seconds."""
    receiving.settimeout(seconds)
    try:
        agent, progress = json.loads(receiving.recv(_LARGEST))
    except (OSError, ValueError):
        return None
    return str(agent), None if progress is None else parse(json.dumps(progress))
