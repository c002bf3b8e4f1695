# SPDX-License-Identifier: GPL-3.0-or-later
"""What an agent's components, and people, write to DBSBuffer while a cleanup runs: one transaction a turn.

The statements are those of WMCore's DAOs (WMComponent.DBS3Buffer and RucioInjector, WMCore.WMBS, each in MySQL and
Oracle), in the order in which AccountantWorker, WMBSHelper, DBSUploadPoller, RucioInjectorPoller and TaskArchiver run
them. A component that relies on a file holds its LFN in wmbs_file_details, as jobs do for their inputs.
"""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import count

from ansible_collections.dmwm.wmagent.plugins.module_utils._database.driver_errors import DatabaseBusyError
from ansible_collections.dmwm.wmagent.plugins.module_utils._errors import WMAgentError
from support.dbsbuffer.journal import Journal, Session, State
from support.dbsbuffer.random_rows import OLD
from support.dbsbuffer.rows import (
    Assoc,
    Block,
    Checksum,
    Dataset,
    File,
    FileLocation,
    Location,
    Parent,
    Rows,
    RunLumi,
    Subscription,
    Workflow,
)

BOGUS, LIVE = 5, 3
"""Datasets: of placeholders, and of workflows that run."""

FAMILIES = 40

LONGEST_PAUSE = 0.02
"""Seconds between two turns of a component."""

_EXISTS = "SELECT id FROM dbsbuffer_file WHERE lfn = %s"
_ADD_WMBS = "INSERT INTO wmbs_file_details (lfn, filesize, events, first_event, merged) VALUES (%s, 1, 1, 0, 1)"
_USE_IN_WMBS = """INSERT INTO wmbs_fileset_files (fileid, fileset, insert_time)
    SELECT w.id, s.id, 0 FROM wmbs_file_details w INNER JOIN wmbs_fileset s ON s.name = 'inputs' WHERE w.lfn = %s"""
_DELETE_WMBS = "DELETE FROM wmbs_file_details WHERE lfn = %s"
BULK_HERITAGE = """INSERT INTO dbsbuffer_file_parent (child, parent) VALUES
    ((SELECT id FROM dbsbuffer_file WHERE lfn = %s), (SELECT id FROM dbsbuffer_file WHERE lfn = %s))"""
_RUNLUMI = """INSERT INTO dbsbuffer_file_runlumi_map (filename, run, lumi, num_events)
    SELECT id, %s, %s, %s FROM dbsbuffer_file WHERE lfn = %s"""
_BLOCK_OF = "(SELECT id FROM dbsbuffer_block WHERE blockname = %s)"

# First what MySQL's DAOs say, then Oracle's; hints are nothing to H2, so they are NOT EXISTS here.
_ADD_FILE = (
    """INSERT IGNORE dbsbuffer_file (lfn, filesize, events, dataset_algo, status, workflow, in_phedex)
    VALUES (%s, 1, 1, %s, %s, %s, %s)""",
    """INSERT INTO dbsbuffer_file (lfn, filesize, events, dataset_algo, status, workflow, in_phedex)
    SELECT %s, 1, 1, %s, %s, %s, %s FROM DUAL WHERE NOT EXISTS (SELECT 1 FROM dbsbuffer_file WHERE lfn = %s)""",
)
_SET_LOCATION = (
    """INSERT IGNORE INTO dbsbuffer_file_location (filename, location)
    SELECT df.id, dl.id FROM dbsbuffer_file df, dbsbuffer_location dl WHERE df.lfn = %s AND dl.pnn = %s""",
    """INSERT INTO dbsbuffer_file_location (filename, location)
    SELECT df.id, dl.id FROM dbsbuffer_file df, dbsbuffer_location dl WHERE df.lfn = %s AND dl.pnn = %s
    AND NOT EXISTS (SELECT 1 FROM dbsbuffer_file_location l WHERE l.filename = df.id AND l.location = dl.id)""",
)
_ADD_CHECKSUM = (
    """INSERT IGNORE INTO dbsbuffer_file_checksums (fileid, typeid, cksum) SELECT
    (SELECT id FROM dbsbuffer_file WHERE lfn = %s), (SELECT id FROM dbsbuffer_checksum_type WHERE type = %s), %s
    FROM dual""",
    """INSERT INTO dbsbuffer_file_checksums (fileid, typeid, cksum)
    SELECT f.id, t.id, %s FROM dbsbuffer_file f, dbsbuffer_checksum_type t WHERE f.lfn = %s AND t.type = %s
    AND NOT EXISTS (SELECT 1 FROM dbsbuffer_file_checksums c WHERE c.fileid = f.id AND c.typeid = t.id)""",
)
_HERITAGE = (
    """INSERT INTO dbsbuffer_file_parent (child, parent) SELECT dfc.id, dfp.id FROM dbsbuffer_file dfc
    INNER JOIN dbsbuffer_file dfp WHERE dfc.lfn = %s AND dfp.lfn = %s""",
    BULK_HERITAGE,
)
_ADD_WORKFLOW = (
    "INSERT IGNORE INTO dbsbuffer_workflow (name, task) VALUES (%s, %s)",
    "INSERT INTO dbsbuffer_workflow (name, task) VALUES (%s, %s)",
)


