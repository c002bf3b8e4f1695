# SPDX-License-Identifier: GPL-3.0-or-later
"""Options of the modules that drain an agent."""

from __future__ import annotations


class ModuleDocFragment:
    """C(dmwm.wmagent.drain): the agent, and how to reach central services."""

    DOCUMENTATION = r"""
options:
  secrets:
    description:
      - The agent's C(WMAgent.secrets) on the agent, which names its database, its CouchDB and the central services.
    type: path
    required: true
  agent:
    description:
      - The agent's full host name, by which ReqMgr2 knows it (C(Agent.hostName) in its C(config.py)); this host's own
        where left out.
    type: str
  timeout:
    description: Seconds to wait for each answer.
    type: float
    default: 30
  host_cert:
    description:
      - File with the client certificate for central services. E(X509_HOST_CERT) where left out.
    type: path
  host_key:
    description:
      - File with its key, without a password. E(X509_HOST_KEY) where left out.
    type: path
  ca_path:
    description:
      - File or folder with the certificates to trust. E(X509_CERT_DIR) where left out, else the system's.
    type: path
"""
