# SPDX-License-Identifier: GPL-3.0-or-later
"""May an agent go to another image by code alone? Only where nothing about the structure of its database changes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible_collections.dmwm.wmagent.plugins.module_utils._database.schema import compare, fingerprint
from ansible_collections.dmwm.wmagent.plugins.module_utils._errors import WMAgentError


def differences(
    target: Mapping[str, Any], live: Mapping[str, Any], running: Mapping[str, Any] | None = None
) -> list[str]:
    """Why code alone is not enough: what the target image expects that the live schema is not; [] where it is.

    running: the structure that the running release's image describes, where it has one. A live schema that is not as
             its own image says was changed by hand, and is refused as well.
    """
    found = compare(live, target, ("the live schema", "the target image"))
    if running is not None:
        found += [
            line for line in compare(live, running, ("the live schema", "the running image")) if line not in found
        ]
    return found


def judge(
    target: Mapping[str, Any], live: Mapping[str, Any], running: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """The schema guard's answer as plain data: may this agent go to the target image by code alone?

    running: the structure that the running release's image describes, None where it has none (adopted agents).

    Keys: ``allowed``; ``differences`` (``running_target``, ``live_running``, ``live_target``: lines, None where there
    is no running structure); ``fingerprints``; ``message``.

    Raises WMAgentError where one of them is no structure or has no table: an empty answer is never "the same".
    """
    given = {"target": target, "live": live} | ({} if running is None else {"running": running})
    for name, structure in given.items():
        if not structure:
            raise WMAgentError(f"the {name} schema has no table; build the image again or check wmagent_database_name")
    lines: dict[str, list[str] | None] = {
        "live_target": compare(live, target, ("the live schema", "the target image")),
        "running_target": None,
        "live_running": None,
    }
    if running is not None:
        lines["running_target"] = compare(running, target, ("the running image", "the target image"))
        lines["live_running"] = compare(live, running, ("the live schema", "the running image"))
    allowed = not any(lines.values())
    return {
        "allowed": allowed,
        "differences": lines,
        "fingerprints": {name: fingerprint(structure) for name, structure in given.items()},
        "message": "same structure: code-only is allowed" if allowed else _refusal(lines),
    }


def _refusal(lines: Mapping[str, list[str] | None]) -> str:
    if lines["running_target"] or not lines["live_running"]:
        found = lines["running_target"] or lines["live_target"] or []
        return f"the target image needs another schema ({_start(found)}): drain this agent and redeploy it"
    return (
        f"the live schema is not its own release's ({_start(lines['live_running'] or [])}): "
        "undo what was changed by hand, or drain this agent and redeploy it"
    )


def _start(lines: list[str]) -> str:
    more = f" and {len(lines) - 1} more" if len(lines) > 1 else ""
    return f"{lines[0]}{more}"


def structure_for(description: Mapping[str, Any], dialect: str, name: str) -> Mapping[str, Any]:
    """The structure for a dialect out of an image's ``schema`` (one for each dialect), or a structure given as it is.

    name: whose it is, for the error. Raises WMAgentError where the image describes none for this dialect.
    """
    if not description or set(description) <= {"mariadb", "oracle"}:
        structure = description.get(dialect)
        if not structure:
            raise WMAgentError(f"the {name} describes no {dialect} schema; build it again")
        return dict(structure)
    return description