def _lfn(number: int | str) -> str:
    return f"/store/data/Run1/A/{number}.root"


def contents(chance: random.Random) -> Rows:
    """Many small families of workflows that are finished, a few of them stuck, and some workflows that run."""
    datasets = [Dataset(number, f"/P/E{number}/RAW") for number in (1, 2, LIVE)] + [Dataset(BOGUS, "bogus")]
    rows = Rows(
        datasets=datasets,
        assocs=[Assoc(row.id, row.id) for row in datasets],
        subscriptions=[
            Subscription(1, 1, "T1_X"),
            Subscription(2, 2, "T1_X", delete_blocks=1),
            Subscription(3, LIVE, "T1_X", subscribed=0),
        ],
        locations=[Location(1, "T1_X"), Location(2, "T2_Y")],
    )
    # Families one after the other, with neighbours mixed.
    numbers = sorted(range(1, 400), key=lambda number: -(number + chance.randint(0, 30)))
    inputs = [numbers.pop() for _ in range(FAMILIES // 2)]
    rows.files.extend(File(number, _lfn(number), BOGUS, None, "GLOBAL") for number in inputs)
    for live in range(3):
        row = 10 * FAMILIES + live
        rows.workflows.append(Workflow(row, f"live{live}", f"/live{live}/T", 0))
        rows.wmbs_names.append(f"live{live}")
        _add_files(rows, chance, [numbers.pop() for _ in range(3)], row, LIVE, None)
    for family in range(FAMILIES):
        _add_family(rows, chance, family, numbers, inputs[family // 2 : family // 2 + 1])
    return rows


def _add_family(rows: Rows, chance: random.Random, family: int, numbers: list[int], inputs: list[int]) -> None:
    """One or two workflows that share blocks and are linked."""
    dataset = chance.choice((1, 2))
    before: list[int] = []
    blocks = [10 * family + 1, 10 * family + 2]
    rows.blocks.extend(
        Block(number, dataset, f"/P/E{dataset}/RAW#{number}", 1, OLD, deleted=dataset - 1) for number in blocks
    )
    for member in range(chance.randint(1, 2)):
        row = 10 * family + member + 1
        rows.workflows.append(Workflow(row, f"old{row}", f"/old{row}/T"))
        files = [numbers.pop() for _ in range(chance.randint(2, 4))]
        _add_files(rows, chance, files, row, dataset, blocks)
        for number in files:
            if before and chance.random() < 0.5:
                rows.parents.append(Parent(number, chance.choice(before)))
            elif chance.random() < 0.3:
                rows.parents.append(Parent(number, chance.choice(inputs)))
        before += files
    if chance.random() < 0.05:  # one that is stuck keeps them all
        at = next(at for at, file in enumerate(rows.files) if file.id == before[0])
        rows.files[at] = rows.files[at]._replace(in_phedex=0)


def _add_files(
    rows: Rows, chance: random.Random, files: Sequence[int], workflow: int, dataset: int, blocks: Sequence[int] | None
) -> None:
    for number in files:
        state = (chance.choice(blocks), "InDBS", 1) if blocks else (None, "NOTUPLOADED", 0)
        rows.files.append(File(number, _lfn(number), dataset, *state, workflow))
        rows.runlumis.extend(RunLumi(number, 1, lumi, 10) for lumi in range(chance.randint(1, 3)))
        rows.file_locations.append(FileLocation(number, 1))
        rows.checksums.append(Checksum(number, 2, f"{number:x}"))


@dataclass
class Agent:
    """What the components of one agent know of each other.

    files:      what was there in the beginning and is done, in the order of ids
    created:    the time that new blocks get
    live:       name of a running workflow -> its row
    inputs:     LFNs that jobs read: in WMBS, and in DBSBuffer for certain
    position:   the id that the cleanup has come to
    complaints: what should not have happened to a component, in words
    told:       what did happen, and how often
    """

    journal: Journal
    files: list[File]
    created: int
    live: dict[str, int]
    lock: threading.Lock = field(default_factory=threading.Lock)
    inputs: set[str] = field(default_factory=set)
    in_wmbs: set[str] = field(default_factory=set)
    busy: Counter[str] = field(default_factory=Counter)
    children: list[tuple[int, str]] = field(default_factory=list)
    outputs: dict[str, list[str]] = field(default_factory=dict)
    reset: list[str] = field(default_factory=list)
    reopened: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)
    told: Counter[str] = field(default_factory=Counter)
    numbers: Iterator[int] = field(default_factory=lambda: count(1000))
    position: int = 0

    def old_file(self, chance: random.Random) -> File:
        """One that was there in the beginning; often one that the cleanup is about to come to."""
        ahead = [file for file in self.files if file.id > self.position]
        return chance.choice(ahead[:8] if ahead and chance.random() < 0.6 else self.files)

    def work(self, session: Session, turns: dict[Turn, int], seed: str, until: float) -> None:
        """Take turns until a time of time.monotonic()."""
        chance = random.Random(seed)
        while time.monotonic() < until:
            time.sleep(chance.random() * LONGEST_PAUSE)
            turn = chance.choices([*turns], [*turns.values()])[0]
            try:
                turn(self, session, chance)
                self.told[turn.__name__] += 1
            except DatabaseBusyError:
                self.told["busy"] += 1
            except Exception as error:
                self.complaints.append(f"{turn.__name__}: {error!r}")
                return

    @contextmanager
    def using(self, chance: random.Random, inputs: int = 0) -> Iterator[tuple[str, int, list[str]]]:
        """A workflow that runs and some inputs, none of which ends meanwhile."""
        with self.lock:
            name = chance.choice(sorted(self.live))
            row = self.live[name]
            lfns = chance.sample(sorted(self.inputs), min(inputs, len(self.inputs)))
            self.busy.update([name, *lfns])
        try:
            yield name, row, lfns
        finally:
            with self.lock:
                self.busy.subtract([name, *lfns])

    def idle(self, names: Sequence[str]) -> list[str]:
        """Those of them that nobody uses; to be called with the lock."""
        return [name for name in sorted(names) if not self.busy[name]]

    def refused(self, error: WMAgentError, lfns: Sequence[str]) -> None:
        """A statement failed; one of these files has to be gone for it."""
        if isinstance(error, DatabaseBusyError):
            raise error
        text = str(error)
        if any(code in text for code in ("Duplicate entry", "ORA-00001")):
            return
        if not any(code in text for code in ("foreign key", "cannot be null", "ORA-01400", "ORA-02291")):
            raise error
        if not any(self.journal.is_gone(lfn) for lfn in lfns):
            self.complaints.append(f"{text} with {lfns}, none of which is gone")
        self.told["refused"] += 1


Turn = Callable[[Agent, Session, random.Random], None]


def _one(session: Session, sql: str, *params: object) -> int | None:
    rows = session.query(sql, params)
    return int(rows[0][0]) if rows else None


def _update(session: Session, lfn: str, settings: str, *params: object) -> int | None:
    """Change a file by its LFN; its id, None where it is not there."""
    before = _one(session, _EXISTS, lfn)
    session.execute(f"UPDATE dbsbuffer_file SET {settings} WHERE lfn = %s", [*params, lfn])
    if _one(session, _EXISTS, lfn) != before:
        raise DatabaseBusyError(f"{lfn} was made again meanwhile; which one was changed is not known")
    return before


def _add_details(session: Session, number: int, lfn: str, lumis: int, pnn: str) -> list[Callable[[State], None]]:
    """Location, checksum and lumis of a file, by its LFN."""
    changes: list[Callable[[State], None]] = []
    if session.execute(_SET_LOCATION[session.oracle], [lfn, pnn]):
        location = int(pnn[1])
        changes.append(partial(State.add_detail, part="file_locations", row=FileLocation(number, location)))
    cksum = f"{number:x}"
    params = [cksum, lfn, "adler32"] if session.oracle else [lfn, "adler32", cksum]
    if session.execute(_ADD_CHECKSUM[session.oracle], params):
        changes.append(partial(State.add_detail, part="checksums", row=Checksum(number, 2, cksum)))
    for lumi in range(lumis):
        session.execute(_RUNLUMI, [1, lumi, 10, lfn])
        changes.append(partial(State.add_detail, part="runlumis", row=RunLumi(number, 1, lumi, 10)))
    return changes


def _add_file(session: Session, file: File) -> tuple[int, bool]:
    """Its id, and whether it was made; a file of this name may be there."""
    params = [file.lfn, file.dataset_algo, file.status, file.workflow, file.in_phedex]
    made = session.execute(_ADD_FILE[session.oracle], params + ([file.lfn] if session.oracle else []))
    number = _one(session, _EXISTS, file.lfn)
    if number is None:
        raise AssertionError(f"{file.lfn} was neither found nor made")
    return number, bool(made)


def accountant_adds_files(agent: Agent, session: Session, chance: random.Random) -> None:
    """JobAccountant: outputs of a job, children of its inputs; now and then of a file that it has no business with."""
    with agent.using(chance, inputs=2) as (name, row, parents):
        wild = [agent.old_file(chance).lfn] if chance.random() < 0.2 else []
        lfns = [_lfn(f"new{next(agent.numbers)}") for _ in range(chance.randint(1, 2))]
        with agent.lock:
            agent.in_wmbs.update(lfns)
        try:
            made = _account(agent, session, chance, row, lfns, [*parents, *wild])
        except WMAgentError as error:
            agent.refused(error, wild)
            return
        with agent.lock:
            agent.children += made
            agent.outputs.setdefault(name, []).extend(lfns)


def _account(
    agent: Agent, session: Session, chance: random.Random, row: int, lfns: Sequence[str], parents: Sequence[str]
) -> list[tuple[int, str]]:
    made = []
    with session.transaction() as changes:
        for lfn in lfns:
            session.execute(_ADD_WMBS, [lfn])
            session.execute(_USE_IN_WMBS, [lfn])
            changes.append(partial(State.add_lfn, lfn=lfn))
        for lfn in lfns:
            file = File(0, lfn, LIVE, None, "NOTUPLOADED", 0, row)
            number, _ = _add_file(session, file)
            changes.append(partial(State.add_file, row=file._replace(id=number)))
            changes += _add_details(session, number, lfn, chance.randint(1, 2), "T1_X")
            made.append((number, lfn))
        for number, lfn in made:
            for parent in set(parents):
                session.execute(BULK_HERITAGE, [lfn, parent])
                found = _one(session, _EXISTS, parent)
                if found is None:
                    raise AssertionError(f"{parent} has vanished after a link to it was made")
                changes.append(partial(State.add_link, link=Parent(number, found)))
    if parents:
        agent.told["linked by JobAccountant"] += 1
    return made


def somebody_links(agent: Agent, session: Session, chance: random.Random) -> None:
    """DBSBufferFile.addParents: a link from a file that is there to any other, by names."""
    if not agent.children:
        return
    (child, child_lfn), parent = chance.choice(agent.children), agent.old_file(chance)
    try:
        with session.transaction() as changes:
            if session.execute(_HERITAGE[session.oracle], [child_lfn, parent.lfn]):
                found = _one(session, _EXISTS, parent.lfn)
                if found is None:
                    raise AssertionError(f"{parent} has vanished after a link to it was made")
                changes.append(partial(State.add_link, link=Parent(child, found)))
                agent.told["linked by hand"] += 1
            elif (_one(session, _EXISTS, child_lfn), _one(session, _EXISTS, parent.lfn)) == (child, parent.id):
                agent.complaints.append(f"no link was made between {child} and {parent.id}, which are there")
    except WMAgentError as error:
        agent.refused(error, [child_lfn, parent.lfn])


def helper_adds_inputs(agent: Agent, session: Session, chance: random.Random) -> None:
    """WMBSHelper: files of DBS that a new job will read; what DBSBuffer has of them stays as it is."""
    with agent.using(chance) as (_, row, _):
        wanted = {agent.old_file(chance).lfn for _ in range(chance.randint(1, 3))}
        with agent.lock:
            lfns = sorted(wanted - agent.in_wmbs)
            agent.in_wmbs.update(lfns)
        try:
            with session.transaction() as changes:
                for lfn in lfns:
                    session.execute(_ADD_WMBS, [lfn])
                    session.execute(_USE_IN_WMBS, [lfn])
                    changes.append(partial(State.add_lfn, lfn=lfn, relied=True))
                added = [(lfn, *_add_file(session, File(0, lfn, BOGUS, None, "GLOBAL", 1, row))) for lfn in lfns]
                for lfn, number, made in added:
                    if made:
                        file = File(number, lfn, BOGUS, None, "GLOBAL", 1, row)
                        changes.append(partial(State.add_file, row=file))
                    changes += _add_details(session, number, lfn, 0, chance.choice(("T1_X", "T2_Y")))
        except BaseException:
            with agent.lock:
                agent.in_wmbs.difference_update(lfns)
            raise
        with agent.lock:
            agent.inputs.update(lfns)
        agent.told["found"] += sum(not made for _, _, made in added)


def archiver_drops_inputs(agent: Agent, session: Session, chance: random.Random) -> None:
    """TaskArchiver: the jobs that read a file are done."""
    with agent.lock:
        idle = agent.idle(list(agent.inputs))
        if not idle:
            return
        lfn = chance.choice(idle)
        agent.inputs.discard(lfn)
    _drop_from_wmbs(agent, session, [lfn])


def _drop_from_wmbs(agent: Agent, session: Session, lfns: Sequence[str]) -> None:
    while True:
        try:
            with session.transaction() as changes:
                for lfn in lfns:
                    session.execute(_DELETE_WMBS, [lfn])
                    changes.append(partial(State.remove_lfn, lfn=lfn))
            break
        except DatabaseBusyError:
            agent.told["busy"] += 1
    with agent.lock:
        agent.in_wmbs.difference_update(lfns)


def archiver_completes(agent: Agent, session: Session, chance: random.Random) -> None:
    """TaskArchiver: a workflow is done, and gone from WMBS a moment later. WorkQueue brings another."""
    with agent.lock:
        idle = agent.idle(list(agent.live))
        if not idle or len(agent.live) < 2:
            return
        name = chance.choice(idle)
        del agent.live[name]
    try:
        with session.transaction() as changes:
            session.execute("UPDATE dbsbuffer_workflow SET completed = 1 WHERE name = %s", [name])
            changes.append(partial(State.complete, name=name))
        with session.transaction() as changes:
            session.execute("DELETE FROM wmbs_workflow WHERE name = %s", [name])
            changes.append(partial(State.remove_name, name=name))
    finally:
        _begin_workflow(agent, session)
    _drop_from_wmbs(agent, session, [lfn for lfn in agent.outputs.pop(name, []) if lfn not in agent.inputs])


def _begin_workflow(agent: Agent, session: Session) -> None:
    name = f"new{next(agent.numbers)}"
    while True:
        try:
            with session.transaction() as changes:
                owner = _one(session, "SELECT MIN(id) FROM wmbs_users")
                session.execute(
                    "INSERT INTO wmbs_workflow (spec, name, task, owner, alt_fs_close) VALUES ('s', %s, 't', %s, 0)",
                    [name, owner],
                )
                session.execute(_ADD_WORKFLOW[session.oracle], [name, f"/{name}/T"])
                row = _one(session, "SELECT id FROM dbsbuffer_workflow WHERE name = %s", name) or 0
                changes.append(partial(State.add_name, name=name))
                changes.append(partial(State.add_workflow, row=Workflow(row, name, f"/{name}/T", 0)))
            break
        except DatabaseBusyError:
            agent.told["busy"] += 1
    with agent.lock:
        agent.live[name] = row


def uploader_fills_blocks(agent: Agent, session: Session, chance: random.Random) -> None:
    """DBS3Upload: new files into an open block."""
    rows = session.query("SELECT lfn FROM dbsbuffer_file WHERE status = 'NOTUPLOADED' AND block_id IS NULL")
    opened = session.query("SELECT id, blockname FROM dbsbuffer_block WHERE status = 'Open'")
    session.connection.rollback()
    if not rows:
        return
    name = opened[0][1] if opened else f"/P/E{LIVE}/RAW#new{next(agent.numbers)}"
    if not opened:
        with session.transaction() as changes:
            session.execute(
                "INSERT INTO dbsbuffer_block (dataset_id, blockname, location, status, create_time) "
                "VALUES (%s, %s, 1, 'Open', %s)",
                [LIVE, name, agent.created],
            )
            number = _one(session, "SELECT id FROM dbsbuffer_block WHERE blockname = %s", name) or 0
            block = Block(number, LIVE, name, 1, agent.created, "Open", 0, "0")
            changes.append(partial(State.add_block, row=block))
    with session.transaction() as changes:
        number = _one(session, "SELECT id FROM dbsbuffer_block WHERE blockname = %s", name) or 0
        for (lfn,) in rows[:5]:
            if file := _update(session, lfn, f"block_id = {_BLOCK_OF}", name):
                changes.append(partial(State.change_file, number=file, block_id=number))


def uploader_uploads(agent: Agent, session: Session, chance: random.Random) -> None:
    """DBS3Upload: Open → Pending → InDBS."""
    rows = session.query("SELECT id, blockname, status FROM dbsbuffer_block WHERE status IN ('Open', 'Pending')")
    session.connection.rollback()
    if not rows:
        return
    number, name, status = chance.choice(rows)
    following = {"Open": "Pending", "Pending": "InDBS"}[status]
    with session.transaction() as changes:
        if following == "InDBS":
            session.execute(f"UPDATE dbsbuffer_file SET status = 'InDBS' WHERE block_id = {_BLOCK_OF}", [name])
            for (file,) in session.query("SELECT id FROM dbsbuffer_file WHERE block_id = %s", [number]):
                changes.append(partial(State.change_file, number=int(file), status="InDBS"))
        session.execute("UPDATE dbsbuffer_block SET status = %s WHERE blockname = %s", [following, name])
        changes.append(partial(State.change_block, number=int(number), status=following))


def injector_registers(agent: Agent, session: Session, chance: random.Random) -> None:
    """RucioInjector: replicas of files in blocks."""
    rows = session.query(
        "SELECT lfn FROM dbsbuffer_file WHERE status = 'InDBS' AND in_phedex = 0 AND block_id IS NOT NULL"
    )
    session.connection.rollback()
    with session.transaction() as changes:
        for (lfn,) in rows[:6]:
            # Somebody may have reset its status by now; its replica is there all the same.
            if file := _update(session, lfn, "in_phedex = 1"):
                changes.append(partial(State.change_file, number=file, in_phedex=1))


def injector_closes(agent: Agent, session: Session, chance: random.Random) -> None:
    """RucioInjector: close blocks, make their rules, subscribe datasets, delete what is to be deleted."""
    rows = session.query("""SELECT b.id, b.blockname FROM dbsbuffer_block b WHERE b.status = 'InDBS'
        AND NOT EXISTS (SELECT 1 FROM dbsbuffer_file f WHERE f.block_id = b.id AND f.in_phedex = 0)""")
    ruleless = session.query("SELECT id, blockname FROM dbsbuffer_block WHERE rule_id = '0' AND status = 'Closed'")
    session.connection.rollback()
    with session.transaction() as changes:
        for number, name in rows:
            session.execute("UPDATE dbsbuffer_block SET status = 'Closed' WHERE blockname = %s", [name])
            changes.append(partial(State.change_block, number=int(number), status="Closed"))
        for number, name in ruleless:
            session.execute("UPDATE dbsbuffer_block SET rule_id = 'r' WHERE blockname = %s", [name])
            changes.append(partial(State.change_block, number=int(number), rule_id="r"))
    wanted = session.query("SELECT id, dataset_id, site FROM dbsbuffer_dataset_subscription WHERE subscribed = 0")
    session.connection.rollback()
    with session.transaction() as changes:
        for number, dataset, site in wanted:
            session.execute("UPDATE dbsbuffer_dataset_subscription SET subscribed = 1 WHERE id = %s", [number])
            changes.append(partial(State.set_subscription, row=Subscription(int(number), int(dataset), site, 1, None)))


def somebody_subscribes(agent: Agent, session: Session, chance: random.Random) -> None:
    """WMBSHelper: a new workflow wants a dataset at one site more."""
    dataset, site = chance.choice((1, 2, LIVE)), f"T2_{next(agent.numbers)}"
    with session.transaction() as changes:
        add = "INSERT INTO dbsbuffer_dataset_subscription (dataset_id, site) VALUES (%s, %s)"
        session.execute(add, [dataset, site])
        number = _one(session, "SELECT id FROM dbsbuffer_dataset_subscription WHERE site = %s", site) or 0
        changes.append(partial(State.set_subscription, row=Subscription(number, dataset, site, 0, None)))


def operator_resets(agent: Agent, session: Session, chance: random.Random) -> None:
    """Somebody has a file uploaded or registered again."""
    file = agent.old_file(chance)
    if file.workflow is None:
        return
    columns: dict[str, object] = chance.choice(({"status": "NOTUPLOADED", "in_phedex": 0}, {"in_phedex": 0}))
    with session.transaction() as changes:
        settings = ", ".join(f"{name} = %s" for name in columns)
        if number := _update(session, file.lfn, settings, *columns.values()):
            changes.append(partial(State.change_file, number=number, **columns))
            agent.told["reset"] += 1
    agent.reset.append(file.lfn)


def operator_reopens(agent: Agent, session: Session, chance: random.Random) -> None:
    """Somebody takes back what TaskArchiver said of a workflow, or RucioInjector of a block."""
    file = agent.old_file(chance)
    if file.workflow is None:
        return
    with session.transaction() as changes:
        if chance.random() < 0.5:
            name = f"old{file.workflow}"
            if session.execute("UPDATE dbsbuffer_workflow SET completed = 0 WHERE name = %s", [name]):
                changes.append(partial(State.complete, name=name, completed=0))
        elif session.execute("UPDATE dbsbuffer_block SET status = 'InDBS' WHERE id = %s", [file.block_id]):
            changes.append(partial(State.change_block, number=file.block_id, status="InDBS"))
    agent.reopened.append(f"old{file.workflow}")


def operator_completes(agent: Agent, session: Session, chance: random.Random) -> None:
    """Such a workflow is completed again; blocks are closed by RucioInjector."""
    if not agent.reopened:
        return
    name = agent.reopened.pop()
    with session.transaction() as changes:
        if session.execute("UPDATE dbsbuffer_workflow SET completed = 1 WHERE name = %s", [name]):
            changes.append(partial(State.complete, name=name))


def operator_is_done(agent: Agent, session: Session, chance: random.Random) -> None:
    """What was reset is done again."""
    if not agent.reset:
        return
    lfn = agent.reset.pop()
    with session.transaction() as changes:
        if number := _update(session, lfn, "status = 'InDBS', in_phedex = 1"):
            changes.append(partial(State.change_file, number=number, status="InDBS", in_phedex=1))


ACCOUNTANT: dict[Turn, int] = {accountant_adds_files: 10, somebody_links: 2}
WORK_QUEUE: dict[Turn, int] = {helper_adds_inputs: 5, archiver_drops_inputs: 10, archiver_completes: 2}
UPLOADER: dict[Turn, int] = {
    uploader_fills_blocks: 4,
    uploader_uploads: 6,
    injector_registers: 6,
    injector_closes: 6,
    somebody_subscribes: 1,
}
OPERATOR: dict[Turn, int] = {
    operator_resets: 5,
    operator_is_done: 3,
    operator_reopens: 2,
    operator_completes: 2,
    somebody_links: 1,
}
THREADS: dict[str, dict[Turn, int]] = {
    "JobAccountant": ACCOUNTANT,
    "WorkQueueManager": WORK_QUEUE,
    "DBS3Upload": UPLOADER,
    "operator": OPERATOR,
}
"""Each in a thread and a session of its own."""
