#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of the action plugin of the same name."""

from __future__ import annotations

DOCUMENTATION = r"""
module: report
short_description: Write what is known of all WMAgents as a page, as JSON and as Markdown
version_added: 0.1.0
description:
  - Runs on the controller, over what M(dmwm.wmagent.history) returned as RV(dmwm.wmagent.history#module:report).
  - The page is one HTML file that needs no network and runs no script. Its charts are drawn by matplotlib, which the
    controller needs for O(html) only.
  - What looks like a password, a token, a private key or a URL with credentials is blotted out in all formats.
  - Each file is replaced as a whole. One that differs in the time of the report alone is left as it is.
author:
  - dmwm.wmagent contributors (@dmwm)
attributes:
  check_mode:
    support: full
    description: Tells what would be written.
  diff_mode:
    support: partial
    description: Names the files that would change.
  action:
    support: full
    description: Runs on the controller.
options:
  model:
    description: The report as RV(dmwm.wmagent.history#module:report) has it.
    type: dict
    required: true
  html:
    description: File for the page. One of O(html), O(json) and O(markdown) is needed.
    type: path
  json:
    description: File for all of it as JSON.
    type: path
  markdown:
    description: File for a wiki.
    type: path
"""

EXAMPLES = r"""
- name: Put the report together
  dmwm.wmagent.history:
    state: reported
    path: ~/.local/state/dmwm.wmagent/history.sqlite
    agents: "{{ ansible_play_hosts_all }}"
  run_once: true
  register: reported

- name: Write the report
  dmwm.wmagent.report:
    model: "{{ reported.report }}"
    html: /srv/www/wmagents/index.html
    json: /srv/www/wmagents/report.json
    markdown: /srv/www/wmagents/report.md
  run_once: true
"""

RETURN = r"""
summary:
  description: What was written, in one line.
  returned: success
  type: str
written:
  description: The files that said something new and were written, or would be in check mode.
  returned: success
  type: list
  elements: str
files:
  description: All files of the report, by format.
  returned: success
  type: dict
"""
