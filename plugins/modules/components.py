#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ansible module: start, stop or restart the components of an agent."""

from __future__ import annotations

DOCUMENTATION = r"""
module: components
short_description: Start, stop or restart the components of a WMAgent
version_added: 0.1.0
description:
  - Stops components. AgentWatchdog goes first, because it starts others again; then all process groups are signalled at
    once, each process with a signal that can't reach another one that took over its process id.
  - Only processes that are provably this agent's are ever signalled. Command line, current directory, interpreter and
    start time must fit. A C(Daemon.xml) that names any other process is moved aside, as WMCore does with a stale one.
  - Starts components of the current release from one interpreter that has imported everything before anything is
    stopped. All start in parallel, AgentWatchdog after the others.
  - A component that runs already is left alone.
author:
  - dmwm.wmagent contributors (@dmwm)
extends_documentation_fragment:
  - dmwm.wmagent.agent
  - dmwm.wmagent.agent.changes
options:
  state:
    description: What is wanted. V(restarted) always stops and starts.
    type: str
    choices: [started, stopped, restarted]
    default: started
  components:
    description:
      - Names of components.
      - Where empty, all that the release's C(config.py) names are started, and all that have a process or a
        C(Daemon.xml) are stopped.
    type: list
    elements: str
    default: []
  environment:
    description:
      - Environment of the components, such as C(X509_HOST_CERT). Nothing of Ansible's own session gets through.
    type: dict
    default: {}
  secrets:
    description: The agent's C(WMAgent.secrets). Needed with O(graceful_timeout), to read C(wm_workers).
    type: path
  database_name:
    description: Name of the agent's database in MariaDB.
    type: str
    default: wmagent
  stop_timeout:
    description: Seconds after SIGTERM before SIGKILL.
    type: float
    default: 30
  graceful_timeout:
    description:
      - Seconds to wait for each component to be between two cycles before it is stopped; 0 does not wait.
      - A component whose workers don't get there in time is stopped all the same.
    type: float
    default: 0
  start_timeout:
    description: Seconds that the release's interpreter may take to get ready, and again to start all components.
    type: float
    default: 90
  settle:
    description: Seconds within which a component that dies counts as not started.
    type: float
    default: 3
"""

EXAMPLES = r"""
- name: Stop all components between their cycles
  dmwm.wmagent.components:
    wmagent_root: /data/srv/wmagent
    state: stopped
    graceful_timeout: 120
    secrets: /data/admin/wmagent/WMAgent.secrets

- name: Start all components
  dmwm.wmagent.components:
    wmagent_root: /data/srv/wmagent
    state: started
    environment:
      X509_HOST_CERT: /data/certs/servicecert.pem
      X509_HOST_KEY: /data/certs/servicekey.pem
"""

RETURN = r"""
stopped:
  description:
    - One entry for each component, with C(component), C(pid), C(how), C(members), C(seconds), C(between_cycles) and
      C(detail).
    - C(how) is C(terminated), C(killed), C(stale), C(stranger) or C(not running).
  returned: success
  type: list
  elements: dict
started:
  description:
    - One entry for each component, with C(component), C(pid), C(how), C(seconds), C(log_offset), C(tries), C(error) and
      C(last_lines).
    - C(how) is C(up), C(already running), C(failed) or C(not started).
  returned: always
  type: list
  elements: dict
downtime:
  description: Seconds from the first signal until the last component was up; none where not both was done.
  returned: success
  type: float
"""

import contextlib
import time
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.dmwm.wmagent.plugins.module_utils._agent.components import (
    Started,
    Stopped,
    configured_components,
    failures,
    heartbeat_reader,
    masked,
    owner_of,
    plan_stop,
    prepare_start,
    stop_components,
)
from ansible_collections.dmwm.wmagent.plugins.module_utils._agent.daemons import WATCHDOG
from ansible_collections.dmwm.wmagent.plugins.module_utils._agent.journal import exclusive
from ansible_collections.dmwm.wmagent.plugins.module_utils._agent.layout import AgentLayout, Release
from ansible_collections.dmwm.wmagent.plugins.module_utils._agent.secrets import mask, read_secrets, secret_values
from ansible_collections.dmwm.wmagent.plugins.module_utils._database.connection import settings_from_secrets
from ansible_collections.dmwm.wmagent.plugins.module_utils._errors import WMAgentError


