#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ansible module: everything that could keep an agent from being changed."""

from __future__ import annotations

DOCUMENTATION = r"""
module: preflight_info
short_description: Find everything that could keep a WMAgent from being changed
version_added: 0.1.0
description:
  - Looks at the agent's root, Python and platform, disk, lock, secrets, databases, schema, verdict and drift. Every
    check is made, also when an earlier one finds a problem.
  - A check that can't be made is a problem.
  - Needs the interpreter that M(dmwm.wmagent.tools) returns.
author:
  - dmwm.wmagent contributors (@dmwm)
extends_documentation_fragment:
  - dmwm.wmagent.agent
  - dmwm.wmagent.agent.info
options:
  target:
    description: The image to go to, as M(dmwm.wmagent.image_info) returned it.
    type: dict
  release:
    description: The installed release to go back to, by folder name, image name or digest, or V(previous).
    type: str
    default: ''
  secrets:
    description: The agent's C(WMAgent.secrets).
    type: path
    required: true
  database_name:
    description: Name of the agent's database in MariaDB.
    type: str
    default: wmagent
  python:
    description: The Python that the release will run on.
    type: path
    default: /usr/bin/python3.11
  components:
    description: Components that must be healthy; all that C(config.py) names where empty.
    type: list
    elements: str
    default: []
  adopt_prefix:
    description: C(sys.prefix) of an agent deployed by hand, where it is not found by itself.
    type: path
  adopt_config:
    description: C(config.py) of an agent deployed by hand, where it is not found by itself.
    type: path
  disk_reserve:
    description: Space that must stay free, such as V(2G).
    type: str
    default: 2G
  require_healthy:
    description: Whether a verdict other than healthy is a problem.
    type: bool
    default: true
  on_drift:
    description: Whether files changed by hand are a problem.
    type: str
    choices: [fail, replace]
    default: fail
  rollout:
    description: Id of the rollout; its own lock is no problem.
    type: str
    default: ''
  break_lock:
    description: Id of a rollout whose lock is no problem either.
    type: str
    default: ''
  settings:
    description:
      - Settings of later steps that could be wrong, C(healthy_for), C(healthy_within), C(keep_releases) and
        C(known_tracebacks). They are checked here, before anything stops.
    type: dict
    default: {}
"""

EXAMPLES = r"""
- name: Look at the agent
  dmwm.wmagent.preflight_info:
    wmagent_root: /data/srv/wmagent
    target: "{{ image }}"
    secrets: /data/admin/wmagent/WMAgent.secrets
"""

RETURN = r"""
problems:
  description: What must be put right first.
  returned: success
  type: list
  elements: dict
  sample: [{check: disk, message: 0.9 GB free …}]
release:
  description: The current release, or the one that adoption would write down.
  returned: when the root is an agent's
  type: dict
adopt:
  description: Whether the agent is still to be adopted.
  returned: when the root is an agent's
  type: bool
work_dir:
  description: The agent's C(General.workDir).
  returned: when the root is an agent's
  type: str
root_id:
  description: Identity of the root folder; two agents with the same one share it.
  returned: when the root is an agent's
  type: str
target_release:
  description: Folder name of the release to go to.
  returned: success
  type: str
staged:
  description: Whether it is in place already.
  returned: success
  type: bool
missing_bytes:
  description: Size of the wheels that would have to be sent.
  returned: when a target is given
  type: int
verdict:
  description: The agent's present verdict.
  returned: when the secrets can be read
  type: str
drift:
  description: Files that are not as installed.
  returned: when the root is an agent's
  type: list
  elements: str
config:
  description: The C(config.py) that runs now.
  returned: when the root is an agent's
  type: str
reasons:
  description: Why the verdict is not healthy.
  returned: when the secrets can be read
  type: list
  elements: str
disk_need:
  description: Bytes that staging needs at most.
  returned: when the image is not staged yet
  type: int
disk_free:
  description: Bytes that are free.
  returned: when the image is not staged yet
  type: int
dialect:
  description: V(mariadb) or V(oracle).
  returned: when the database answers
  type: str
tables:
  description: Number of tables in the live schema.
  returned: when the database answers
  type: int
couch_databases:
  description: Number of CouchDB databases.
  returned: when CouchDB answers
  type: int
schema_differences:
  description: Why code alone would not be enough.
  returned: when the databases answer
  type: list
  elements: str
interrupted:
  description: The step at which an earlier switch was cut off.
  returned: when the root is an agent's
  type: str
done:
  description: Whether the agent runs the target already, and is healthy.
  returned: success
  type: bool
"""

