# SPDX-License-Identifier: GPL-3.0-or-later
"""Filter: a length of time as people write it, in seconds."""

from __future__ import annotations

DOCUMENTATION = r"""
name: seconds
short_description: Seconds of a length of time
version_added: 0.1.0
description:
  - Turns V(90), V(90s), V(15m), V(12h), V(30d) or V(2w) into seconds, as this collection's modules read their options.
positional: _input
options:
  _input:
    description: The length of time.
    type: str
    required: true
author:
  - dmwm.wmagent contributors (@dmwm)
"""

EXAMPLES = r"""
- name: Show a week's seconds
  ansible.builtin.debug:
    msg: "{{ '1w' | dmwm.wmagent.seconds }}"
"""

RETURN = r"""
_value:
  description: Seconds.
  type: float
"""

from collections.abc import Callable
from typing import Any

from ansible.errors import AnsibleFilterError
from ansible_collections.dmwm.wmagent.plugins.module_utils._duration import seconds_of
from ansible_collections.dmwm.wmagent.plugins.module_utils._errors import WMAgentError


def seconds(text: Any) -> float:
    """Seconds. Raises AnsibleFilterError for what is no length of time."""
    try:
        return seconds_of(str(text), "the length of time")
    except WMAgentError as error:
        raise AnsibleFilterError(str(error)) from None


class FilterModule:
    """What Ansible asks for."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Name -> filter."""
        return {"seconds": seconds}
