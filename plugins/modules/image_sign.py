#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ansible module: sign an image."""

from __future__ import annotations

DOCUMENTATION = r"""
module: image_sign
short_description: Sign an image with an SSH key
version_added: 0.1.0
description:
  - Signs the digest of an image with C(ssh-keygen -Y sign) in the namespace C(wmagent-image), and keeps the signature
    next to the image.
  - An image may have signatures by several keys.
  - Runs on the controller.
author:
  - dmwm.wmagent contributors (@dmwm)
extends_documentation_fragment:
  - dmwm.wmagent.repository
attributes:
  check_mode:
    support: full
    description: Tells whether a signature would be added, and adds none.
  diff_mode:
    support: none
    description: A signature has no content worth reading.
  idempotent:
    support: full
    description: Adds nothing where O(allowed_signers) hold a good signature, or this very one is there.
options:
  image:
    description: Name of the image.
    type: str
    required: true
  key:
    description: The private key, without a passphrase; or a public key whose private half an SSH agent holds.
    type: path
    required: true
  allowed_signers:
    description: OpenSSH allowed signers file. Where one of them has signed the image, nothing is done.
    type: path
"""

EXAMPLES = r"""
- name: Sign an image
  dmwm.wmagent.image_sign:
    repository: /srv/wmagent/images
    image: 2.4.5.9-p1
    key: ~/.ssh/wmagent_release
  delegate_to: localhost
"""

RETURN = r"""
name:
  description: Name of the image.
  returned: success
  type: str
digest:
  description: Digest that is signed.
  returned: success
  type: str
"""

from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.dmwm.wmagent.plugins.module_utils._errors import WMAgentError
from ansible_collections.dmwm.wmagent.plugins.module_utils._release.repository import open_repository
from ansible_collections.dmwm.wmagent.plugins.module_utils._release.signature import make_signature, signer_of


def run(params: dict[str, Any], check: bool) -> dict[str, Any]:
    """Sign where that is due. Raises WMAgentError."""
    repository = open_repository(params["repository"], timeout=params["network_timeout"], ca_file=params["ca_file"])
    image = repository.image(params["image"])
    signed = bool(params["allowed_signers"] and signer_of(repository, image, Path(params["allowed_signers"])))
    signature = b"" if signed else make_signature(image, Path(params["key"]))
    changed = not signed and signature not in repository.signature(image)
    if changed and not check:
        repository.put_signature(image, signature)
    return {"changed": changed, "name": image.name, "digest": image.digest}


def main() -> None:
    """Entry point."""
    module = AnsibleModule(
        argument_spec={
            "repository": {"type": "str", "required": True},
            "ca_file": {"type": "path"},
            "network_timeout": {"type": "float", "default": 60},
            "image": {"type": "str", "required": True},
            "key": {"type": "path", "required": True},
            "allowed_signers": {"type": "path"},
        },
        supports_check_mode=True,
    )
    try:
        result = run(module.params, module.check_mode)
    except WMAgentError as error:
        module.fail_json(msg=str(error))
    module.exit_json(**result)


if __name__ == "__main__":
    main()
