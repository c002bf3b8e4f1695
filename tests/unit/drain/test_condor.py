# SPDX-License-Identifier: GPL-3.0-or-later
"""``condor_q`` as it answers and fails; stand-ins in shell."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from ansible_collections.dmwm.wmagent.plugins.module_utils._drain import signals_condor
from ansible_collections.dmwm.wmagent.plugins.module_utils._drain.blockers import UNKNOWN
from ansible_collections.dmwm.wmagent.plugins.module_utils._drain.condor import Job, read_jobs
from ansible_collections.dmwm.wmagent.plugins.module_utils._errors import WMAgentError

NO_JOBS = "-- Schedd: agent : <127.0.0.1:9618> @ 05/04/26\n\nTotal for query: 0 jobs; 0 completed, 0 removed, 0 idle\n"
JOBS = [
    {"JobStatus": 1, "WMAgent_RequestName": "a", "EnteredCurrentStatus": 100},
    {"JobStatus": 2, "WMAgent_RequestName": "a", "EnteredCurrentStatus": 90},
    {"JobStatus": 2, "WMAgent_RequestName": "b", "EnteredCurrentStatus": 80},
    {"JobStatus": 5, "WMAgent_RequestName": "b", "EnteredCurrentStatus": 10},
    {"JobStatus": 3},
]


@pytest.fixture
def condor_q(tmp_path: Path):
    """Makes a program that prints this as JSON and that as totals, on standard error, and ends with that code."""

    def make(jobs: str = "", totals: str = "", errors: str = "", code: int = 0, sleep: float = 0) -> str:
        for name, text in (("jobs", jobs), ("totals", totals), ("errors", errors)):
            (tmp_path / name).write_text(text)
        program = tmp_path / "condor_q"
        program.write_text(
            f"#!/bin/sh\nsleep {sleep}\ncat {tmp_path}/errors >&2\n"
            f'case "$*" in *-totals*) cat {tmp_path}/totals;; *-json*) cat {tmp_path}/jobs;; esac\nexit {code}\n'
        )
        program.chmod(0o755)
        return str(program)

    return make


def test_jobs_are_counted_by_status(condor_q):
    program = condor_q(json.dumps(JOBS))
    assert read_jobs(program, 10)[3] == Job(5, "b", 10)
    found = {one.signal: one for one in signals_condor.read(lambda: read_jobs(program, 10))}
    assert {name: (one.count, one.oldest) for name, one in found.items()} == {
        "condor_idle": (1, 100),
        "condor_running": (2, 80),
        "condor_held": (1, 10),
        "condor_leaving": (1, None),
    }
    assert found["condor_running"].examples == {"a": 1, "b": 1}
    assert found["condor_leaving"].by_state == {"Removed": 1}


def test_a_status_that_htcondor_does_not_have_is_unknown():
    (one,) = signals_condor.read(lambda: [Job(99, "a", None)])
    assert (one.kind, one.by_state) == (UNKNOWN, {"JobStatus 99": 1})


@pytest.mark.parametrize("jobs", ["", "[\n]\n"])
@pytest.mark.parametrize("totals", [NO_JOBS, NO_JOBS.replace("query", "all users")])
def test_an_empty_queue_is_one_that_says_so(condor_q, jobs, totals):
    assert read_jobs(condor_q(jobs, totals), 10) == []


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ({}, "no number of jobs"),
        ({"jobs": "[]"}, "no number of jobs"),
        ({"totals": NO_JOBS.replace("0 jobs", "12 jobs")}, "12 jobs"),
        ({"totals": NO_JOBS, "errors": "-- Failed to fetch ads from: <127.0.0.1:9618> : agent"}, "Failed to fetch ads"),
        ({"totals": NO_JOBS, "code": 1}, "failed with code 1"),
        ({"jobs": "-- Failed to fetch ads from: x", "code": 1}, "Failed to fetch ads"),
        ({"jobs": json.dumps(JOBS)[:-9]}, "was it cut off"),
        ({"jobs": '{"JobStatus": 1}'}, "no list of jobs"),
        ({"jobs": '[{"Owner": "a"}]'}, "without JobStatus"),
        ({"jobs": "All queues are empty"}, "no JSON"),
        ({"jobs": json.dumps(JOBS), "errors": "Error: communication error"}, "communication error"),
    ],
)
def test_nothing_else_is(condor_q, answer, said):
    program = condor_q(**answer)
    with pytest.raises(WMAgentError, match=said) as caught:
        read_jobs(program, 10)
    assert "\n" not in str(caught.value)
    (one,) = signals_condor.read(lambda: read_jobs(program, 10))
    assert (one.kind, one.count) == (UNKNOWN, None)


def test_a_schedd_that_hangs_is_given_up(condor_q):
    begin = time.monotonic()
    with pytest.raises(WMAgentError, match=r"did not answer within 0\.2 s"):
        read_jobs(condor_q(NO_JOBS, sleep=3), 0.2)
    assert time.monotonic() - begin < 2.5


def test_a_program_that_is_not_there(tmp_path):
    with pytest.raises(WMAgentError, match="cannot be run"):
        read_jobs(str(tmp_path / "none"), 1)
