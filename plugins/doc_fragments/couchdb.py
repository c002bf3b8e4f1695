# SPDX-License-Identifier: GPL-3.0-or-later
"""Options of the modules that work on an agent's CouchDB."""

from __future__ import annotations


class ModuleDocFragment:
    """C(dmwm.wmagent.couchdb): how to reach an agent's CouchDB."""

    DOCUMENTATION = r"""
options:
  secrets:
    description:
      - The agent's C(WMAgent.secrets) on the agent, whose C(COUCH_USER), C(COUCH_PASS), C(COUCH_HOST), C(COUCH_PORT)
        and, for TLS, C(COUCH_CA_FILE), C(COUCH_CERT_FILE) and C(COUCH_KEY_FILE) tell how to reach CouchDB. The account
        has to be an admin.
    type: path
    required: true
  timeout:
    description: Seconds to wait for each answer.
    type: float
    default: 30
requirements:
  - python-couchdb (PyPI C(CouchDB)); the tools environment staged with an image has it
notes:
  - For CouchDB 3.2 to 3.5.
"""

    DATABASES = r"""
options:
  databases:
    description: Names of databases; all but CouchDB's own where empty.
    type: list
    elements: str
    default: []
"""

    LIMITS = r"""
options:
  max_runtime:
    description: Longest time at work, a number with C(s), C(m), C(h) or C(d); no limit where left out.
    type: str
  stop_file:
    description: A file on the agent whose presence ends the run between two requests.
    type: path
"""
