# SPDX-License-Identifier: GPL-3.0-or-later
"""Stand-in for HTCondor's Python bindings on a lab without a schedd: an empty queue that takes no job.

It stands before the real package on PYTHONPATH and answers what WMAgent's components ask.
"""

from __future__ import annotations

import enum
import sys
from typing import Any


class HTCondorException(Exception):  # noqa: N818 - the name that clients catch
    """The bindings' own name for what goes wrong."""


class DaemonTypes(enum.Enum):
    """Daemons that a collector can locate."""

    Schedd = 3
    Collector = 5
    Negotiator = 6


class AdTypes(enum.Enum):
    """Kinds of ads that a collector holds."""

    Schedd = 2
    Submitter = 5


class QueryOpts(enum.Enum):
    """How a schedd is asked."""

    Default = 0
    AutoCluster = 1
    DefaultMyJobsOnly = 4
    SummaryOnly = 8
    IncludeClusterAd = 16


class JobAction(enum.Enum):
    """What ``Schedd.act`` does."""

    Hold = 1
    Release = 2
    Remove = 3
    RemoveX = 4


class _Value:
    """An expression that is the same wherever it is evaluated."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def eval(self, _scope: Any = None) -> Any:
        """The value."""
        return self.value


class Submit(dict):  # type: ignore[type-arg]
    """A job description; the lab takes none, so its text does not matter."""

    def __init__(self, description: Any = None) -> None:
        super().__init__(description if isinstance(description, dict) else {})


class Schedd:
    """A schedd with no job in it."""

    def __init__(self, _location: Any = None) -> None:
        pass

    def query(self, *_arguments: Any, **options: Any) -> list[Any]:
        """No jobs; for ``SummaryOnly`` one ad of zeros."""
        if options.get("opts") is not QueryOpts.SummaryOnly:
            return []
        states = ("Jobs", "Idle", "Running", "Held", "Removed", "Completed", "Suspended")
        return [{name: 0 for name in states} | {f"Allusers{name}": 0 for name in states}]

    xquery = query

    def act(self, *_arguments: Any, **_options: Any) -> dict[str, int]:
        """Nothing matched."""
        return {"TotalSuccess": 0, "TotalError": 0, "TotalNotFound": 0}

    def edit(self, *_arguments: Any, **_options: Any) -> None:
        """What the bindings say where no job matches."""
        raise RuntimeError("Unable to edit jobs matching constraint")

    def submit(self, *_arguments: Any, **_options: Any) -> Any:
        """Refused."""
        raise HTCondorException("the lab's stand-in for a schedd takes no jobs")


class Collector:
    """A collector that knows one idle schedd."""

    def __init__(self, _pool: Any = None) -> None:
        pass

    def locate(self, _kind: Any, _name: Any = None) -> dict[str, str]:
        """The schedd's name."""
        return {"Name": "schedd.lab.example"}

    def query(self, *_arguments: Any, **_options: Any) -> list[dict[str, Any]]:
        """Its ad: not overloaded."""
        return [{"Name": "schedd.lab.example", "CurbMatchmaking": _Value(False)}]


param: dict[str, str] = {
    "MAX_JOBS_RUNNING": "10000",
    "MAX_JOBS_PER_OWNER": "100000",
    "FULL_HOSTNAME": "schedd.lab.example",
}

# The first generation of the bindings has itself as a submodule, and WMAgent reaches into it.
htcondor = sys.modules[__name__]


def version() -> str:
    """What it is."""
    return "wmagent lab: a STAND-IN, not HTCondor"
