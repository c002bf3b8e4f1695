# SPDX-License-Identifier: GPL-3.0-or-later
"""Which CouchDB an agent of the lab gets."""

from __future__ import annotations

import pytest
from support.agent import processes  # noqa: F401 - makes the lab's own package importable
from wmagent_lab import couchdb, services
from wmagent_lab.settings import Lab

URL = "http://somebody:word@127.0.0.1:5999"


@pytest.mark.parametrize(("kind", "urls", "chosen"), [("stand-in", URL, "stand-in"), ("auto", URL, "given")])
def test_a_stand_in_that_was_asked_for_goes_before_a_given_one(tmp_path, monkeypatch, kind, urls, chosen):
    started: list[couchdb.Couch] = []
    monkeypatch.setattr(couchdb, "up", lambda lab, agent, couch: started.append(couch) or True)
    couch, _ = services.couch_up(Lab(tmp_path), "lab01", ["lab01"], urls, kind)
    assert couch.kind == chosen and started == [couch]
