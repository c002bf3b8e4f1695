#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
"""A long module for tests: counts, a number every tenth of a second, into a file, and ends as the real ones do."""

from __future__ import annotations

import os
import time
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.dmwm.wmagent.plugins.module_utils import _long_task
from ansible_collections.dmwm.wmagent.plugins.module_utils._limits import Limits
from ansible_collections.dmwm.wmagent.plugins.module_utils._long_task import run_long
from ansible_collections.dmwm.wmagent.plugins.module_utils._progress import report


def main() -> None:
    """Entry point."""
    module = AnsibleModule(
        argument_spec={
            "seconds": {"type": "float", "required": True},
            "folder": {"type": "path", "required": True},
            "step": {"type": "str", "default": "counts"},
            "password": {"type": "str", "no_log": True},
            "fails": {"type": "bool", "default": False},
        },
        supports_check_mode=True,
    )
    params = module.params
    limits = Limits(None, None, None)
    process = Path(params["folder"], "process")
    process.with_suffix(".new").write_text(str(os.getpid()))
    process.with_suffix(".new").rename(process)
    number, total, stopped = 0, int(params["seconds"] * 10), ""
    while number < total and not (stopped := limits.reason(0)):
        report(params["step"], number, total, "numbers")
        time.sleep(0.1)
        number += 1
        Path(params["folder"], "count").write_text(str(number))
    Path(params["folder"], "ended").write_text(stopped or "done")
    if params["fails"]:
        module.fail_json(msg=f"it failed with {params['password']}", number=number)
    diff = {"before": "0\n", "after": f"{number}\n"} if module._diff else {}
    module.warn("it counted")
    module.exit_json(changed=True, check=module.check_mode, number=number, stopped_by=stopped, diff=diff)


if __name__ == "__main__":
    _long_task.LOST = float(os.environ.get("LOST", _long_task.LOST))
    run_long(main)
