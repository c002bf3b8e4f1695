# SPDX-License-Identifier: GPL-3.0-or-later
"""The facts for :mod:`eligibility`, counted by the database: one picture of one moment, without a lock.

Every statement runs on MariaDB and on Oracle as it stands.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any

from ansible_collections.dmwm.wmagent.plugins.module_utils._database.connection import MARIADB, Connection
from ansible_collections.dmwm.wmagent.plugins.module_utils._dbsbuffer.eligibility import (
    DONE,
    FREE,
    INPUT,
    NOT_IN_RUCIO,
    NOT_UPLOADED,
    OUTSIDE,
    UNKNOWN_STATUS,
    Block,
    Facts,
    FileGroup,
    Outsiders,
    Plan,
    Rules,
    Subscription,
    Workflow,
    plan_cleanup,
)
from ansible_collections.dmwm.wmagent.plugins.module_utils._dbsbuffer.tables import (
    NEVER_REGISTERED,
    USED_IN_WMBS,
    WMBS_FILES_IN_USE,
    in_list,
)

_NEVER_REGISTERED = " OR ".join(f"f.lfn LIKE '{pattern}'" for pattern in NEVER_REGISTERED)

_STATES = (
    (NOT_UPLOADED, f"f.status = '{NOT_UPLOADED}'"),
    (INPUT, "f.status = 'GLOBAL'"),
    (DONE, f"f.status = 'InDBS' AND (f.in_phedex = 1 OR {_NEVER_REGISTERED})"),
    (NOT_IN_RUCIO, "f.status = 'InDBS'"),
    (UNKNOWN_STATUS, "1 = 1"),
)
"""Each state with its condition; the first that holds counts."""

STATE = " ".join(["CASE", *(f"WHEN {condition} THEN '{state}'" for state, condition in _STATES), "END"])
"""State of a row ``f`` of dbsbuffer_file, as :class:`FileGroup` knows it."""

# MariaDB groups by numbers in two thirds of the time that it takes for texts.
_STATE_NUMBER = " ".join(["CASE", *(f"WHEN {one[1]} THEN {number}" for number, one in enumerate(_STATES)), "END"])

PLACEHOLDER = "n.workflow IS NULL AND n.status = 'GLOBAL' AND n.block_id IS NULL"
"""A row ``n`` of dbsbuffer_file that only stands for an input."""

_IN_WMBS_ITSELF = f"EXISTS (SELECT 1 FROM wmbs_file_details w WHERE w.lfn = n.lfn AND {USED_IN_WMBS})"
_UNSUBSCRIBED = """EXISTS (SELECT 1 FROM dbsbuffer_algo_dataset_assoc a
                 INNER JOIN dbsbuffer_dataset_subscription s ON s.dataset_id = a.dataset_id
                 WHERE a.id = n.dataset_algo AND (s.subscribed IS NULL OR s.subscribed <> 1))"""
_LINKED_OUTSIDE = """(EXISTS (SELECT 1 FROM dbsbuffer_file_parent x INNER JOIN dbsbuffer_file y ON y.id = x.child
                   WHERE x.parent = n.id AND y.workflow IS NULL)
    OR EXISTS (SELECT 1 FROM dbsbuffer_file_parent x INNER JOIN dbsbuffer_file y ON y.id = x.parent
               WHERE x.child = n.id AND y.workflow IS NULL))"""

UNNEEDED_PLACEHOLDER = f"{PLACEHOLDER} AND NOT {_IN_WMBS_ITSELF} AND NOT {_UNSUBSCRIBED}"
"""A placeholder that neither WMBS nor a subscription needs; what it is linked to is for others to look at."""

FREE_PLACEHOLDER = f"{UNNEEDED_PLACEHOLDER} AND NOT {_LINKED_OUTSIDE}"
"""A placeholder that goes once all its neighbours have: each of them is a file of a workflow."""

_MANY = 0.25
"""Share of the workflow rows from which on their files' links, one by one, are more work than all links at once."""

