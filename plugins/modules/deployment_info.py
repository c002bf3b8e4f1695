#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ansible module: what a deployed agent needs around it."""

from __future__ import annotations

DOCUMENTATION = r"""
module: deployment_info
short_description: Tell whether a deployed WMAgent has around it what it needs
version_added: 0.1.0
description:
  - Looks at the proxy's lifetime, at the replications of the agent's CouchDB, at whether ReqMgr2 knows the agent and
    the central workqueue answers, and at cron jobs.
  - What could not be read is a problem like any other. So is a replication that has changes to go and does not move
    within O(within).
author:
  - dmwm.wmagent contributors (@dmwm)
extends_documentation_fragment:
  - dmwm.wmagent.agent.info
  - dmwm.wmagent.drain
options:
  environment:
    description: Environment of the components, with C(X509_USER_PROXY) and C(PATH).
    type: dict
    default: {}
  proxy_lifetime:
    description:
      - How long the proxy has to be good for, a number with C(s), C(m), C(h), C(d) or C(w); V(0) does not look at it.
    type: str
    default: 24h
  cron:
    description: Texts each of which has to stand in a line of the crontab.
    type: list
    elements: str
    default: []
  within:
    description: Seconds in which problems may go away, as those of a replication that is just being set up.
    type: float
    default: 60
"""

EXAMPLES = r"""
- name: Is all there
  dmwm.wmagent.deployment_info:
    secrets: /data/admin/wmagent/WMAgent.secrets
    agent: agent.example.org
    cron: [renew_proxy]
  register: around
  failed_when: around.problems | length > 0
"""

RETURN = r"""
problems:
  description: What is wrong, one line each.
  returned: success
  type: list
  elements: str
checked:
  description: What was looked at.
  returned: success
  type: list
  elements: str
summary:
  description: What came of it, in one line.
  returned: success
  type: str
"""

import time
from collections.abc import Callable, Mapping
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.dmwm.wmagent.plugins.module_utils._couchdb import client as couch
from ansible_collections.dmwm.wmagent.plugins.module_utils._drain import options
from ansible_collections.dmwm.wmagent.plugins.module_utils._drain.agent_config import read_document
from ansible_collections.dmwm.wmagent.plugins.module_utils._duration import seconds_of
from ansible_collections.dmwm.wmagent.plugins.module_utils._errors import WMAgentError
from ansible_collections.dmwm.wmagent.plugins.module_utils._redeploy import surroundings

_PAUSE = 1.0

Check = Callable[[], str | None]


def checks_of(params: Mapping[str, Any]) -> dict[str, Check]:
    """All checks by name. Raises WMAgentError where the options make no sense."""
    secrets = options.checked_secrets(params)
    agent, timeout = options.agent_name(params), params["timeout"]
    environment = {name: str(value) for name, value in params["environment"].items()}
    least = seconds_of(params["proxy_lifetime"], "proxy_lifetime")

    watched = surroundings.Replications()

    def replications() -> str | None:
        client = couch.CouchClient(couch.settings_from_secrets(secrets), timeout)
        return watched.problem(surroundings.replication_rows(client))

    def reqmgr() -> None:
        read_document(options.reqmgr(params, secrets), agent)

    def workqueue() -> None:
        options.global_workqueue(params, secrets).get("")

    checks: dict[str, Check] = {"replications": replications, "ReqMgr2": reqmgr, "central workqueue": workqueue}
    if least:
        checks["proxy"] = lambda: surroundings.short_proxy(surroundings.proxy_left(environment, timeout), least)
    if params["cron"]:
        checks["cron"] = lambda: surroundings.missing_cron(surroundings.read_crontab(timeout), params["cron"])
    return checks


def run(params: Mapping[str, Any]) -> dict[str, Any]:
    """Look until all is well or the time is over. Raises WMAgentError."""
    checks = checks_of(params)
    end = time.monotonic() + params["within"]
    while True:
        problems = [problem for problem in map(look, checks.values()) if problem]
        if not problems or time.monotonic() > end:
            break
        time.sleep(_PAUSE)
    told = "; ".join(problems) or f"all is well: {', '.join(checks)}"
    return {"changed": False, "problems": problems, "checked": list(checks), "summary": told}


def look(check: Check) -> str | None:
    """One check; what it could not read is its problem."""
    try:
        return check()
    except WMAgentError as error:
        return str(error)


def main() -> None:
    """Entry point."""
    module = AnsibleModule(
        argument_spec={
            **options.CENTRAL_OPTIONS,
            "environment": {"type": "dict", "default": {}},
            "proxy_lifetime": {"type": "str", "default": "24h"},
            "cron": {"type": "list", "elements": "str", "default": []},
            "within": {"type": "float", "default": 60},
        },
        supports_check_mode=True,
    )
    try:
        module.exit_json(**run(module.params))
    except WMAgentError as error:
        module.fail_json(msg=str(error))


if __name__ == "__main__":
    main()
