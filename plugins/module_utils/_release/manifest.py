# SPDX-License-Identifier: GPL-3.0-or-later
"""An image as OCI documents: the manifest, the config blob that carries the description, and back. Pure."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from ansible_collections.dmwm.wmagent.plugins.module_utils._errors import WMAgentError
from ansible_collections.dmwm.wmagent.plugins.module_utils._release.description import (
    INPUTS_ANNOTATION,
    PART_ANNOTATION,
    Image,
    ImageDescription,
    Wheel,
    canonical_json,
    check_digest,
)

MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
INDEX_TYPE = "application/vnd.oci.image.index.v1+json"
# Tools that list or copy images refuse a config of a type of our own, so the description is one more key of a plain
# image config.
CONFIG_TYPE = "application/vnd.oci.image.config.v1+json"
# Not one of the tar types: tools would gzip those on the way and so change the digest.
WHEEL_TYPE = "application/vnd.dmwm.wmagent.wheel.v1+zip"
SIGNATURE_TYPE = "application/vnd.dmwm.wmagent.signature.v1+ssh"
DESCRIPTION_KEY = "io.github.dmwm.wmagent.description"
TITLE_ANNOTATION = "org.opencontainers.image.title"
REF_ANNOTATION = "org.opencontainers.image.ref.name"

MAX_DOCUMENT = 16 * 1024 * 1024
"""Bytes; a manifest or a config above this is refused before it is read."""

_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


def digest_of(content: bytes) -> str:
    """``sha256:<64 hex>`` of ``content``."""
    return "sha256:" + hashlib.sha256(content).hexdigest()


def signature_name(digest: str) -> str:
    """The name under which signatures of the manifest ``digest`` are kept, next to the images."""
    return check_digest(digest).replace(":", "-") + ".sig"


def is_signature_name(name: str) -> bool:
    """True for names made by ``signature_name``."""
    return name.startswith("sha256-") and name.endswith(".sig")


def make_config(description: ImageDescription) -> bytes:
    """The config blob of an image."""
    system, _, machine = description.platform.partition("-")
    wheels = description.wheels
    return canonical_json(
        {
            "architecture": _ARCHITECTURES.get(machine, machine),
            "os": system,
            "created": description.created,
            "config": {
                "Labels": {
                    "org.opencontainers.image.version": description.name,
                    "io.github.dmwm.wmagent.version": description.version,
                    "io.github.dmwm.wmagent.python": description.python,
                }
            },
            "rootfs": {"type": "layers", "diff_ids": [wheel.digest for wheel in wheels]},
            "history": [{"created": description.created, "created_by": wheel.filename} for wheel in wheels],
            DESCRIPTION_KEY: description.as_dict(),
        }
    )


def make_manifest(description: ImageDescription, config: bytes, inputs: str) -> bytes:
    """The manifest of an image; ``inputs`` is the digest of all that it was built from."""
    return canonical_json(
        {
            "schemaVersion": 2,
            "mediaType": MANIFEST_TYPE,
            "config": {"mediaType": CONFIG_TYPE, "digest": digest_of(config), "size": len(config)},
            "layers": [_layer(wheel) for wheel in description.wheels],
            "annotations": {
                "org.opencontainers.image.created": description.created,
                "org.opencontainers.image.version": description.name,
                INPUTS_ANNOTATION: inputs,
            },
        }
    )


def make_signature_manifest(image_digest: str, config: bytes, signatures: list[bytes]) -> bytes:
    """The manifest that holds SSH signatures of the image manifest ``image_digest``."""
    return canonical_json(
        {
            "schemaVersion": 2,
            "mediaType": MANIFEST_TYPE,
            "config": {"mediaType": CONFIG_TYPE, "digest": digest_of(config), "size": len(config)},
            "layers": [
                {"mediaType": SIGNATURE_TYPE, "digest": digest_of(signature), "size": len(signature)}
                for signature in signatures
            ],
            "annotations": {"io.github.dmwm.wmagent.signed": image_digest},
        }
    )


def read_manifest(content: bytes, where: str) -> dict[str, Any]:
    """Parse a manifest and check its shape; ``where`` names it in the error."""
    try:
        manifest = json.loads(content)
        if manifest["schemaVersion"] != 2 or manifest.get("mediaType", MANIFEST_TYPE) != MANIFEST_TYPE:
            raise ValueError("not an OCI image manifest")
        for entry in (manifest["config"], *manifest["layers"]):
            check_digest(entry["digest"])
            if not isinstance(entry["size"], int) or entry["size"] < 0:
                raise ValueError("a size that is no number")
        if manifest["config"]["size"] > MAX_DOCUMENT:
            raise ValueError("a config blob that is too large")
    except (KeyError, TypeError, ValueError, AttributeError, WMAgentError) as error:
        raise WMAgentError(f"the manifest of {where} is damaged ({error}); copy or build the image again") from None
    return dict(manifest)


def read_image(name: str, digest: str, manifest: dict[str, Any], config: bytes, where: str) -> Image:
    """Put an image together from checked documents.

    Raises WMAgentError where the config carries no description, or one that contradicts the name or the layers.
    """
    try:
        data = json.loads(config)
        described = data[DESCRIPTION_KEY]
    except (KeyError, TypeError, ValueError):
        raise WMAgentError(
            f"{where} is not a WMAgent image: its config holds no description; name an image of playbooks/image.yml"
        ) from None
    description = ImageDescription.from_dict(described)
    if description.name != name:
        # Otherwise a signed old image could be passed off as a new one.
        raise WMAgentError(f"{where} calls itself {description.name}; name it so, or build {name}")
    if [_layer(wheel) for wheel in description.wheels] != manifest["layers"]:
        raise WMAgentError(
            f"{where} contradicts itself: its layers are not the wheels it describes; build the image again"
        )
    return Image(name=name, digest=digest, manifest=manifest, description=description)


def _layer(wheel: Wheel) -> dict[str, Any]:
    return {
        "mediaType": WHEEL_TYPE,
        "digest": wheel.digest,
        "size": wheel.size,
        "annotations": {TITLE_ANNOTATION: wheel.filename, PART_ANNOTATION: wheel.part},
    }
