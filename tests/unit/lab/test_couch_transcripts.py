# SPDX-License-Identifier: GPL-3.0-or-later
"""The stand-in answers two hundred requests as a real CouchDB 3.5.0 and 3.5.2 did, one test for each of them."""

from __future__ import annotations

import pytest
from support import couch_transcripts as transcripts
from support.agent import processes  # noqa: F401 - makes the lab's package importable
from wmagent_lab import couch_javascript
from wmagent_lab.couch_routes import Couch
from wmagent_lab.couch_standin import serving
from wmagent_lab.couch_store import Store

VERSIONS = ("3.5.0", "3.5.2")
STEPS = [(version, number) for version in VERSIONS for number in range(len(transcripts.load(version)))]
NAMES = [f"{version}-{number:02d} {transcripts.load(version)[number]['step']}" for version, number in STEPS]

pytestmark = pytest.mark.skipif(not couch_javascript.AVAILABLE, reason="quickjs-ng is not installed")


@pytest.fixture(scope="module")
def answers():
    """Port and steps of each version, everything asked once."""
    kept = {}
    for version in VERSIONS:
        with serving(Couch(Store(None, 1), version=version), "admin", "a-password") as port:
            kept[version] = port, transcripts.replay(version, port, "admin", "a-password")
    return kept


@pytest.mark.parametrize(("version", "number"), STEPS, ids=NAMES)
def test_it_answers_as_couchdb_did(answers, version, number):
    port, steps = answers[version]
    step = steps[number]
    assert not step.failure
    assert (step.status, transcripts.normal(step.body, port)) == (
        step.recorded_status,
        transcripts.normal(step.recorded, port),
    )


@pytest.mark.parametrize("version", VERSIONS)
def test_every_page_of_changes_holds_what_all_changes_hold(answers, version):
    steps = {
        step.name: step.body["results"]
        for step in answers[version][1]
        if "changes" in step.name and "bad" not in step.name
    }
    everything = steps["changes all leaves"]
    for name in ("changes", "changes selector since", "changes from last_seq"):
        assert all(row in everything for row in steps[name]), name
    pages = steps["changes selector since"] + steps["changes from last_seq"]
    assert pages == steps["changes selector deleted"][: len(pages)]


@pytest.mark.parametrize("version", VERSIONS)
def test_sizes_grow_and_shrink_where_couchdbs_did(answers, version):
    before: dict[str, tuple[dict[str, int], dict[str, int]]] = {}
    for step in answers[version][1]:
        recorded, now = transcripts.sizes(step.recorded), transcripts.sizes(step.body)
        if not recorded:
            continue
        for one, other in (("file", "external"), ("file", "active"), ("external", "active")):
            if "view" not in step.name:
                assert transcripts.sign(now[one], now[other]) == transcripts.sign(recorded[one], recorded[other]), (
                    step.name
                )
        known = before.get(step.database)
        for kind in transcripts.SIZES if known and "view" not in step.name else ():
            assert transcripts.sign(now[kind], known[1][kind]) == transcripts.sign(recorded[kind], known[0][kind]), (
                step.name,
                kind,
            )
        if "view" not in step.name:
            before[step.database] = recorded, now