_HASH_JOINS = (
    "SET STATEMENT join_cache_level=4, join_buffer_size=33554432, join_buffer_space_limit=134217728, "
    "optimizer_switch='optimize_join_buffer_size=off' FOR "
)
"""MariaDB looks up a link's two files one by one unless it is allowed more memory than it takes by itself."""

_WORKFLOWS = """
    SELECT w.id, w.name, w.completed,
           CASE WHEN EXISTS (SELECT 1 FROM wmbs_workflow m WHERE m.name = w.name) THEN 1 ELSE 0 END,
           (SELECT MIN(v.id) FROM dbsbuffer_workflow v WHERE v.name = w.name)
    FROM dbsbuffer_workflow w"""
_BLOCKS = "SELECT b.id, b.dataset_id, b.status, b.rule_id, b.deleted, b.create_time FROM dbsbuffer_block b"
_SUBSCRIPTIONS = "SELECT s.dataset_id, s.subscribed, s.delete_blocks FROM dbsbuffer_dataset_subscription s"
_GROUPS = f"""
    SELECT g.workflow, g.block_id, a.dataset_id, g.state, SUM(g.files), SUM(g.dated),
           MIN(g.oldest), MAX(g.newest), MIN(g.first_id), MAX(g.last_id)
    FROM (SELECT c.workflow, c.block_id, c.dataset_algo, c.state, COUNT(*) files,
                 COUNT(c.lastmodificationdate) dated, MIN(c.lastmodificationdate) oldest,
                 MAX(c.lastmodificationdate) newest, MIN(c.id) first_id, MAX(c.id) last_id
          FROM (SELECT f.id, f.workflow, f.block_id, f.dataset_algo, f.lastmodificationdate, {_STATE_NUMBER} state
                FROM dbsbuffer_file f WHERE f.workflow IS NOT NULL OR f.block_id IS NOT NULL) c
          GROUP BY c.workflow, c.block_id, c.dataset_algo, c.state) g
    INNER JOIN dbsbuffer_algo_dataset_assoc a ON a.id = g.dataset_algo
    GROUP BY g.workflow, g.block_id, a.dataset_id, g.state"""
_ALL_LINKS = """
    SELECT DISTINCT c.workflow, p.workflow FROM dbsbuffer_file_parent l
    INNER JOIN dbsbuffer_file c ON c.id = l.child
    INNER JOIN dbsbuffer_file p ON p.id = l.parent
    WHERE c.workflow <> p.workflow"""
_NEIGHBOURS = """
    SELECT n.id node, c.workflow FROM dbsbuffer_file n
    INNER JOIN dbsbuffer_file_parent l ON l.parent = n.id
    INNER JOIN dbsbuffer_file c ON c.id = l.child
    WHERE n.workflow IS NULL
    UNION
    SELECT n.id node, p.workflow FROM dbsbuffer_file n
    INNER JOIN dbsbuffer_file_parent l ON l.child = n.id
    INNER JOIN dbsbuffer_file p ON p.id = l.parent
    WHERE n.workflow IS NULL"""
# Grouped, so that MariaDB looks once for each file and not once for each of its neighbours.
_WHY_OUTSIDER = f"""
    SELECT n.id node,
           MIN(CASE WHEN n.block_id IS NOT NULL OR n.status IS NULL OR n.status <> 'GLOBAL' THEN '{OUTSIDE}'
                    WHEN {_IN_WMBS_ITSELF} THEN 'input still in WMBS'
                    WHEN {_UNSUBSCRIBED} THEN 'input of a dataset not subscribed yet'
                    ELSE '{FREE}' END) why
    FROM dbsbuffer_file n WHERE n.workflow IS NULL GROUP BY n.id"""
