# SPDX-License-Identifier: GPL-3.0-or-later
"""The image description and its OCI documents: one spelling, and a digest that tells everything."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from typing import Any

import pytest
from ansible_collections.dmwm.wmagent.plugins.module_utils._errors import WMAgentError
from ansible_collections.dmwm.wmagent.plugins.module_utils._release import manifest as documents
from ansible_collections.dmwm.wmagent.plugins.module_utils._release.build_request import BuildRequest, parse_image_name
from ansible_collections.dmwm.wmagent.plugins.module_utils._release.description import ImageDescription, Patch, Wheel
from hypothesis import given, settings
from hypothesis import strategies as st

DIGEST = st.binary(min_size=1, max_size=8).map(documents.digest_of)
WORD = st.from_regex(r"[a-z][a-z0-9]{0,8}", fullmatch=True)
WHEEL = st.builds(
    lambda name, version, digest, size, part: Wheel(
        f"{name}-{version}-py3-none-any.whl", digest, size, name, str(version), part
    ),
    WORD,
    st.integers(1, 9),
    DIGEST,
    st.integers(0, 10**9),
    st.sampled_from(["release", "tools"]),
)
DESCRIPTION = st.builds(
    ImageDescription,
    name=st.just("2.4.5.9-p1"),
    tag=st.just("2.4.5.9"),
    version=st.just("2.4.5.9+p1"),
    python=st.just("3.11"),
    platform=st.just("linux-x86_64"),
    glibc=st.sampled_from(["", "2.17", "2.34"]),
    created=st.just("2026-01-01T00:00:00Z"),
    wheels=st.lists(WHEEL, max_size=6, unique_by=lambda w: (w.part, w.filename)).map(tuple),
    patch_level=st.integers(0, 3),
    patches=st.lists(st.builds(Patch, WORD, DIGEST), max_size=3).map(tuple),
    lock=st.lists(WORD, max_size=4).map(tuple),
    schema=st.dictionaries(WORD, st.none() | st.dictionaries(WORD, st.integers())),
    schema_fingerprint=st.dictionaries(WORD, st.none() | WORD),
    schema_unknown=st.dictionaries(WORD, WORD),
    installed_size=st.integers(0, 10**12),
)


def digest(description: ImageDescription) -> str:
    """The manifest digest of an image."""
    return documents.digest_of(documents.make_manifest(description, documents.make_config(description), "inputs"))


@settings(max_examples=40)
@given(DESCRIPTION, st.randoms(use_true_random=False))
def test_the_order_of_wheels_and_lock_lines_does_not_matter(description: ImageDescription, random: Any) -> None:
    wheels, lock = list(description.wheels), list(description.lock)
    random.shuffle(wheels)
    random.shuffle(lock)
    assert digest(dataclasses.replace(description, wheels=tuple(wheels), lock=tuple(lock))) == digest(description)


@settings(max_examples=40)
@given(DESCRIPTION)
def test_it_reads_back_what_it_wrote(description: ImageDescription) -> None:
    assert ImageDescription.from_json(description.to_json()) == description
    config = documents.make_config(description)
    manifest = documents.read_manifest(documents.make_manifest(description, config, "i"), "x")
    image = documents.read_image(description.name, "sha256:" + "0" * 64, manifest, config, "x")
    assert image.description == description
    assert image.inputs == "i"


@settings(max_examples=30)
@given(DESCRIPTION, DESCRIPTION)
def test_different_descriptions_have_different_digests(one: ImageDescription, two: ImageDescription) -> None:
    assert (digest(one) == digest(two)) == (one == two)


CHANGES: list[Callable[[ImageDescription], dict[str, Any]]] = [
    lambda d: {"version": d.version + "x"},
    lambda d: {"python": "3.12"},
    lambda d: {"platform": "linux-aarch64"},
    lambda d: {"glibc": d.glibc + "9"},
    lambda d: {"created": "2027-01-01T00:00:00Z"},
    lambda d: {"patch_level": d.patch_level + 1},
    lambda d: {"patches": (*d.patches, Patch("more", documents.digest_of(b"more")))},
    lambda d: {"lock": (*d.lock, "more")},
    lambda d: {"schema": {**d.schema, "MORE": {}}},
    lambda d: {"schema_fingerprint": {**d.schema_fingerprint, "MORE": "f"}},
    lambda d: {"installed_size": d.installed_size + 1},
    lambda d: {"wheels": (*d.wheels, Wheel("MORE-1-py3-none-any.whl", documents.digest_of(b""), 0, "more", "1"))},
    lambda d: {"wheels": tuple(dataclasses.replace(w, digest=documents.digest_of(b"another")) for w in d.wheels)},
    lambda d: {"wheels": tuple(dataclasses.replace(w, size=w.size + 1) for w in d.wheels)},
]


@given(DESCRIPTION.filter(lambda d: d.wheels), st.sampled_from(CHANGES))
def test_any_change_changes_the_digest(
    description: ImageDescription, change: Callable[[ImageDescription], dict[str, Any]]
) -> None:
    assert digest(dataclasses.replace(description, **change(description))) != digest(description)


def plain() -> ImageDescription:
    wheel = Wheel("a-1-py3-none-any.whl", documents.digest_of(b"a"), 1, "a", "1")
    return ImageDescription("2.4", "2.4", "2.4", "3.11", "linux-x86_64", "", "2026-01-01T00:00:00Z", (wheel,))


@pytest.mark.parametrize(
    "name", ["../etc/x-1-py3-none-any.whl", "/x.whl", "a b.whl", ".hidden.whl", "x.tar.gz", "", "a/b.whl"]
)
def test_a_wheel_name_that_is_a_path_is_refused(name: str) -> None:
    with pytest.raises(WMAgentError, match="wheel's file name"):
        dataclasses.replace(plain(), wheels=(Wheel(name, documents.digest_of(b""), 0, "x", "1"),))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("format", 2),
        ("format", None),
        ("tag", 1),
        ("wheels", None),
        ("wheels", [{}]),
        ("patch_level", "1"),
        ("schema", 3),
    ],
)
def test_a_damaged_description_is_one_line(key: str, value: Any) -> None:
    data = plain().as_dict() | {key: value}
    with pytest.raises(WMAgentError, match="build the image again") as caught:
        ImageDescription.from_json(json.dumps(data))
    assert "\n" not in str(caught.value)


def test_layers_that_are_not_the_described_wheels_are_refused() -> None:
    config = documents.make_config(plain())
    other = dataclasses.replace(
        plain(), wheels=(Wheel("a-1-py3-none-any.whl", documents.digest_of(b"b"), 1, "a", "1"),)
    )
    manifest = documents.read_manifest(documents.make_manifest(other, config, ""), "x")
    with pytest.raises(WMAgentError, match="contradicts itself"):
        documents.read_image("2.4", "sha256:" + "0" * 64, manifest, config, "image 2.4")


def test_an_image_under_another_name_is_refused() -> None:
    config = documents.make_config(plain())
    manifest = documents.read_manifest(documents.make_manifest(plain(), config, ""), "x")
    with pytest.raises(WMAgentError, match=r"calls itself 2\.4"):
        documents.read_image("9.9", "sha256:" + "0" * 64, manifest, config, "image 9.9")


@pytest.mark.parametrize(
    "content", [b"", b"[]", b"{}", b'{"schemaVersion":1}', b"\xff", b'{"schemaVersion":2,"config":{},"layers":[]}']
)
def test_a_damaged_manifest_is_one_line(content: bytes) -> None:
    with pytest.raises(WMAgentError, match="manifest of image x is damaged"):
        documents.read_manifest(content, "image x")


@pytest.mark.parametrize(
    "name", ["", "latest", "2", "2.4.5.9-", "2.4.5.9-p0", "2.4.5.9-p", "2.4.5.9-q1", "2.4.5.9-p1 ", "v2.4.5"]
)
def test_an_unusable_image_name_is_refused(name: str) -> None:
    with pytest.raises(WMAgentError, match="neither <tag> nor"):
        parse_image_name(name)


def test_image_names() -> None:
    assert parse_image_name("2.4.5.9-p12") == ("2.4.5.9", 12)
    assert parse_image_name("2.4.5rc3") == ("2.4.5rc3", 0)


REQUEST = st.builds(
    BuildRequest,
    name=st.just("2.4.4"),
    requirements=st.lists(WORD, max_size=3, unique=True).map(tuple),
    overrides=st.lists(WORD, max_size=3, unique=True).map(tuple),
    build_requirements=st.lists(WORD, max_size=3, unique=True).map(tuple),
    lock=WORD,
    build_lock=WORD,
    tools_lock=WORD,
    schema=st.booleans(),
)


@given(REQUEST, REQUEST)
def test_equal_inputs_and_only_those_have_one_digest(one: BuildRequest, two: BuildRequest) -> None:
    def sets(request: BuildRequest) -> tuple[Any, ...]:
        lists = (request.requirements, request.overrides, request.build_requirements)
        return (*map(frozenset, lists), request.lock, request.build_lock, request.tools_lock, request.schema)

    assert (one.digest("3.11", "linux-x86_64") == two.digest("3.11", "linux-x86_64")) == (sets(one) == sets(two))
    assert one.digest("3.11", "linux-x86_64") != one.digest("3.12", "linux-x86_64")
    assert one.digest("3.11", "linux-x86_64") != one.digest("3.11", "linux-aarch64")
