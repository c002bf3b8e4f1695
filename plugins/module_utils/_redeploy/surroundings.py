# SPDX-License-Identifier: GPL-3.0-or-later
"""What an agent needs around it once it is deployed: cron jobs, a proxy, replications, central services.

Each check tells one line on what is wrong, or None; those that judge are pure.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ansible_collections.dmwm.wmagent.plugins.module_utils._couchdb.client import CouchClient
from ansible_collections.dmwm.wmagent.plugins.module_utils._errors import WMAgentError

_GOOD = frozenset(["running", "pending", "initializing", "added", "completed"])
"""States of a replication that is well or about to be (CouchDB's documentation, "Replication Scheduler")."""


def missing_cron(crontab: str, wanted: Iterable[str]) -> str | None:
    """Texts that no line of a crontab holds, comments aside. Pure."""
    lines = [line for line in crontab.splitlines() if not line.lstrip().startswith("#")]
    missing = [text for text in wanted if not any(text in line for line in lines)]
    return f"no cron job with {', '.join(repr(text) for text in missing)}" if missing else None


def short_proxy(left: float, least: float) -> str | None:
    """A proxy that ends too soon. left, least: seconds. Pure."""
    if left >= least:
        return None
    return f"the proxy ends in {max(0.0, left) / 3600:.1f} h, and has to be good for {least / 3600:g} h; renew it"


class Replications:
    """The replications of one agent over several looks, since a state alone does not tell whether anything arrives."""

    def __init__(self) -> None:
        self._seen: dict[str, Any] = {}
        self._moved: set[str] = set()

    def problem(self, rows: Sequence[Mapping[str, Any]]) -> str | None:
        """What is wrong after one more look: a state, documents not written, changes to go of which none went.

        rows: of ``/_scheduler/docs``; what a replication has done is in ``info`` (CouchDB's documentation, same page)
        """
        bad = [f"{row.get('doc_id')} {why}" for row in rows if (why := self._why(row))]
        return f"replications that do not come on: {', '.join(bad)}" if bad else None

    def _why(self, row: Mapping[str, Any]) -> str:
        name, info = str(row.get("doc_id")), row.get("info")
        if row.get("state") not in _GOOD:
            return f"is {row.get('state')}"
        if not isinstance(info, Mapping):
            return ""
        if info.get("doc_write_failures"):
            return f"could not write {info['doc_write_failures']} documents"
        if name in self._seen and info != self._seen[name]:
            self._moved.add(name)
        self._seen[name] = info
        if info.get("changes_pending") and name not in self._moved:
            return f"has {info['changes_pending']} changes to go and does not move"
        return ""


def read_crontab(timeout: float) -> str:
    """The crontab of whoever runs the agent. Raises WMAgentError where there is none."""
    return _said(["crontab", "-l"], {}, timeout)


def proxy_left(environment: Mapping[str, str], timeout: float) -> float:
    """Seconds that the agent's proxy is good for. Raises WMAgentError where nobody can tell."""
    text = _said(["voms-proxy-info", "-timeleft"], environment, timeout).strip()
    if not text.isdigit():
        raise WMAgentError(f"voms-proxy-info tells no time ({text[:100]!r}); look at X509_USER_PROXY")
    return float(text)


def replication_rows(client: CouchClient) -> list[Mapping[str, Any]]:
    """All replications that the agent's CouchDB was asked for. Raises WMAgentError."""
    answer = client.get("/_scheduler/docs?limit=1000")
    rows = answer.get("docs") if isinstance(answer, Mapping) else None
    if not isinstance(rows, list):
        raise WMAgentError(f"{client.settings.where} does not tell of its replications")
    return rows


def _said(command: list[str], environment: Mapping[str, str], timeout: float) -> str:
    try:
        done = subprocess.run(
            ["/usr/bin/env", *(f"{name}={value}" for name, value in environment.items()), *command],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        raise WMAgentError(f"{command[0]} did not answer in {timeout:g} s") from None
    if done.returncode != 0:
        lines = (done.stderr or done.stdout).strip().splitlines()
        raise WMAgentError(f"{command[0]} failed: {lines[-1][:200] if lines else 'no reason given'}")
    return done.stdout
