# SPDX-License-Identifier: GPL-3.0-or-later
"""Blockers that a person has decided not to wait for. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from ansible_collections.dmwm.wmagent.plugins.module_utils._drain.blockers import SIGNALS, UNKNOWN, Blocker
from ansible_collections.dmwm.wmagent.plugins.module_utils._errors import WMAgentError

_LAST_DAY = "it ends with that day, in UTC"


@dataclass(frozen=True)
class Waiver:
    """A person's decision not to wait for one blocker.

    blocker: the signal
    expires: UNIX time, seconds; from then on it counts no more
    at_most: it covers so many and not one more; None for any number
    """

    blocker: str
    reason: str
    person: str
    expires: float
    at_most: int | None = None


@dataclass(frozen=True)
class Waived:
    """A blocker and the waiver that covers it."""

    blocker: Blocker
    waiver: Waiver

    def as_dict(self) -> dict[str, Any]:
        """Plain data, for a result."""
        waiver = self.waiver
        return {
            **self.blocker.as_dict(),
            "waiver": {
                "reason": waiver.reason,
                "person": waiver.person,
                "expires": waiver.expires,
                "at_most": waiver.at_most,
            },
        }


def waivers_of(options: Sequence[Mapping[str, Any]]) -> list[Waiver]:
    """Waivers as people write them. Raises WMAgentError for a name that is none and for what is left blank."""
    found = []
    for option in options:
        name = str(option.get("blocker") or "").strip()
        if name not in SIGNALS:
            raise WMAgentError(f"waivers: there is no blocker {name!r}; it is one of {', '.join(sorted(SIGNALS))}")
        if SIGNALS[name].kind == UNKNOWN:
            raise WMAgentError(f"waivers: {name} cannot be waived: what nobody knows may be anything; mend the source")
        for key in ("reason", "person", "expires"):
            if not str(option.get(key) or "").strip():
                raise WMAgentError(f"waivers: the one for {name} has no {key}; a waiver tells why, who and until when")
        at_most = option.get("at_most")
        if at_most is not None and at_most < 1:
            raise WMAgentError(f"waivers: at_most of {name} is {at_most}; it must be 1 or more, or left out")
        expires = _time_of(str(option["expires"]).strip(), name)
        found.append(Waiver(name, str(option["reason"]).strip(), str(option["person"]).strip(), expires, at_most))
    return found


def _time_of(text: str, name: str) -> float:
    try:
        when = datetime.fromisoformat(text)
    except ValueError:
        raise WMAgentError(
            f"waivers: expires of {name} is {text!r}; write a day such as 2026-12-31 ({_LAST_DAY}), or a day and time"
        ) from None
    when = when if when.tzinfo else when.replace(tzinfo=UTC)
    return (when + timedelta(days=1) if len(text) == len("2026-12-31") else when).timestamp()


def apply_waivers(
    blockers: Iterable[Blocker], waivers: Sequence[Waiver], now: float
) -> tuple[list[Blocker], list[Waived]]:
    """Blockers that still count, and those that a waiver covers. now: UNIX time, seconds.

    What could not be read is covered by no waiver.
    """
    left: list[Blocker] = []
    waived: list[Waived] = []
    for blocker in blockers:
        waiver = next((one for one in waivers if _covers(one, blocker, now)), None)
        if waiver is None:
            left.append(blocker)
        else:
            waived.append(Waived(blocker, waiver))
    return left, waived


def _covers(waiver: Waiver, blocker: Blocker, now: float) -> bool:
    return (
        waiver.blocker == blocker.signal
        and blocker.kind != UNKNOWN
        and blocker.count is not None
        and now < waiver.expires
        and (waiver.at_most is None or blocker.count <= waiver.at_most)
    )
