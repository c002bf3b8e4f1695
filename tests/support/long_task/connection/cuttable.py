# SPDX-License-Identifier: GPL-3.0-or-later
"""Connection plugin: local, and lost while there is a file of the host's name in the folder that CUT names."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleConnectionFailure
from ansible.plugins.connection.local import Connection as LocalConnection

DOCUMENTATION = """
name: cuttable
short_description: Local, and lost at will
description: See above.
"""


class Connection(LocalConnection):
    """See above."""

    transport = "cuttable"

    def exec_command(self, cmd: str, in_data: bytes | None = None, sudoable: bool = True) -> Any:
        """As the local one, where there is a connection."""
        if Path(os.environ["CUT"], self._play_context.remote_addr).exists():
            raise AnsibleConnectionFailure("the link is cut")
        return super().exec_command(cmd, in_data=in_data, sudoable=sudoable)
