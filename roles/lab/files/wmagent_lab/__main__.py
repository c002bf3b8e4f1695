# SPDX-License-Identifier: GPL-3.0-or-later
"""``python wmagent_lab <verb>``: request as JSON on stdin, result as JSON on stdout, failures on stderr."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any


def _find_collection() -> None:
    """Make the collection importable, installed or in a checkout, wherever this role stands in it."""
    here = Path(__file__).absolute()
    for parent in here.parents:
        for candidate in (parent, parent / "collections"):
            if (candidate / "ansible_collections" / "dmwm" / "wmagent").is_dir():
                sys.path.insert(0, str(candidate))
                sys.path.insert(0, str(here.parent.parent))
                return
    sys.exit("the collection dmwm.wmagent is not where this role is; install it whole")


def main() -> int:
    """One verb; the exit code is 1 for a condition the user can mend."""
    _find_collection()
    from ansible_collections.dmwm.wmagent.plugins.module_utils._errors import WMAgentError

    from wmagent_lab import verbs

    try:
        result: dict[str, Any] = verbs.run(sys.argv[1], json.load(sys.stdin))
    except WMAgentError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    json.dump(result, sys.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(main())
