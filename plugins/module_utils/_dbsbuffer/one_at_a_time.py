# SPDX-License-Identifier: GPL-3.0-or-later
"""One cleanup or restore of a database at a time."""

from __future__ import annotations

from ansible_collections.dmwm.wmagent.plugins.module_utils._database.connection import MARIADB, Connection
from ansible_collections.dmwm.wmagent.plugins.module_utils._errors import WMAgentError

_LONGEST = 64
"""Characters that MariaDB takes in a lock's name."""


def keep_others_away(connection: Connection) -> None:
    """Hold the database's own lock as long as the session lasts. Raises WMAgentError where another session has it.

    On Oracle two at once get in each other's way and do no harm; MariaDB has such a lock for any account.
    """
    if connection.dialect != MARIADB:
        return
    name = f"dmwm.wmagent.{connection.database}"[:_LONGEST]
    if connection.query("SELECT GET_LOCK(%s, 0)", (name,))[0][0] != 1:
        raise WMAgentError(
            f"another cleanup or restore of database {connection.database} is running; wait for it to end"
        )
