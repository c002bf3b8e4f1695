# SPDX-License-Identifier: GPL-3.0-or-later
"""Jobs in the agent's HTCondor queue, asked of the program ``condor_q``."""

from __future__ import annotations

import json
import os
import re
import subprocess
from dataclasses import dataclass
from typing import Any

from ansible_collections.dmwm.wmagent.plugins.module_utils._errors import WMAgentError

_ATTRIBUTES = "JobStatus,WMAgent_RequestName,EnteredCurrentStatus"
_FAILED = re.compile(r"fail|error|unable|can't|cannot|not authorized|timed? ?out", re.IGNORECASE)
_TOTAL = re.compile(r"^\s*Total for (?:query|all users)\s*:\s*(\d+) jobs\b", re.MULTILINE)


@dataclass(frozen=True)
class Job:
    """One job of the queue. status: HTCondor's JobStatus; since: UNIX time of it, seconds."""

    status: int
    request: str | None
    since: int | None


def read_jobs(program: str, timeout: float) -> list[Job]:
    """All jobs of the local queue, whoever they belong to. timeout: seconds for each call.

    Some versions of condor_q print nothing at all for an empty queue, as they do where the schedd did not answer.
    Nothing printed counts as an empty queue only where ``condor_q -totals`` says in words that it holds 0 jobs.

    Raises WMAgentError where the program is missing, fails, takes too long, or prints what it should not.
    """
    printed = _run([program, "-allusers", "-json", "-attributes", _ATTRIBUTES], timeout)
    if printed.strip():
        try:
            rows = json.loads(printed)
        except ValueError:
            raise WMAgentError(f"{program} printed something that is no JSON; was it cut off?") from None
        if not isinstance(rows, list):
            raise WMAgentError(f"{program} printed no list of jobs; is it HTCondor's condor_q?")
        if rows:
            return [_job(program, row) for row in rows]
    totals = _run([program, "-allusers", "-totals"], timeout)
    told = _TOTAL.search(totals)
    if told is None or int(told[1]) != 0:
        said = f"{told[1]} jobs" if told else "no number of jobs"
        raise WMAgentError(f"{program} printed no job and its totals tell {said}; does the schedd answer?")
    return []


def _job(program: str, row: Any) -> Job:
    status = row.get("JobStatus") if isinstance(row, dict) else None
    if not isinstance(status, int):
        raise WMAgentError(f"{program} printed a job without JobStatus; is it HTCondor's condor_q?")
    request, since = row.get("WMAgent_RequestName"), row.get("EnteredCurrentStatus")
    return Job(status, None if request is None else str(request), since if isinstance(since, int) else None)


def _run(command: list[str], timeout: float) -> str:
    # Its messages are looked through for words, so they have to be English.
    environment = {**os.environ, "LC_ALL": "C.UTF-8"}
    try:
        done = subprocess.run(
            command, capture_output=True, timeout=timeout, check=False, env=environment, stdin=subprocess.DEVNULL
        )
    except subprocess.TimeoutExpired:
        raise WMAgentError(f"{command[0]} did not answer within {timeout:g} s; look at the schedd's load") from None
    except OSError as error:
        raise WMAgentError(
            f"{command[0]} cannot be run ({error.strerror}); install HTCondor's tools or set the option condor_q"
        ) from None
    errors = " ".join(done.stderr.decode("utf-8", "replace").split())
    if done.returncode != 0 or _FAILED.search(errors):
        why = errors or " ".join(done.stdout.decode("utf-8", "replace").split()) or "no reason given"
        raise WMAgentError(f"{command[0]} failed with code {done.returncode}: {why[:300]}")
    return done.stdout.decode("utf-8", "replace")
