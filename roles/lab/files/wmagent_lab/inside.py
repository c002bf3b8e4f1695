# SPDX-License-Identifier: GPL-3.0-or-later
"""Run by the interpreter of an agent's own environment: ``python inside.py <verb>``, its request as JSON on stdin.

Passwords come in through stdin, never on a command line. Only here is WMCore imported.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

Request = dict[str, Any]


def database(request: Request) -> None:
    """Create the agent's database and account, as a site's administrator does before an agent is deployed."""
    import MySQLdb

    connection = MySQLdb.connect(
        host="127.0.0.1",
        port=request["port"],
        user=request["admin"],
        passwd=request["admin_password"],
        connect_timeout=20,
    )
    cursor = connection.cursor()
    name, user = request["database"], request["user"]
    # What is there is left from a deployment that was cut off; one that was finished never comes here.
    cursor.execute(f"DROP DATABASE IF EXISTS `{name}`")
    cursor.execute(f"CREATE DATABASE `{name}`")
    for host in ("localhost", "127.0.0.1"):
        cursor.execute("CREATE USER IF NOT EXISTS %s@%s IDENTIFIED BY %s", (user, host, request["password"]))
        cursor.execute(f"GRANT ALL ON `{name}`.* TO %s@%s", (user, host))
    connection.close()


def seed(request: Request) -> None:
    """Rows of a few workflows, in states that no component acts on: a database that is empty proves little."""
    import MySQLdb

    connection = MySQLdb.connect(
        host="127.0.0.1",
        port=request["port"],
        user=request["user"],
        passwd=request["password"],
        db=request["database"],
        connect_timeout=20,
    )
    cursor = connection.cursor()
    cursor.execute("SELECT COUNT(*) FROM wmbs_workflow")
    if cursor.fetchone()[0] == 0:
        _seed_identity(cursor, request)
        for number in range(request["workflows"]):
            _seed_workflow(cursor, request, number)
        connection.commit()
    connection.close()


def _seed_identity(cursor: Any, request: Request) -> None:
    cursor.execute("SHOW TABLES LIKE 'wma_init'")
    if cursor.fetchone():
        rows = {
            "wma_build_id": request["build_id"],
            "wma_tag": request["tag"],
            "hostname": request["agent"],
            "is_active": "true",
        }
        cursor.executemany("INSERT INTO wma_init (init_param, init_value) VALUES (%s, %s)", list(rows.items()))
    cursor.execute(
        "INSERT INTO wmbs_users (cert_dn, name_hn, owner, grp, group_name, role_name) "
        "VALUES ('/DC=example/CN=operator', 'operator', 'operator', 'DATAOPS', 'DATAOPS', 'production')"
    )


def _seed_workflow(cursor: Any, request: Request, number: int) -> None:
    now, work_dir, priority = int(time.time()), request["work_dir"], request["priority"]
    name = f"{request['agent']}_lab_workflow_{number}"
    task = f"/{name}/Production"
    spec = f"{work_dir}/WorkQueueManager/cache/{name}/WMSandbox/WMWorkload.pkl"
    _write_spec(name, spec)
    cursor.execute("SELECT id FROM wmbs_users LIMIT 1")
    owner = cursor.fetchone()[0]
    workflow = _insert(
        cursor,
        "wmbs_workflow",
        spec=spec,
        name=name,
        task=task,
        type="production",
        owner=owner,
        alt_fs_close=0,
        injected=1,
        priority=priority,
    )
    fileset = _insert(cursor, "wmbs_fileset", name=f"{name}-input", open=1, last_update=now)
    cursor.execute("SELECT id FROM wmbs_sub_types WHERE name = 'Production'")
    subtype = cursor.fetchone()[0]
    subscription = _insert(
        cursor,
        "wmbs_subscription",
        fileset=fileset,
        workflow=workflow,
        split_algo="EventBased",
        subtype=subtype,
        last_update=now,
        finished=0,
    )
    group = _insert(
        cursor, "wmbs_jobgroup", subscription=subscription, guid=f"{name}-group", output=fileset, last_update=now
    )
    # No component looks for jobs that are executing without a bl_runjob row.
    cursor.execute("SELECT id FROM wmbs_job_state WHERE name = 'executing'")
    state = cursor.fetchone()[0]
    for job in range(5):
        cache = f"{work_dir}/JobCreator/JobCache/{name}/job_{job}"
        _insert(cursor, "wmbs_job", jobgroup=group, name=f"{name}-{job}", state=state, state_time=now, cache_dir=cache)
    for file in range(10):
        details = _insert(
            cursor,
            "wmbs_file_details",
            lfn=f"/store/unmerged/lab/{name}/{file}.root",
            filesize=1 << 30,
            events=1000,
            first_event=0,
            merged=0,
        )
        _insert(cursor, "wmbs_fileset_files", fileid=details, fileset=fileset, insert_time=now)
        _insert(cursor, "wmbs_file_runlumi_map", fileid=details, run=1, lumi=number * 1000 + file)
    _seed_buffer(cursor, name, task, now)


def _write_spec(name: str, spec: str) -> None:
    from WMCore.WMSpec.WMWorkload import newWorkload

    workload = newWorkload(name)
    workload.setOwnerDetails("operator", "DATAOPS", {"dn": "/DC=example/CN=operator"})
    workload.newTask("Production").setTaskType("Production")
    Path(spec).parent.mkdir(parents=True, exist_ok=True)
    workload.setSpecUrl(spec)
    workload.save(spec)


def _seed_buffer(cursor: Any, name: str, task: str, now: int) -> None:
    """DBSBuffer rows at the end of their life: in DBS, in Rucio, block closed and protected by a rule."""
    dataset = _insert(
        cursor,
        "dbsbuffer_dataset",
        path=f"/Lab/{name}/GEN-SIM",
        processing_ver=1,
        acquisition_era="Lab",
        valid_status="VALID",
    )
    algo = _insert(cursor, "dbsbuffer_algo", app_name="cmsRun", app_ver="lab", app_fam=name, pset_hash="lab", in_dbs=1)
    pair = _insert(cursor, "dbsbuffer_algo_dataset_assoc", algo_id=algo, dataset_id=dataset, in_dbs=1)
    cursor.execute("INSERT IGNORE INTO dbsbuffer_location (pnn) VALUES ('T2_CH_CERN')")
    cursor.execute("SELECT id FROM dbsbuffer_location WHERE pnn = 'T2_CH_CERN'")
    location = cursor.fetchone()[0]
    block = _insert(
        cursor,
        "dbsbuffer_block",
        dataset_id=dataset,
        blockname=f"/Lab/{name}/GEN-SIM#lab",
        location=location,
        create_time=now,
        status="Closed",
        rule_id="0" * 31 + "1",
    )
    workflow = _insert(cursor, "dbsbuffer_workflow", name=name, task=task, completed=0)
    for file in range(10):
        _insert(
            cursor,
            "dbsbuffer_file",
            lfn=f"/store/mc/Lab/{name}/{file}.root",
            filesize=1 << 30,
            events=1000,
            dataset_algo=pair,
            block_id=block,
            status="InDBS",
            in_phedex=1,
            workflow=workflow,
            LastModificationDate=now,
        )


def _insert(cursor: Any, table: str, **row: Any) -> int:
    columns, marks = ", ".join(row), ", ".join(["%s"] * len(row))
    # Table and column names are constants of this file; the values are bound.
    cursor.execute(f"INSERT INTO {table} ({columns}) VALUES ({marks})", list(row.values()))  # noqa: S608
    return int(cursor.lastrowid or 0)


def couchapps(request: Request) -> None:
    """CouchDB's databases and design documents of an agent.

    ``wmagent-couchapp-init`` pushes the same ones; but it wants a copy of a JavaScript library for a web page that
    nobody opens, pushes to central databases where those are reached by HTTP, and installs cron jobs.
    """
    from couchapp.commands import push
    from WMCore.Configuration import loadConfigurationFile

    config = loadConfigurationFile(request["config"])
    machine, queue = config.JobStateMachine, config.WorkQueueManager
    pushes = (
        (machine.couchurl, f"{machine.couchDBName}%2Ffwjrs", "FWJRDump"),
        (machine.couchurl, f"{machine.couchDBName}%2Fjobs", "JobDump"),
        (machine.couchurl, machine.jobSummaryDBName, "WMStatsAgent"),
        (machine.couchurl, machine.summaryStatsDBName, "SummaryStats"),
        (queue.couchurl, queue.dbname, "WorkQueue"),
        (queue.couchurl, queue.inboxDatabase, "WorkQueue"),
    )
    for url, name, app in pushes:
        push(str(Path(sys.prefix) / "data" / "couchapps" / app), f"{url}/{name}")


def central_queue(request: Request) -> None:
    """The central workqueue's design document, which its administrators push."""
    from couchapp.commands import push

    push(str(Path(sys.prefix) / "data" / "couchapps" / "WorkQueue"), request["url"])


def keep_components(request: Request) -> None:
    """Leave only some components in config.py: AgentWatchdog starts every other one that stands there.

    The settings of the rest stay, since components read each other's.
    """
    from WMCore.Configuration import loadConfigurationFile, saveConfigurationFile

    config, kept = loadConfigurationFile(request["config"]), request["components"]
    unknown = sorted(set(kept) - set(config.listComponents_()))
    if unknown:
        sys.exit(f"this release has no component {', '.join(unknown)}; correct wmagent_components")
    config._internal_components = [name for name in config.listComponents_() if name in kept]
    if hasattr(config, "AgentWatchdog") and hasattr(config.AgentWatchdog, "watchedComponents"):
        watched = config.AgentWatchdog.watchedComponents
        config.AgentWatchdog.watchedComponents = [name for name in watched if name in kept]
    saveConfigurationFile(config, request["config"])


if __name__ == "__main__":
    verbs = (database, seed, couchapps, central_queue, keep_components)
    {verb.__name__: verb for verb in verbs}[sys.argv[1]](json.load(sys.stdin))
