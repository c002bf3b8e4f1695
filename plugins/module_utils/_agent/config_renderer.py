# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs under a *release's* interpreter, with its request as JSON on standard input. See config.py beside it."""

from __future__ import annotations

import json
import runpy
import sys
from typing import Any


def main() -> int:
    """Call the release's own wmagent-mod-config, then set what it has no option for."""
    request = json.load(sys.stdin)
    sys.argv = [request["program"], f"--input={request['input']}", f"--output={request['output']}"]
    sys.argv += [f"--{name}={value}" for name, value in sorted(request["options"].items())]
    try:
        runpy.run_path(request["program"], run_name="__main__")
    except SystemExit as stop:
        if stop.code:
            return int(stop.code) if isinstance(stop.code, int) else 1

    from WMCore.Configuration import loadConfigurationFile, saveConfigurationFile

    config = loadConfigurationFile(request["output"])
    if getattr(config.Agent, "teamName", "") == "REPLACE_TEAM_NAME":
        config.Agent.teamName = request["team"]
    config.Agent.agentNumber = request["agent_number"]
    if hasattr(config, "JobSubmitter"):
        config.JobSubmitter.submitScript = request["submit_script"]
    if request["components"]:
        unknown = sorted(set(request["components"]) - set(config.listComponents_()))
        if unknown:
            sys.stderr.write(f"wmagent_components names {', '.join(unknown)}, which this release does not have\n")
            return 1
        keep_components(config, request["components"])
    for dotted, value in request["overrides"].items():
        *sections, name = dotted.split(".")
        target = config
        for section in sections:
            if not hasattr(target, section):
                sys.stderr.write(f"wmagent_config names {dotted}, but this release's config has no section {section}\n")
                return 1
            target = getattr(target, section)
        setattr(target, name, value)
    saveConfigurationFile(config, request["output"])
    return 0


def keep_components(config: Any, kept: list[str]) -> None:
    """Leave out all other components: AgentWatchdog starts every one that config.py lists. Their settings stay."""
    config._internal_components = [name for name in config.listComponents_() if name in kept]
    watchdog = getattr(config, "AgentWatchdog", None)
    if watchdog is not None and hasattr(watchdog, "watchedComponents"):
        watchdog.watchedComponents = [name for name in watchdog.watchedComponents if name in kept]


if __name__ == "__main__":
    sys.exit(main())
