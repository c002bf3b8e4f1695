# SPDX-License-Identifier: GPL-3.0-or-later
"""Stop components: AgentWatchdog first, then all others at once, and nothing but this agent's own processes."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ansible_collections.dmwm.wmagent.plugins.module_utils._agent import cycles, daemons, processes
from ansible_collections.dmwm.wmagent.plugins.module_utils._agent.daemons import WATCHDOG, Daemon, Owner
from ansible_collections.dmwm.wmagent.plugins.module_utils._agent.heartbeats import Heartbeats
from ansible_collections.dmwm.wmagent.plugins.module_utils._agent.layout import AgentLayout, Release
from ansible_collections.dmwm.wmagent.plugins.module_utils._agent.processes import Handle, Process
from ansible_collections.dmwm.wmagent.plugins.module_utils._errors import WMAgentError

TERMINATED = "terminated"
KILLED = "killed"
STALE = "stale"
STRANGER = "stranger"
NOT_RUNNING = "not running"

_KILL_WAIT = 10.0
"""Seconds a process gets to vanish after SIGKILL."""


@dataclass(frozen=True)
class Stopped:
    """What was done about one component.

    how:      terminated (SIGTERM was enough), killed (SIGKILL after the time limit), stale (Daemon.xml named no living
              process and was moved aside), stranger (Daemon.xml named a process that is not ours: left alone, the file
              moved aside) or not running
    pid:      the process that Daemon.xml named, or that was found without one
    members:  processes signalled, children included
    seconds:  from the first signal to the last of them gone
    between_cycles: True where its workers were seen sleeping when it was stopped, None where nobody asked
    detail:   why a process was taken for a stranger
    """

    component: str
    how: str
    pid: int | None = None
    members: int = 0
    seconds: float = 0.0
    between_cycles: bool | None = None
    detail: str = ""

    @property
    def changed(self) -> bool:
        """True where a process was stopped or a file moved."""
        return self.how != NOT_RUNNING

    def as_dict(self) -> dict[str, Any]:
        """Plain data for module results."""
        return {**asdict(self), "seconds": round(self.seconds, 3)}


@dataclass
class Target:
    """One component to stop: its folder, its Daemon.xml and its living main processes, all proved to be ours."""

    component: str
    folder: Path
    daemon: Daemon | None = None
    mains: list[Process] = field(default_factory=list)
    stranger: str = ""


def owner_of(layout: AgentLayout, release: Release | None) -> Owner:
    """The owner of this agent's processes. Raises WMAgentError where no release is known."""
    prefixes = [one.prefix for one in layout.all_releases()] + ([release.prefix] if release else [])
    if not prefixes:
        raise WMAgentError(
            f"{layout.root} has no release, so its processes cannot be told from others; adopt the agent"
        )
    return Owner.of(layout.work_dir, prefixes)


def plan_stop(owner: Owner, components: Iterable[str]) -> list[Target]:
    """What there is to stop, AgentWatchdog first; signals nothing.

    components: those to stop; empty for all that have a Daemon.xml or a living process.

    Raises WMAgentError where a component lives but cannot be proved to be ours, or runs as another user.
    """
    living = daemons.component_processes(owner)
    names = set(components) or {*living, *daemons.components_on_disk(owner.work_dir)}
    targets = [_target(name, owner, living.get(name, [])) for name in sorted(names)]
    return sorted(targets, key=lambda target: target.component != WATCHDOG)


def _target(component: str, owner: Owner, found: list[Process]) -> Target:
    folder = owner.work_dir / component
    target = Target(component, folder, daemons.read_daemon(folder))
    candidates = {process.pid: process for process in found}
    named = processes.read_process(target.daemon.pid) if target.daemon else None
    if target.daemon and named and not named.dead and named.pid not in candidates:
        _demand_same_user(component, named, target.daemon)
        target.stranger = f"pid {named.pid}: {'; '.join(daemons.doubts(named, folder, owner, target.daemon))}"
    for process in candidates.values():
        by_file = target.daemon if target.daemon and target.daemon.pid == process.pid else None
        if problems := daemons.doubts(process, folder, owner, by_file):
            raise WMAgentError(
                f"{component}: pid {process.pid} works in {folder}, but {', '.join(problems)}; "
                "stop it by hand, or adopt the agent it belongs to"
            )
        target.mains.append(process)
    return target


