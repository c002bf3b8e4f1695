# SPDX-License-Identifier: GPL-3.0-or-later
"""Names of revisions are those that a real CouchDB 3.5.0 gave."""

from __future__ import annotations

import base64

import pytest
from support.agent import processes  # noqa: F401 - makes the lab's package importable
from wmagent_lab.couch_erlang import revision_digest

TEXT = ("x.txt", "application/json", base64.b64decode("a9T8wlFdAAmoeQApIvv8ow=="))

ALL_KINDS = {
    "s": "\u00e9\u20ac",
    "f": 1.5,
    "whole": 1.0,
    "big": 12345678901234567890,
    "neg": -7,
    "n": 3000000000,
    "l": [1, 2, 3],
    "e": [],
    "o": {},
    "m": [1, 256],
    "x": [None, True, False],
    "d": {"a": {"b": [-1, "q"]}},
    "small": 1e-7,
    "huge": 1e300,
    "negbig": -5000000000,
    "u": "\U0001f600",
}


@pytest.mark.parametrize(
    ("deleted", "generation", "parent", "body", "attachments", "digest"),
    [
        (False, 0, "", {"a": 1}, [], "23202479633c2b380f79507a776743d5"),
        (False, 0, "", {}, [TEXT], "2e2f6b396de95d990fab6936a22fb049"),
        (True, 1, "4ed6fb90cf09cff89671fbd8c1a1168a", {}, [], "e5e7e2b0e92977c868f9fe75579de404"),
        (False, 0, "", ALL_KINDS, [], "0573edd0e0a0c2ddc614617f4a93d979"),
    ],
)
def test_an_edit_is_named_as_couchdb_names_it(deleted, generation, parent, body, attachments, digest):
    assert revision_digest(deleted, generation, parent, body, attachments) == digest
