# SPDX-License-Identifier: GPL-3.0-or-later
"""Options of the modules that open an image repository."""

from __future__ import annotations


class ModuleDocFragment:
    """C(dmwm.wmagent.repository): where images are kept."""

    DOCUMENTATION = r"""
options:
  repository:
    description:
      - Where images are kept. A folder in OCI layout, or C(http[s]://host[:port]/path) of an OCI registry.
      - Credentials for a registry are taken from C(WMAGENT_REGISTRY_TOKEN), or C(WMAGENT_REGISTRY_USER) and
        C(WMAGENT_REGISTRY_PASSWORD), or from docker's C(config.json). They never travel in the clear to another
        machine.
    type: str
    required: true
  ca_file:
    description: File with the certificates to trust for an C(https) registry; the system's where left out.
    type: path
  network_timeout:
    description: Seconds that a registry may stay silent.
    type: float
    default: 60
"""