def _demand_same_user(component: str, process: Process, daemon: Daemon) -> None:
    me = os.geteuid()
    if me not in (0, process.uid) and process.uid == daemon.uid:
        raise WMAgentError(f"{component}: pid {process.pid} runs as user id {process.uid}; become that user")


def stop_components(
    layout: AgentLayout,
    release: Release | None,
    components: Iterable[str] = (),
    timeout: float = 10,
    graceful_timeout: float = 0,
    heartbeats: Callable[[], Heartbeats] | None = None,
) -> list[Stopped]:
    """Stop components; AgentWatchdog first, because it starts others again.

    release:          accepted as the interpreter's owner, besides all releases under ``releases/``
    components:       names; empty for all
    timeout:          seconds from SIGTERM to SIGKILL
    graceful_timeout: seconds to wait for each component's workers to be between their cycles; 0 does not wait
    heartbeats:       reads wm_workers; needed for ``graceful_timeout``

    Returns one entry for each component. Raises WMAgentError before any signal where something is not provably ours,
    and after it where a process survives SIGKILL.
    """
    owner = owner_of(layout, release)
    targets = plan_stop(owner, components)
    results = [_end([target], timeout)[0] for target in targets if target.component == WATCHDOG]
    rest = [target for target in targets if target.component != WATCHDOG]
    if results and results[0].members > 1:
        # It may have been in the middle of restarting a component.
        rest = [again for again in plan_stop(owner, components) if again.component != WATCHDOG]
    if graceful_timeout > 0 and heartbeats is not None:
        results += _stop_gracefully(rest, timeout, graceful_timeout, heartbeats)
    else:
        results += _end(rest, timeout)
    results += _stop_late_comers(owner, components, timeout, results)
    if not daemons.component_processes(owner).get(WATCHDOG):
        for one in results:
            daemons.remove_timers(owner.work_dir / one.component)
    return results


def _stop_gracefully(
    targets: list[Target], timeout: float, graceful_timeout: float, heartbeats: Callable[[], Heartbeats]
) -> list[Stopped]:
    """Stop each component as soon as its workers sleep; whoever does not sleep in time is stopped anyway."""
    deadline = time.monotonic() + graceful_timeout
    watch = cycles.CycleWatch({one.component: one.folder / daemons.LOG_FILE for one in targets})
    waiting, results = list(targets), []
    while waiting and time.monotonic() < deadline:
        sleeping = watch.between_cycles(heartbeats(), {one.component: one.mains[0].pid for one in waiting if one.mains})
        ready = [one for one in waiting if not one.mains or one.component in sleeping]
        results += _end(ready, timeout, between_cycles=True)
        waiting = [one for one in waiting if one not in ready]
        if waiting:
            time.sleep(min(0.25, max(0.0, deadline - time.monotonic())))
    return results + _end(waiting, timeout, between_cycles=False)


def _stop_late_comers(owner: Owner, components: Iterable[str], timeout: float, done: list[Stopped]) -> list[Stopped]:
    """Components that came up while others were being stopped: a restart by AgentWatchdog that was under way."""
    if not any(one.component == WATCHDOG and one.members > 1 for one in done):
        return []
    extra: list[Stopped] = []
    for _ in range(10):
        time.sleep(0.1)
        late = [one for one in plan_stop(owner, components) if one.mains]
        extra += _end(late, timeout)
    return extra


