# SPDX-License-Identifier: GPL-3.0-or-later
"""When a long piece of work ends although there is more to do."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from ansible_collections.dmwm.wmagent.plugins.module_utils._errors import WMAgentError
from ansible_collections.dmwm.wmagent.plugins.module_utils._long_task import stop_reason

MAX_RUNTIME = "max_runtime"
MAX_ROWS = "max_rows"
STOP_FILE = "stop_file"


class Limits:
    """When a run ends although there is more to do; the time counts from here on.

    max_runtime: seconds, None for no limit
    max_rows:    rows, None for no limit
    stop_file:   a file whose presence ends the run, None for none
    clock:       seconds, never set back

    Raises WMAgentError for a limit below 0; 0 ends the run before its first step.
    """

    def __init__(
        self,
        max_runtime: float | None,
        max_rows: int | None,
        stop_file: Path | None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        for name, value in ((MAX_RUNTIME, max_runtime), (MAX_ROWS, max_rows)):
            if value is not None and not value >= 0:
                raise WMAgentError(f"{name} is {value}; it must be 0 or more, or left out for no limit")
        self._deadline = None if max_runtime is None else clock() + max_runtime
        self._max_rows = max_rows
        self._stop_file = stop_file
        self._clock = clock

    def reason(self, rows_done: int) -> str:
        """Why to end now: 'controller', 'stop_file', 'max_runtime' or 'max_rows'; '' to go on.

        Raises WMAgentError where nobody can tell whether the stop file is there.
        """
        if reason := stop_reason():
            return reason
        if self._stop_file is not None and _is_there(self._stop_file):
            return STOP_FILE
        if self.seconds_left() == 0:
            return MAX_RUNTIME
        return MAX_ROWS if self.rows_left(rows_done) == 0 else ""

    def rows_left(self, rows_done: int) -> int | None:
        """How many more rows may go, 0 or more; None without a limit."""
        return None if self._max_rows is None else max(self._max_rows - rows_done, 0)

    def seconds_left(self) -> float | None:
        """Seconds until the time is up, 0 or more; None without a limit."""
        return None if self._deadline is None else max(self._deadline - self._clock(), 0.0)


def _is_there(file: Path) -> bool:
    try:
        file.lstat()
    except FileNotFoundError:
        return False
    except OSError as error:
        raise WMAgentError(f"cannot tell whether the stop file {file} is there ({error.strerror}); mend it") from None
    return True
