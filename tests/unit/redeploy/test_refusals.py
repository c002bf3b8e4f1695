# SPDX-License-Identifier: GPL-3.0-or-later
"""When nothing is wiped: tables, databases, files, workflows, blockers."""

from __future__ import annotations

import pytest
from ansible_collections.dmwm.wmagent.plugins.module_utils._drain.blockers import Counted, blockers_of, unreadable
from ansible_collections.dmwm.wmagent.plugins.module_utils._drain.central import CentralError
from ansible_collections.dmwm.wmagent.plugins.module_utils._errors import WMAgentError
from ansible_collections.dmwm.wmagent.plugins.module_utils._redeploy import archived, documents, surroundings, tables
from ansible_collections.dmwm.wmagent.plugins.module_utils._redeploy.refusals import (
    refuse_changed_file,
    refuse_undrained,
)
from hypothesis import given
from hypothesis import strategies as st

COUNTS = st.dictionaries(st.sampled_from("abcd"), st.integers(0, 2))


@given(COUNTS, COUNTS, st.booleans())
def test_tables_may_go_only_where_each_is_as_it_was_saved(saved, live, some_gone):
    subset = all(name in saved and saved[name] == count for name, count in live.items())
    same = subset and (some_gone or live.keys() == saved.keys())
    assert (tables.changes_since_saved(saved, live, some_gone) == []) == same


def test_a_change_is_told_by_name():
    with pytest.raises(WMAgentError, match="wmbs_job has 3 rows and had 2"):
        tables.refuse_changes({"wmbs_job": 2}, {"wmbs_job": 3}, False)


def test_a_table_of_somebody_else_stops_everything():
    with pytest.raises(WMAgentError, match="orders in this database are no tables of WMAgent"):
        tables.refuse_strangers(["wmbs_job", "orders"], ["wmbs_job"])
    tables.refuse_strangers(["wmbs_job"], ["wmbs_job", "wma_init"])


def saved(seq: str) -> documents.Saved:
    return documents.Saved("/x", 1, "0", 1, 1, 0, seq)


@given(
    st.dictionaries(st.sampled_from("abc"), st.sampled_from(["1", "2"])),
    st.dictionaries(st.sampled_from("abc"), st.sampled_from(["1", "2"])),
    st.booleans(),
)
def test_databases_may_go_only_where_each_is_as_it_was_saved(before, live, some_gone):
    subset = all(before.get(name) == seq for name, seq in live.items())
    same = subset and (some_gone or live.keys() == before.keys())
    lines = documents.changes_since_saved({name: saved(seq) for name, seq in before.items()}, live, some_gone)
    assert (lines == []) == same


def test_blockers_and_what_could_not_be_read_stop_it_and_a_waiver_helps_the_first_only():
    lost = blockers_of([Counted("workflows_open_gone", 2, "w")])
    waiver = {"blocker": "workflows_open_gone", "reason": "r", "person": "p", "expires": "2999-01-01"}
    with pytest.raises(WMAgentError, match=r"not drained: workflows_open_gone \(2\); nothing was wiped"):
        refuse_undrained(lost, [], 0)
    refuse_undrained(lost, [waiver], 0)
    refuse_undrained([], [], 0)
    with pytest.raises(WMAgentError, match="not drained: database"):
        refuse_undrained([unreadable("database", "database", "refused")], [waiver], 0)


def test_a_saved_file_that_is_gone_or_cut_stops_it(tmp_path):
    file = tmp_path / "saved"
    told = {"file": str(file), "size": 3}
    with pytest.raises(WMAgentError, match="nothing was wiped"):
        refuse_changed_file(told)
    file.write_bytes(b"ab")
    with pytest.raises(WMAgentError, match="nothing was wiped"):
        refuse_changed_file(told)
    file.write_bytes(b"abc")
    refuse_changed_file(told)


class ReqMgr:
    """Answers as ReqMgr2 does. statuses: request -> status; None for an answer that never comes."""

    where = "ReqMgr2"

    def __init__(self, statuses):
        self.statuses = statuses

    def get(self, path):
        if self.statuses is None:
            raise CentralError("ReqMgr2 cannot be reached")
        return {"result": [{name: {"RequestStatus": status}} for name, status in self.statuses.items()]}


def against(statuses, names=("a", "b"), accepted=()):
    return archived.problems(lambda: ReqMgr(statuses), names, set(accepted), 10)


def test_every_workflow_has_to_be_archived():
    assert against({"a": "normal-archived", "b": "aborted-archived"}) == []
    (line,) = against({"a": "normal-archived", "b": "completed"})
    assert line == "1 workflows that are not archived in ReqMgr2, such as b (completed)"
    assert against({"a": "normal-archived", "b": "completed"}, accepted=["b"]) == []
    (line,) = against({"a": "normal-archived"})
    assert "1 workflows that ReqMgr2 does not know, such as b" in line
    assert against({}, names=()) == []


@pytest.mark.parametrize("statuses", [None, {}])
def test_no_answer_is_never_archived(statuses):
    assert against(statuses)


def test_leaving_a_workflow_behind_needs_a_reason_and_a_person():
    whole = {"workflow": "w", "reason": "lost", "person": "operator"}
    assert archived.accepted_names([whole]) == {"w"}
    for key in whole:
        with pytest.raises(WMAgentError, match=f"has no {key}"):
            archived.accepted_names([{**whole, key: " "}])


def test_cron_and_proxy_are_judged():
    crontab = "# 0 * * * * renew_proxy\n5 * * * * /data/checkProxy --send-mail\n"
    assert surroundings.missing_cron(crontab, ["checkProxy"]) is None
    assert "'renew_proxy'" in (surroundings.missing_cron(crontab, ["renew_proxy"]) or "")
    assert surroundings.short_proxy(86400, 86400) is None
    assert "ends in 1.0 h" in (surroundings.short_proxy(3600, 86400) or "")


def replication(name="a", state="running", **info):
    return {"doc_id": name, "state": state, "info": info or None}


@pytest.mark.parametrize("state", ["crashing", "failed", "error", None])
def test_a_replication_in_a_bad_state_is_named(state):
    told = surroundings.Replications().problem([replication(), replication("b", state)])
    assert told == f"replications that do not come on: b is {state}"


def test_a_replication_with_changes_to_go_has_to_move():
    watched = surroundings.Replications()
    rows = [replication("a", changes_pending=7, docs_written=3), replication("b", changes_pending=0), replication("c")]
    stuck = "replications that do not come on: a has 7 changes to go and does not move"
    assert watched.problem(rows) == watched.problem(rows) == stuck
    rows[0] = replication("a", changes_pending=7, docs_written=4)
    assert watched.problem(rows) is None and watched.problem(rows) is None


def test_documents_that_a_replication_could_not_write_are_told():
    told = surroundings.Replications().problem([replication("a", doc_write_failures=2, changes_pending=0)])
    assert told == "replications that do not come on: a could not write 2 documents"
