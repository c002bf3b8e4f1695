# SPDX-License-Identifier: GPL-3.0-or-later
"""Rotation of databases: on the stand-in and, where COUCHDB_URL names one, a real CouchDB."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from urllib.parse import quote

import pytest
from ansible_collections.dmwm.wmagent.plugins.module_utils._couchdb import (
    leaves,
    rotation,
    rotation_checks,
    rotation_copy,
)
from ansible_collections.dmwm.wmagent.plugins.module_utils._couchdb.client import (
    CouchClient,
    CouchError,
    CouchLostError,
    CouchSettings,
)
from ansible_collections.dmwm.wmagent.plugins.module_utils._couchdb.compaction_plan import Disks
from ansible_collections.dmwm.wmagent.plugins.module_utils._couchdb.databases import path_of, read_database
from ansible_collections.dmwm.wmagent.plugins.module_utils._errors import WMAgentError
from support.couch_rotating import RULES, contents, copies_of, make_run, rotate, rotating, settings_of
from support.couch_servers import delete, write

# What is the module's own doing is tested on the stand-in only, which is quicker.
OF_ITS_OWN = pytest.mark.parametrize("couch", ["stand-in"], indirect=True)


@pytest.fixture
def database(couch, monkeypatch) -> Iterator[str]:
    if couch.user == "u":
        # The stand-in has no files that are named by the second.
        monkeypatch.setattr(rotation.Rotation, "_wait_for_another_second", lambda self, marker: None)
    with rotating(couch) as name:
        yield name


def test_the_new_database_holds_everything_live_and_no_tombstone(couch_client: CouchClient, database: str):
    before, settings = contents(couch_client, database), settings_of(couch_client, database)
    assert len(before["0"]) == 3 and read_database(couch_client, database).tombstones == 81
    run = rotate(couch_client, database)
    assert run.due and not run.held_back
    (done,) = run.rotated
    assert done.finished and not done.resumed and not done.unbuilt and not done.written_meanwhile
    assert (done.tally.documents, done.tally.leaves) == (len(before), sum(map(len, before.values())))
    assert contents(couch_client, database) == before
    assert settings_of(couch_client, database) == settings
    info = read_database(couch_client, database)
    assert info.tombstones == 0 and info.documents == len(before)
    assert [view.name for view in info.views] == ["Jobs"]
    assert info.views[0].update_seq, "its index was not built"
    assert couch_client.get(path_of(database, "0?conflicts=true"))["_conflicts"] == ["1-aa"]
    rows = couch_client.get(path_of(database, "_design/Jobs/_view/all"))["rows"]
    assert {row["id"] for row in rows} == {name for name in before if not name.startswith("_design/")}


def test_a_second_run_changes_nothing_and_a_later_one_drops_the_copy(couch_client: CouchClient, database: str):
    before = contents(couch_client, database)
    rotate(couch_client, database)
    (copy,) = copies_of(couch_client, database)
    assert contents(couch_client, copy) == before
    again = rotate(couch_client, database)
    assert not again.due and not again.rotated and not again.dropped
    (told,) = again.copies() if len(again.copies()) == 1 else [one for one in again.copies() if one["name"] == copy]
    assert told["stage"] == "done" and told["kept_until"] > 0
    late = make_run(couch_client, database, rules=replace(RULES, keep_copy=0))
    late.look()
    assert [one["action"] for one in late.planned] == ["drop copy"] and copies_of(couch_client, database)
    late.run()
    assert late.dropped == [copy] and not copies_of(couch_client, database)
    assert contents(couch_client, database) == before
    assert not make_run(couch_client, database).due


@OF_ITS_OWN
def test_a_copy_is_kept_where_its_database_is_gone(couch_client: CouchClient, database: str):
    rotate(couch_client, database)
    (copy,) = copies_of(couch_client, database)
    couch_client.delete(path_of(database))
    for made_anew in (False, True):
        if made_anew:
            couch_client.put(path_of(database))
        run = make_run(couch_client, database, rules=replace(RULES, keep_copy=0))
        run.look()
        run.run()
        assert "is gone" in run.held_back[database][0]
        assert copies_of(couch_client, database) == [copy]


@OF_ITS_OWN
def test_what_few_tombstones_have_is_left_alone(couch_client: CouchClient, database: str):
    for rules in (replace(RULES, minimum_tombstones=82), replace(RULES, minimum_share=0.99)):
        run = make_run(couch_client, database, rules=rules)
        run.look()
        assert not run.due and not run.held_back


def held(run) -> list[str]:
    run.look()
    assert not run.due
    return next(iter(run.held_back.values()))


def test_nothing_is_rotated_while_others_may_write(couch_client: CouchClient, database: str, monkeypatch):
    watch = rotation_checks.written_meanwhile
    not_stopped = make_run(couch_client, database, rules=replace(RULES, components_stopped=False))
    assert "components_stopped is not given" in held(not_stopped)[0]
    monkeypatch.setattr(
        rotation_checks,
        "written_meanwhile",
        lambda client, names, seconds: watch(client, names, seconds, lambda _: write(client, database, [1000])),
    )
    assert held(make_run(couch_client, database)) == ["somebody writes to it"]


@OF_ITS_OWN
def test_nothing_is_rotated_where_there_may_be_no_room(couch_client: CouchClient, database: str):
    unknown = make_run(couch_client, database, disks=lambda: Disks({}, {}, "nobody knows"))
    assert "nobody knows" in held(unknown)[0]
    full = make_run(couch_client, database, disks=lambda: Disks({"databases": "d"}, {"d": 1000}))
    assert "and 1000 are free" in held(full)[0]


@OF_ITS_OWN
def test_nothing_is_rotated_that_is_replicated(couch_client: CouchClient, database: str):
    place = f"http://127.0.0.1:{couch_client.settings.port}/{quote(database, safe='')}/"
    jobs = [
        {"database": "_replicator", "id": "r1", "doc_id": "to-central", "source": place, "target": "https://c/x/"},
        {"database": "_replicator", "id": "r2", "doc_id": "from-central", "source": "https://c/x/", "target": place},
    ]
    client = CouchClient(couch_client.settings)
    real = client.get
    for job in jobs:
        client.get = lambda path, job=job: {"jobs": [job], "docs": []} if path.startswith("/_scheduler") else real(path)
        assert f"the replication {job['doc_id']}" in held(make_run(client, database))[0]
    client.get = lambda path: {"odd": 1} if path.startswith("/_scheduler") else real(path)
    assert "cannot be found out" in held(make_run(client, database))[0]
    noted = {"source_last_seq": "5-x", "history": [{"end_time": "Tue, 24 Nov 2026 10:00:00 GMT"}]}
    couch_client.put(path_of(database, "_local/abc123"), noted)
    rules = replace(RULES, abandoned=100 * 365 * 86400)
    assert "does not run has lately noted" in held(make_run(couch_client, database, rules=rules))[0]
    old = make_run(couch_client, database, rules=replace(RULES, abandoned=-1e9))
    old.look()
    assert old.due


@pytest.mark.parametrize("when", ["while copying", "before the deletion"])
def test_a_database_that_changes_meanwhile_stays(couch_client: CouchClient, database: str, monkeypatch, when: str):
    copy_locals, calls = rotation_copy.copy_locals, []

    def write_too(*words, **more):
        copy_locals(*words, **more)
        calls.append(1)
        if len(calls) == (1 if when == "while copying" else 2):
            write(couch_client, database, [1000])

    monkeypatch.setattr(rotation_copy, "copy_locals", write_too)
    run = rotate(couch_client, database)
    assert "was changed while it was copied" in run.held_back[database][0] and not run.rotated
    assert not copies_of(couch_client, database)
    assert "1000" in contents(couch_client, database)
    assert read_database(couch_client, database).tombstones == 81
    monkeypatch.undo()
    assert rotate(couch_client, database).rotated[0].finished
    assert "1000" in contents(couch_client, database)


@OF_ITS_OWN
def test_access_and_local_documents_that_change_meanwhile_are_the_new_ones(
    couch_client: CouchClient, database: str, monkeypatch
):
    security = {"admins": {"roles": ["_admin"]}, "members": {"roles": ["only-me"]}}
    verify = rotation.Rotation._verify_copy

    def and_change(self, *words):
        verify(self, *words)
        couch_client.put(path_of(database, "_security"), security)
        couch_client.put(path_of(database, "_local/new"), {"at": 5})
        path = path_of(database, "_local", quote("note/of agent", safe=""))
        couch_client.delete(f"{path}?rev={couch_client.get(path)['_rev']}")

    monkeypatch.setattr(rotation.Rotation, "_verify_copy", and_change)
    rotate(couch_client, database)
    after = settings_of(couch_client, database)
    assert after["security"] == security and after["locals"] == {"_local/new": 5}


@OF_ITS_OWN
@pytest.mark.parametrize("what", ["a document is missing", "a body is another"])
def test_a_copy_that_is_not_the_same_is_never_trusted(couch_client: CouchClient, database: str, monkeypatch, what: str):
    before = contents(couch_client, database)
    copy_designs = rotation_copy.copy_designs

    def and_spoil(client, source, target, limit):
        tally = copy_designs(client, source, target, limit)
        document = client.get(path_of(target, "5?revs=true"))
        client.post(path_of(target, "_purge"), {"5": [document["_rev"]]})
        if what == "a body is another":
            client.post(path_of(target, "_bulk_docs"), {"docs": [document | {"text": "y"}], "new_edits": False})
        return tally

    monkeypatch.setattr(rotation_copy, "copy_designs", and_spoil)
    run = rotate(couch_client, database)
    assert "that are not the" in run.held_back[database][0]
    assert contents(couch_client, database) == before and not copies_of(couch_client, database)


class Steps:
    """Ends a run the n-th time it is asked."""

    def __init__(self, count: int) -> None:
        self.left = count

    def reason(self, rows: int) -> str:
        self.left -= 1
        return "max_runtime" if self.left < 0 else ""


def test_a_run_that_has_no_time_left_goes_on_the_next_time(couch_client: CouchClient, database: str):
    before = contents(couch_client, database)
    noted, runs = [], 0
    while True:
        runs += 1
        run = rotate(couch_client, database, limits=Steps(2))
        if run.rotated[0].finished:
            break
        assert run.stopped_by == "max_runtime" and run.rotated[0].stopped_by
        (copy,) = copies_of(couch_client, database)
        noted.append(rotation_marker_after(couch_client, copy))
        running = make_run(couch_client, database, rules=replace(RULES, components_stopped=False))
        assert "was interrupted" in held(running)[0] and copy in held(running)[0]
        assert contents(couch_client, database) == before
    assert runs > 2 and len(set(noted)) > 1, noted
    assert run.rotated[0].resumed and contents(couch_client, database) == before
    assert len(copies_of(couch_client, database)) == 1


@OF_ITS_OWN
@pytest.mark.parametrize("what", ["a document is missing", "a body is another"])
def test_a_new_database_that_lacks_something_is_not_complete(
    couch_client: CouchClient, database: str, monkeypatch, what: str
):
    before = contents(couch_client, database)
    write_leaves = leaves.write_leaves

    def spoil(client, target, documents):
        spoilt = documents if target != database else {name: some for name, some in documents.items() if name != "5"}
        write_leaves(client, target, spoilt)
        if len(spoilt) < len(documents) and what == "a body is another":
            write_leaves(client, target, {"5": [documents["5"][0] | {"text": "y"}]})

    monkeypatch.setattr(leaves, "write_leaves", spoil)
    with pytest.raises(WMAgentError, match=r"lacks something of 1 documents .* such as 5; .* not complete yet"):
        rotate(couch_client, database)
    monkeypatch.undo()
    (copy,) = copies_of(couch_client, database)
    assert contents(couch_client, copy) == before
    if what == "a document is missing":
        assert rotate(couch_client, database).rotated[0].finished
        assert contents(couch_client, database) == before


@OF_ITS_OWN
def test_a_copy_that_was_spoilt_before_the_next_run_is_not_trusted(couch_client: CouchClient, database: str):
    before = contents(couch_client, database)
    limits = Steps(10**9)
    run = make_run(couch_client, database, limits=limits)
    run.look()
    verify = rotation.Rotation._verify_copy

    def no_time_left(self, *words):
        verify(self, *words)
        limits.left = 0

    with pytest.MonkeyPatch.context() as patches:
        patches.setattr(rotation.Rotation, "_verify_copy", no_time_left)
        run.run()
    (copy,) = copies_of(couch_client, database)
    assert run.stopped_by and contents(couch_client, copy) == before
    delete(couch_client, copy, [5])
    again = rotate(couch_client, database)
    assert "that are not the" in again.held_back[database][0] and not again.rotated
    assert contents(couch_client, database) == before and not copies_of(couch_client, database)


def rotation_marker_after(client: CouchClient, copy: str) -> str:
    return client.get(path_of(copy, "_local/dmwm.wmagent.rotation"))["after"]


def test_an_index_that_cannot_be_built_is_told(couch_client: CouchClient, database: str):
    odd = {"views": {"broken": {"map": "this is no function"}}, "language": "no such language"}
    couch_client.put(path_of(database, "_design/broken"), odd)
    (done,) = rotate(couch_client, database).rotated
    assert done.finished and list(done.unbuilt) == ["broken"]


def test_a_database_is_made_as_it_was(couch_client: CouchClient, couch):
    if couch_client.get("/")["vendor"]["name"] != "The Apache Software Foundation":
        pytest.skip("the stand-in knows neither shards nor partitions")
    with rotating(couch) as name:
        couch_client.delete(path_of(name))
        couch_client.put(f"{path_of(name)}?q=3&partitioned=true")
        documents = [{"_id": f"p:{number}"} for number in range(40)]
        couch_client.post(path_of(name, "_bulk_docs"), {"docs": documents})
        rows = couch_client.get(path_of(name, "_all_docs"))["rows"]
        gone = [{"_id": row["id"], "_rev": row["value"]["rev"], "_deleted": True} for row in rows[:30]]
        couch_client.post(path_of(name, "_bulk_docs"), {"docs": gone})
        assert rotate(couch_client, name).rotated[0].finished
        info = couch_client.get(path_of(name))
        assert (info["cluster"]["q"], info["props"], info["doc_count"]) == (3, {"partitioned": True}, 10)
        assert info["doc_del_count"] == 0


def test_an_index_that_takes_longer_is_waited_for():
    asked: list[str] = []

    class Client(CouchClient):
        def __init__(self, slow: int) -> None:
            super().__init__(CouchSettings("h", 1, "", ""))
            self.slow = slow

        def get(self, path):
            asked.append(path)
            if path.endswith("_design_docs"):
                return {"rows": [{"id": "_design/a/b"}, {"id": "_design/filters"}]}
            if "_view" in path:
                self.slow -= 1
                if self.slow >= 0:
                    raise CouchLostError("slow", timed_out=True)
                return {}
            return {"_id": "_design/a/b", "views": {"v w": {}}} if "a%2Fb" in path else {"_id": "_design/filters"}

    times = iter(range(100))
    assert rotation_copy.build_indexes(Client(3), "x/y", 50, asked.append, lambda: next(times)) == {}
    assert asked[-1] == "/x%2Fy/_design/filters"
    assert asked.count("/x%2Fy/_design/a%2Fb/_view/v%20w?limit=1&reduce=false") == 4
    with pytest.raises(WMAgentError, match="still building the index"):
        rotation_copy.build_indexes(Client(99), "x/y", 50, asked.append, lambda: next(times))


@OF_ITS_OWN
def test_a_name_that_only_looks_like_a_copys_is_left_alone(couch_client: CouchClient, database: str):
    name = f"{database}-rotation-20260101000000-0123abcd"
    couch_client.put(path_of(name))
    write(couch_client, name, range(3))
    run = make_run(couch_client, database)
    run.look()
    run.run()
    assert "it has no marker" in run.held_back[database][0]
    assert couch_client.get(path_of(name))["doc_count"] == 3
    with pytest.raises(WMAgentError, match="has no database nowhere/jobs"):
        make_run(couch_client, "nowhere/jobs").look()
    with pytest.raises(CouchError):
        couch_client.get(path_of("nowhere/jobs"))