from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.common.text.formatters import human_to_bytes
from ansible_collections.dmwm.wmagent.plugins.module_utils._agent.components import masked
from ansible_collections.dmwm.wmagent.plugins.module_utils._agent.layout import AgentLayout
from ansible_collections.dmwm.wmagent.plugins.module_utils._agent.preflight import Request, look
from ansible_collections.dmwm.wmagent.plugins.module_utils._agent.probes import real_probes
from ansible_collections.dmwm.wmagent.plugins.module_utils._agent.secrets import secret_values
from ansible_collections.dmwm.wmagent.plugins.module_utils._errors import WMAgentError
from ansible_collections.dmwm.wmagent.plugins.module_utils._release.description import ImageDescription


def run(params: dict[str, Any]) -> dict[str, Any]:
    """Make all checks. Raises WMAgentError only where the arguments themselves mean nothing."""
    target = params["target"]
    request = Request(
        layout=AgentLayout(Path(params["wmagent_root"])),
        target=ImageDescription.from_dict(target["description"]) if target else None,
        digest=target["digest"] if target else "",
        release=params["release"],
        secrets=Path(params["secrets"]),
        database_name=params["database_name"],
        python=Path(params["python"]),
        components=tuple(params["components"]),
        disk_reserve=_bytes(params["disk_reserve"]),
        require_healthy=params["require_healthy"],
        on_drift=params["on_drift"],
        rollout=params["rollout"],
        break_lock=params["break_lock"],
        settings=params["settings"],
        adopt_prefix=Path(params["adopt_prefix"]) if params["adopt_prefix"] else None,
        adopt_config=Path(params["adopt_config"]) if params["adopt_config"] else None,
    )
    found = look(request, real_probes())
    answer: dict[str, Any] = masked({"problems": found.problems, **found.facts}, secret_values(found.secrets))
    return {"changed": False, **answer}


def _bytes(text: str) -> int:
    try:
        return int(human_to_bytes(text))
    except ValueError:
        raise WMAgentError(f"wmagent_disk_reserve {text!r} is no size; write it as 2G or 500M") from None


def main() -> None:
    """Entry point."""
    module = AnsibleModule(
        argument_spec={
            "wmagent_root": {"type": "path", "required": True},
            "target": {"type": "dict"},
            "release": {"type": "str", "default": ""},
            "secrets": {"type": "path", "required": True, "no_log": False},
            "database_name": {"type": "str", "default": "wmagent"},
            "python": {"type": "path", "default": "/usr/bin/python3.11"},
            "components": {"type": "list", "elements": "str", "default": []},
            "adopt_prefix": {"type": "path"},
            "adopt_config": {"type": "path"},
            "disk_reserve": {"type": "str", "default": "2G"},
            "require_healthy": {"type": "bool", "default": True},
            "on_drift": {"type": "str", "choices": ["fail", "replace"], "default": "fail"},
            "rollout": {"type": "str", "default": ""},
            "break_lock": {"type": "str", "default": ""},
            "settings": {"type": "dict", "default": {}},
        },
        mutually_exclusive=[("target", "release")],
        supports_check_mode=True,
    )
    try:
        result = run(module.params)
    except WMAgentError as error:
        module.fail_json(msg=str(error))
    module.exit_json(**result)


if __name__ == "__main__":
    main()
