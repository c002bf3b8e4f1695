#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ansible module: put back the DBSBuffer rows that a cleanup deleted."""

from __future__ import annotations

DOCUMENTATION = r"""
module: dbsbuffer_restore
short_description: Put DBSBuffer rows back from the archive of a cleanup
version_added: 0.1.0
description:
  - Puts back what a cleanup deleted, from the archive that it wrote before. Each row gets the ids that it had.
  - A row that is there already with the same contents is left alone. Where an id or a name is taken by other contents,
    nothing is written, and nothing is ever overwritten.
  - Everything is checked before anything is written. Datasets, algos, locations and checksum types that the rows refer
    to have to be what they were, which they are not in a database that was set up again.
  - Each step of the cleanup comes back in a transaction of its own. What an interrupted run leaves, the next one ends.
  - Lumis of a file come back together with the file only, since nothing tells one of their rows from another.
notes:
  - Where a cleanup was run more than once since, restore its archives from the newest to the oldest.
  - An archive that a crash cut short is restored up to its last complete step, with a warning.
  - The agent may run meanwhile. It does nothing with these rows, which are done in every respect. The next cleanup
    deletes them again, unless its retention is longer.
seealso:
  - module: dmwm.wmagent.dbsbuffer_cleanup
author:
  - dmwm.wmagent contributors (@dmwm)
extends_documentation_fragment:
  - dmwm.wmagent.database.login
  - dmwm.wmagent.agent.changes
options:
  archive:
    description: The archive on the agent, C(dbsbuffer-<database>-<time>.jsonl.gz).
    type: path
    required: true
"""

EXAMPLES = r"""
- name: Put back what a cleanup deleted
  dmwm.wmagent.dbsbuffer_restore:
    secrets: /data/admin/wmagent/WMAgent.secrets
    archive: /data/srv/archive/dbsbuffer-wmagent-20260301T041500Z.jsonl.gz

- name: Only look at what would come back
  dmwm.wmagent.dbsbuffer_restore:
    secrets: /data/admin/wmagent/WMAgent.secrets
    archive: /data/srv/archive/dbsbuffer-wmagent-20260301T041500Z.jsonl.gz
  check_mode: true
  diff: true
"""

RETURN = r"""
restored:
  description: Rows that were put back by table (in check mode, that would be); only tables with any.
  returned: success
  type: dict
already_there:
  description:
    - Rows of the archive by table that were left alone, since the database has them, or a later step of the archive.
  returned: success
  type: dict
archive:
  description:
    - What the archive holds, with C(database), C(dialect), C(time) (UTC), C(rows) by table, the number of C(steps),
      whether it is C(complete), and a C(notice) where it is not.
  returned: success
  type: dict
"""

from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.dmwm.wmagent.plugins.module_utils._agent.login import (
    LOGIN_OPTIONS,
    LOGIN_RULES,
    settings_from_options,
)
from ansible_collections.dmwm.wmagent.plugins.module_utils._database.connection import connect
from ansible_collections.dmwm.wmagent.plugins.module_utils._dbsbuffer.archive_reader import describe, read_contents
from ansible_collections.dmwm.wmagent.plugins.module_utils._dbsbuffer.one_at_a_time import keep_others_away
from ansible_collections.dmwm.wmagent.plugins.module_utils._dbsbuffer.restore import restore
from ansible_collections.dmwm.wmagent.plugins.module_utils._dbsbuffer.space import count_rows
from ansible_collections.dmwm.wmagent.plugins.module_utils._errors import WMAgentError

_STATEMENT_TIMEOUT = 3600
"""Seconds; counting the rows of a large table takes its time."""


def run(params: dict[str, Any], check: bool, diff: bool) -> dict[str, Any]:
    """Restore, or tell what would be. Raises WMAgentError."""
    contents = read_contents(Path(params["archive"]))
    with connect(
        settings_from_options(params), params["timeout"], read_only=check, statement_timeout=_STATEMENT_TIMEOUT
    ) as connection:
        if not check:
            keep_others_away(connection)
        before = count_rows(connection) if diff else {}
        done = restore(connection, contents, check=check)
    result = {
        "changed": bool(+done.inserted),
        "restored": dict(+done.inserted),
        "already_there": dict(+done.skipped),
        "archive": describe(contents),
    }
    if diff:
        after = {table: rows + done.inserted[table] for table, rows in before.items()}
        result["diff"] = {"before": _lines(before), "after": _lines(after)}
    return result


def _lines(rows: dict[str, int]) -> str:
    return "".join(f"{table}: {count} rows\n" for table, count in rows.items())


def main() -> None:
    """Entry point."""
    module = AnsibleModule(
        argument_spec={**LOGIN_OPTIONS, "archive": {"type": "path", "required": True}},
        supports_check_mode=True,
        **LOGIN_RULES,
    )
    try:
        result = run(module.params, module.check_mode, module._diff)
    except WMAgentError as error:
        module.fail_json(msg=str(error))
    if notice := result["archive"]["notice"]:
        module.warn(notice)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
