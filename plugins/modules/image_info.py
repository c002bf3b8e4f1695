#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ansible module: read an image of a repository."""

from __future__ import annotations

DOCUMENTATION = r"""
module: image_info
short_description: Read an image of a repository
version_added: 0.1.0
description:
  - Returns the description of an image after its digests, and its signature where asked for, were checked.
  - Fails where the image is unknown, truncated or tampered with, and with O(allowed_signers) also where it is not
    signed by one of them.
  - Runs on the controller.
author:
  - dmwm.wmagent contributors (@dmwm)
extends_documentation_fragment:
  - dmwm.wmagent.repository
  - dmwm.wmagent.agent.info
options:
  image:
    description:
      - Name of the image, such as V(2.4.5.9-p1).
      - Where left out, only the names of all images are returned.
    type: str
  verify:
    description:
      - How far to check. V(content) reads every wheel and checks its digest, V(presence) only that each is there with
        its size.
      - Manifest and description are checked either way.
    type: str
    choices: [content, presence]
    default: content
  allowed_signers:
    description: OpenSSH allowed signers file. Where given, the image must be signed by one of them.
    type: path
"""

EXAMPLES = r"""
- name: Read an image that must be signed
  dmwm.wmagent.image_info:
    repository: /srv/wmagent/images
    image: 2.4.5.9-p1
    allowed_signers: /etc/wmagent/allowed_signers
  delegate_to: localhost

- name: List all images of a registry
  dmwm.wmagent.image_info:
    repository: https://images.example.org/cms/wmagent
  delegate_to: localhost
"""

RETURN = r"""
names:
  description: Names of all images.
  returned: without O(image)
  type: list
  elements: str
  sample: [2.4.4, 2.4.5.9-p1]
name:
  description: Name of the image.
  returned: with O(image)
  type: str
  sample: 2.4.5.9-p1
digest:
  description: Digest of its manifest, which stands for all of it.
  returned: with O(image)
  type: str
  sample: sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef
size:
  description: Size of its wheels, in bytes.
  returned: with O(image)
  type: int
  sample: 61700000
inputs:
  description: Digest of all that it was built from.
  returned: with O(image)
  type: str
description:
  description: The whole description, with tag, version, patches, python, platform, glibc, wheels, lock and schema.
  returned: with O(image)
  type: dict
  sample: {name: 2.4.5.9-p1, tag: 2.4.5.9, version: 2.4.5.9+p1, patch_level: 1, python: "3.11", platform: linux-x86_64}
signature:
  description: The image's signature.
  returned: with O(image)
  type: dict
  contains:
    signed:
      description: Whether the repository holds any signature of it.
      type: bool
    signer:
      description: The allowed signer whose signature holds; empty where O(allowed_signers) is not given.
      type: str
      sample: release@example.org
"""

from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.dmwm.wmagent.plugins.module_utils._errors import WMAgentError
from ansible_collections.dmwm.wmagent.plugins.module_utils._release.repository import open_repository
from ansible_collections.dmwm.wmagent.plugins.module_utils._release.signature import verify_signature


def run(params: dict[str, Any]) -> dict[str, Any]:
    """Read what is asked for. Raises WMAgentError where it is not there or does not hold."""
    repository = open_repository(params["repository"], timeout=params["network_timeout"], ca_file=params["ca_file"])
    if not params["image"]:
        return {"names": repository.names()}
    image = repository.image(params["image"])
    signer = ""
    if params["allowed_signers"]:
        signer = verify_signature(repository, image, Path(params["allowed_signers"]))
    repository.verify(image, content=params["verify"] == "content")
    return {
        "name": image.name,
        "digest": image.digest,
        "size": image.size,
        "inputs": image.inputs,
        "description": image.description.as_dict(),
        "signature": {"signed": bool(signer or repository.signature(image)), "signer": signer},
    }


def main() -> None:
    """Entry point."""
    module = AnsibleModule(
        argument_spec={
            "repository": {"type": "str", "required": True},
            "ca_file": {"type": "path"},
            "network_timeout": {"type": "float", "default": 60},
            "image": {"type": "str"},
            "verify": {"type": "str", "choices": ["content", "presence"], "default": "content"},
            "allowed_signers": {"type": "path"},
        },
        supports_check_mode=True,
    )
    try:
        module.exit_json(changed=False, **run(module.params))
    except WMAgentError as error:
        module.fail_json(msg=str(error))


if __name__ == "__main__":
    main()