def _end(targets: list[Target], timeout: float, between_cycles: bool | None = None) -> list[Stopped]:
    """Signal all members of all targets at once and wait for all of them."""
    if not targets:
        return []
    began = time.monotonic()
    groups = {name: [Handle(process) for process in members] for name, members in _members(targets).items()}
    try:
        _signal(groups, signal.SIGTERM)
        seconds = _await(groups, began, timeout)
        _add_children_born_meanwhile(targets, groups)
        killed = _kill(groups, began, seconds)
        _demand_gone(groups)
    finally:
        for handles in groups.values():
            for handle in handles:
                handle.close()
    results = []
    for target in targets:
        name = target.component
        how = KILLED if name in killed else TERMINATED if groups[name] else NOT_RUNNING
        results.append(_cleaned(target, how, len(groups[name]), seconds.get(name, 0.0), between_cycles))
    return results


def _members(targets: list[Target]) -> dict[str, list[Process]]:
    """The main processes and everything in their sessions: component -> processes.

    A component's session is its own (WMCore.Agent.Daemon.Create calls setsid), and the kernel lets nobody but
    descendants into it: whoever is in the session of a process that is ours, is ours.
    """
    members: dict[str, list[Process]] = {target.component: list(target.mains) for target in targets}
    not_a_components = {0, os.getsid(0)}
    owner = {one.sid: target.component for target in targets for one in target.mains if one.sid not in not_a_components}
    if owner:
        mains = {process.pid for target in targets for process in target.mains}
        for process in processes.session_members(owner):
            if process.pid not in mains:
                members[owner[process.sid]].append(process)
    return members


def _add_children_born_meanwhile(targets: list[Target], groups: dict[str, list[Handle]]) -> None:
    """A component may have forked between the look at its session and the signal."""
    for name, members in _members(targets).items():
        known = {handle.process.pid for handle in groups[name]}
        groups[name] += [Handle(process) for process in members if process.pid not in known]


def _signal(groups: dict[str, list[Handle]], number: signal.Signals) -> None:
    for handles in groups.values():
        for handle in handles:
            handle.signal(number)
            # A process that somebody suspended would take note of the signal only when resumed.
            if handle.process.state in ("T", "t"):
                handle.signal(signal.SIGCONT)


def _kill(groups: dict[str, list[Handle]], began: float, seconds: dict[str, float]) -> set[str]:
    survivors = {name: [one for one in handles if one.alive()] for name, handles in groups.items()}
    survivors = {name: handles for name, handles in survivors.items() if handles}
    if survivors:
        _signal(survivors, signal.SIGKILL)
        seconds.update(_await(survivors, began, time.monotonic() - began + _KILL_WAIT))
    return set(survivors)


def _await(groups: dict[str, list[Handle]], began: float, timeout: float) -> dict[str, float]:
    """Seconds until each group was gone; those that were not are missing."""
    seconds: dict[str, float] = {}
    while True:
        for name, handles in groups.items():
            if name not in seconds and not any(handle.alive() for handle in handles):
                seconds[name] = time.monotonic() - began
        left = began + timeout - time.monotonic()
        if len(seconds) == len(groups) or left <= 0:
            return seconds
        processes.wait_gone([one for handles in groups.values() for one in handles if not one.gone], left)


def _demand_gone(groups: dict[str, list[Handle]]) -> None:
    left = [(name, one.process.pid) for name, handles in groups.items() for one in handles if one.alive()]
    if left:
        listed = ", ".join(f"{name} (pid {pid})" for name, pid in left)
        raise WMAgentError(f"these processes survive SIGKILL: {listed}; look at the disk or file system they wait for")


def _cleaned(target: Target, how: str, members: int, seconds: float, between_cycles: bool | None) -> Stopped:
    """Move Daemon.xml aside and remove threads.json, as WMCore's shutdown does."""
    daemons.remove_threads_file(target.folder)
    moved = daemons.move_daemon_file_aside(target.folder)
    if how == NOT_RUNNING and moved:
        how = STRANGER if target.stranger else STALE
    pid = target.mains[0].pid if target.mains else target.daemon.pid if target.daemon else None
    return Stopped(
        target.component,
        how,
        pid,
        members,
        seconds,
        between_cycles if members else None,
        target.stranger if how == STRANGER else "",
    )
