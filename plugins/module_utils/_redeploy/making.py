# SPDX-License-Identifier: GPL-3.0-or-later
"""A database made anew: that it may be, that it is what its image describes, and whose it is."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from ansible_collections.dmwm.wmagent.plugins.module_utils._database.connection import Connection
from ansible_collections.dmwm.wmagent.plugins.module_utils._database.schema import compare, fingerprint
from ansible_collections.dmwm.wmagent.plugins.module_utils._database.schema_reader import read_structure
from ansible_collections.dmwm.wmagent.plugins.module_utils._errors import WMAgentError

FILLED_BY_RELEASES = frozenset(
    [
        "bl_status",
        "dbsbuffer_checksum_type",
        "dbsbuffer_location",
        "rc_threshold",
        "wma_init",
        "wmbs_checksum_type",
        "wmbs_job_state",
        "wmbs_location",
        "wmbs_location_pnns",
        "wmbs_location_state",
        "wmbs_pnns",
        "wmbs_sub_types",
    ]
)
"""Tables that ``wmcore-db-init``, ``wmagent-resource-control`` or :func:`note_build` puts rows into."""


def refuse_used(connection: Connection, rows: Mapping[str, int]) -> None:
    """Raise WMAgentError where a database holds more than a release puts into it by itself.

    rows: of each of its tables
    """
    if used := sorted(name for name, count in rows.items() if count and name not in FILLED_BY_RELEASES):
        raise WMAgentError(
            f"{connection.settings.where}: {used[0]} has {rows[used[0]]} rows already, so an agent works with this "
            "database; it is not made anew"
        )


def checked_schema(connection: Connection, wanted: Mapping[str, Any], release: str) -> str:
    """Fingerprint of a database that is as an image describes it. Raises WMAgentError where it is not."""
    live = read_structure(connection)
    if lines := compare(live, wanted, ("the database", "its image")):
        raise WMAgentError(f"wmcore-db-init of {release} made another schema than its image describes: {lines[0]}")
    return fingerprint(live)


def note_build(connection: Connection, tag: str, hostname: str, wanted: bool) -> None:
    """Note in ``wma_init`` what upstream's deployment notes there (its init.sh): build, tag and host.

    tag: of the release, ``X.Y.Z`` or more. wanted: whether the release has that table
    """
    if not wanted:
        return
    build = hashlib.sha256(f"{'.'.join(tag.split('.')[:3])}\n".encode()).hexdigest()
    rows = {"wma_build_id": build, "wma_tag": tag, "hostname": hostname, "is_active": "true"}
    connection.begin()
    connection.execute("DELETE FROM wma_init")
    for name, value in rows.items():
        connection.execute("INSERT INTO wma_init (init_param, init_value) VALUES (%s, %s)", (name, value))
    connection.commit()


def forget_sites(connection: Connection) -> None:
    """Empty what ``wmagent-resource-control`` fills, of an agent that has never worked. Raises WMAgentError."""
    connection.begin()
    for statement in (
        "DELETE FROM rc_threshold",
        "DELETE FROM wmbs_location_pnns",
        "DELETE FROM wmbs_pnns",
        "DELETE FROM wmbs_location",
    ):
        connection.execute(statement)
    connection.commit()


def count_sites(connection: Connection) -> int:
    """How many sites the agent knows. Raises WMAgentError where it knows none."""
    sites = int(connection.query("SELECT COUNT(*) FROM wmbs_location")[0][0])
    if not sites:
        raise WMAgentError("wmagent-resource-control ended well, and the agent knows no site; look at commands")
    return sites
