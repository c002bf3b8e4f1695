# SPDX-License-Identifier: GPL-3.0-or-later
"""Signals of the batch system.

All jobs of the queue count, as in WMComponent.AgentStatusWatcher.DrainStatusAPI (PyCondorAPI.getCondorJobsSummary). It
counts idle and running ones and takes a schedd that does not answer for None; held ones and those on their way out
count here, too.
"""

from __future__ import annotations

from collections.abc import Callable

from ansible_collections.dmwm.wmagent.plugins.module_utils._drain.blockers import (
    CONDOR,
    Blocker,
    Counted,
    blockers_of,
    unreadable,
)
from ansible_collections.dmwm.wmagent.plugins.module_utils._drain.condor import Job
from ansible_collections.dmwm.wmagent.plugins.module_utils._errors import WMAgentError

_SIGNALS = {
    1: ("condor_idle", "Idle"),
    2: ("condor_running", "Running"),
    3: ("condor_leaving", "Removed"),
    4: ("condor_leaving", "Completed"),
    5: ("condor_held", "Held"),
    6: ("condor_leaving", "TransferringOutput"),
    7: ("condor_leaving", "Suspended"),
}
"""JobStatus -> signal and HTCondor's own word for it."""


def read(jobs: Callable[[], list[Job]]) -> list[Blocker]:
    """Blockers of the batch system. jobs: asks for all jobs, and may raise WMAgentError."""
    try:
        found = jobs()
    except WMAgentError as error:
        return [unreadable("condor", CONDOR, error)]
    return blockers_of(_counted(job) for job in found)


def _counted(job: Job) -> Counted:
    signal, state = _SIGNALS.get(job.status, ("condor_status_unknown", f"JobStatus {job.status}"))
    return Counted(signal, 1, job.request, state, job.since)