_OUTSIDERS = f"""
    SELECT o.first_workflow, o.workflow, o.why, COUNT(*)
    FROM (SELECT e.first_workflow, e.workflow, CASE WHEN e.outside > 0 THEN '{OUTSIDE}' ELSE w.why END why
          FROM ({_WHY_OUTSIDER}) w LEFT OUTER JOIN
               (SELECT u.node, u.workflow, MIN(u.workflow) OVER (PARTITION BY u.node) first_workflow,
                       SUM(CASE WHEN u.workflow IS NULL THEN 1 ELSE 0 END) OVER (PARTITION BY u.node) outside
                FROM ({_NEIGHBOURS}) u) e ON e.node = w.node) o
    GROUP BY o.first_workflow, o.workflow, o.why"""
_IN_WMBS = f"""
    SELECT f.workflow, COUNT(*) FROM {WMBS_FILES_IN_USE} u
    INNER JOIN wmbs_file_details w ON w.id = u.fileid INNER JOIN dbsbuffer_file f ON f.lfn = w.lfn
    WHERE f.workflow IS NOT NULL GROUP BY f.workflow"""


def make_plan(connection: Connection, rules: Rules) -> Plan:
    """Plan from one consistent picture of the database. Raises WMAgentError."""
    connection.begin_snapshot()
    try:
        return plan_cleanup(read_facts(connection), rules)
    finally:
        connection.rollback()


def read_facts(connection: Connection) -> Facts:
    """The facts, each part read when it is asked for."""
    return Facts(
        workflows=(
            Workflow(int(a), b, _number(c), bool(d), _number(e)) for a, b, c, d, e in connection.stream(_WORKFLOWS)
        ),
        blocks=(Block(int(a), int(b), c, d, _number(e), _number(f)) for a, b, c, d, e, f in connection.stream(_BLOCKS)),
        subscriptions=(Subscription(int(a), _number(b), _number(c)) for a, b, c in connection.stream(_SUBSCRIPTIONS)),
        groups=_groups(connection),
        links=lambda rows: ((int(a), int(b)) for a, b in connection.stream(_links(connection, rows))),
        in_wmbs=((int(a), int(b)) for a, b in connection.stream(_IN_WMBS)),
        outsiders=(Outsiders(_number(a), _number(b), str(c), int(d)) for a, b, c, d in connection.stream(_OUTSIDERS)),
    )


def _links(connection: Connection, rows: Collection[int]) -> str:
    """The statement for all links of these workflow rows: by their files, or all there are where that is less work."""
    all_rows = int(connection.query("SELECT COUNT(*) FROM dbsbuffer_workflow")[0][0])
    if len(rows) > all_rows * _MANY:
        return (_HASH_JOINS if connection.dialect == MARIADB else "") + _ALL_LINKS
    listed = in_list("f.workflow", rows)
    return " UNION ".join(
        f"""SELECT {one}.workflow child, {two}.workflow parent FROM dbsbuffer_file f
            INNER JOIN dbsbuffer_file_parent l ON l.{mine} = f.id INNER JOIN dbsbuffer_file o ON o.id = l.{other}
            WHERE {listed} AND o.workflow <> f.workflow"""
        for mine, other, one, two in (("child", "parent", "f", "o"), ("parent", "child", "o", "f"))
    )


def _groups(connection: Connection) -> Iterator[FileGroup]:
    for workflow, block, dataset, state, files, dated, oldest, newest, first, last in connection.stream(_GROUPS):
        yield FileGroup(
            _number(workflow),
            _number(block),
            int(dataset),
            _STATES[int(state)][0],
            int(files),
            int(dated),
            _number(oldest),
            _number(newest),
            int(first),
            int(last),
        )


def going_placeholder(plan: Plan) -> str:
    """Condition for a placeholder ``n`` that goes with the plan's files: all that it is linked to goes."""
    stays = f"(o.workflow IS NULL OR NOT {in_list('o.workflow', plan.workflows)})"
    return UNNEEDED_PLACEHOLDER + "".join(
        f" AND NOT EXISTS (SELECT 1 FROM dbsbuffer_file_parent l INNER JOIN dbsbuffer_file o ON o.id = l.{other} "
        f"WHERE l.{mine} = n.id AND {stays})"
        for mine, other in (("parent", "child"), ("child", "parent"))
    )


def _number(value: Any) -> int | None:
    return None if value is None else int(value)