def running_now(layout: AgentLayout, release: Release, names: list[str]) -> dict[str, str]:
    """Component -> running or stopped, for those named and all that run. Raises WMAgentError."""
    targets = plan_stop(owner_of(layout, release), names)
    states = {target.component: "running" if target.mains else "stopped" for target in targets}
    return {name: "stopped" for name in names} | states


def plan(state: str, before: dict[str, str], wanted: list[str]) -> dict[str, str]:
    """What the components are after the call."""
    if state == "stopped":
        return {name: "stopped" for name in before}
    return before | {name: "running" for name in wanted}


def work(params: dict[str, Any], layout: AgentLayout, release: Release, running: list[str]) -> dict[str, Any]:
    """Stop, start or both. Raises WMAgentError."""
    secrets = read_secrets(Path(params["secrets"])) if params["secrets"] else {}
    if params["graceful_timeout"] and not secrets:
        raise WMAgentError("graceful_timeout needs secrets, to read wm_workers; name the agent's WMAgent.secrets")
    settings = settings_from_secrets(secrets, params["database_name"]) if secrets else None
    prepared = None
    if params["state"] != "stopped" and (
        params["state"] == "restarted" or running_is_not_all(params, release, running)
    ):
        environment = {name: str(value) for name, value in params["environment"].items()}
        prepared = prepare_start(release, layout, params["components"], environment, params["start_timeout"])
    stopped: list[Stopped] = []
    started: list[Started] = []
    first_stop = time.monotonic()
    try:
        if params["state"] != "started":
            stopped = stop_components(
                layout,
                release,
                params["components"],
                timeout=params["stop_timeout"],
                graceful_timeout=params["graceful_timeout"],
                heartbeats=heartbeat_reader(settings) if settings else None,
            )
        if prepared:
            started = prepared.go(params["settle"])
    finally:
        if prepared:
            prepared.abandon()
    up_at = prepared.up_at if prepared else None
    return {
        "stopped": [one.as_dict() for one in stopped],
        "started": masked([one.as_dict() for one in started], secret_values(secrets)),
        "downtime": round(up_at - first_stop, 3) if up_at and stopped else None,
        "problem": mask(failures(started), secret_values(secrets)),
    }


def running_is_not_all(params: dict[str, Any], release: Release, running: list[str]) -> bool:
    """True where something is left to start."""
    return bool(set(params["components"] or configured_components(release.config)) - set(running))


def run(module: AnsibleModule) -> dict[str, Any]:
    """Do what is asked, or tell what would be done. Raises WMAgentError."""
    params = module.params
    layout = AgentLayout(Path(params["wmagent_root"]))
    release = layout.current_release()
    with contextlib.nullcontext() if module.check_mode else exclusive(layout):
        names = list(params["components"])
        before = running_now(layout, release, names)
        wanted = names or configured_components(release.config)
        after = plan(params["state"], before, wanted)
        running = [name for name, state in before.items() if state == "running"]
        if params["state"] == "stopped" and names and WATCHDOG not in names:
            module.warn(f"{WATCHDOG} starts the components again that it finds stopped; stop it as well")
        changed = params["state"] == "restarted" or before != after
        result: dict[str, Any] = {"changed": changed, "stopped": [], "started": [], "downtime": None, "problem": ""}
        if not module.check_mode:
            result |= work(params, layout, release, running)
            result["changed"] = changed or any(one["how"] != "not running" for one in result["stopped"])
    return {**result, "diff": {"before": before, "after": after}}


def main() -> None:
    """Entry point."""
    module = AnsibleModule(
        argument_spec={
            "wmagent_root": {"type": "path", "required": True},
            "state": {"type": "str", "choices": ["started", "stopped", "restarted"], "default": "started"},
            "components": {"type": "list", "elements": "str", "default": []},
            "environment": {"type": "dict", "default": {}},
            "secrets": {"type": "path", "no_log": False},
            "database_name": {"type": "str", "default": "wmagent"},
            "stop_timeout": {"type": "float", "default": 30},
            "graceful_timeout": {"type": "float", "default": 0},
            "start_timeout": {"type": "float", "default": 90},
            "settle": {"type": "float", "default": 3},
        },
        supports_check_mode=True,
    )
    try:
        result = run(module)
    except WMAgentError as error:
        module.fail_json(msg=str(error))
    if problem := result.pop("problem"):
        module.fail_json(msg=problem, **result)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
