# SPDX-License-Identifier: GPL-3.0-or-later
"""Run by a release's own interpreter: an agent in small, whose own components read and write its database.

Arguments: database URL, a folder. One JSON request per line on standard input, ``[verb, {arguments}]``, and one JSON
answer per line on standard output. The verbs are the public methods of :class:`Agent`. What lies outside of an agent
(DBS, Rucio, ReqMgr, CouchDB, the batch system) is played by stand-ins; every statement that reaches the database is the
release's. Standard library and the release's own packages only.
"""

from __future__ import annotations

import json
import logging
import queue
import sys
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock, Mock

from WMComponent.AgentStatusWatcher import DrainStatusAPI
from WMComponent.DBS3Buffer import DBSBufferBlock, DBSUploadPoller
from WMComponent.DBS3Buffer.DBSBufferDataset import DBSBufferDataset
from WMComponent.DBS3Buffer.DBSBufferFile import DBSBufferFile
from WMComponent.DBS3Buffer.DBSBufferUtil import DBSBufferUtil
from WMComponent.JobAccountant import AccountantWorker
from WMComponent.RucioInjector import RucioInjectorPoller
from WMComponent.TaskArchiver import CleanCouchPoller, TaskArchiverPoller
from WMCore.Configuration import Configuration
from WMCore.DAOFactory import DAOFactory
from WMCore.DataStructs.File import File
from WMCore.DataStructs.Run import Run
from WMCore.JobSplitting.SplitterFactory import SplitterFactory
from WMCore.WMBS.Fileset import Fileset
from WMCore.WMBS.Subscription import Subscription
from WMCore.WMBS.Workflow import Workflow
from WMCore.WMInit import WMInit
from WMCore.WMSpec.WMWorkload import newWorkload
from WMCore.WorkQueue.WMBSHelper import WMBSHelper

SITE, DESTINATION = "T2_XX_Site", "T1_XX_Disk"
ALGORITHM = {"appName": "cmsRun", "appVer": "CMSSW_1", "appFam": "Merged", "psetHash": "hash", "configContent": "none"}
REFUSING = ("dbs", "replicas", "closing", "container rules", "block rules")
PACKAGES = {
    "buffer": "WMComponent.DBS3Buffer",
    "rucio": "WMComponent.RucioInjector.Database",
    "wmbs": "WMCore.WMBS",
}

CONFIGURATION: dict[str, dict[str, Any]] = {
    "Agent": {"hostName": "agent", "agentName": "WMAgent", "teamName": "team"},
    "General": {"centralWMStatsURL": "none", "ReqMgr2ServiceURL": "none"},
    "ACDC": {"couchurl": "none", "database": "none"},
    "JobStateMachine": {"couchurl": "none", "couchDBName": "none", "summaryStatsDBName": "none"},
    "JobAccountant": {},
    "TaskArchiver": {"localWMStatsURL": "none"},
    "AnalyticsDataCollector": {"centralRequestDBURL": "none", "RequestCouchApp": "none"},
    "WorkQueueManager": {"couchurl": "none"},
    "WorkloadSummary": {"couchurl": "none"},
    "DBS3Upload": {"dbsUrl": "none", "dbsWaitTime": 0.01},
    "RucioInjector": {
        "pollIntervalRules": 0,
        "createBlockRules": True,
        "containerDiskRuleParams": {},
        "blockRuleParams": {},
        "containerDiskRuleRSEExpr": "any",
        "metaDIDProject": "Production",
        "cacheExpiration": 172800,
        "rucioAccount": "wmagent",
        "rucioUrl": "none",
        "rucioAuthUrl": "none",
        "RSEPostfix": False,
        "blockDeletionDelayHours": -1,  # else not in the second in which a block was made
    },
}


def main() -> None:
    """Answer until standard input ends."""
    answers, sys.stdout = sys.stdout, sys.stderr  # some of the release's code prints
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING)
    agent: Agent | None = None
    for line in sys.stdin:
        verb, arguments = json.loads(line)
        agent = agent or Agent(sys.argv[1], Path(sys.argv[2]))
        print(json.dumps(getattr(agent, verb)(**arguments), default=_plain), file=answers, flush=True)


def _plain(value: Any) -> Any:
    if isinstance(value, Run):
        return {str(value.run): value.eventsPerLumi}
    return sorted(value, key=str) if hasattr(value, "__iter__") else float(value)


class Agent:
    """The components of an agent, as they are after their start."""

    def __init__(self, url: str, folder: Path) -> None:
        self._folder = folder
        self._thread: Any = threading.current_thread()
        WMInit().setDatabaseConnection(url, "mysql")
        self._thread.logger = logging.getLogger()
        self._thread.logdbClient = Mock()
        self._refused: dict[str, set[str]] = {by: set() for by in REFUSING}
        self._in_dbs: dict[str, Any] = {}
        self._in_rucio: set[str] = set()
        self._archived: set[str] = set()
        self._dao("wmbs", "Locations.New", siteName=SITE, pnn=SITE)
        config = Configuration()
        for section, values in {**CONFIGURATION, "JobCreator": {"jobCacheDir": str(folder)}}.items():
            for name, value in values.items():
                setattr(config.section_(section), name, value)
            config.section_(section)
        self._job_accountant = _job_accountant(config)
        self._dbs_upload = self._make_dbs_upload(config)
        self._rucio_injector = self._make_rucio_injector(config)
        self._task_archiver, self._couch_cleaner = self._make_task_archiver(config)
        DrainStatusAPI.WorkQueueBackend = DrainStatusAPI.PyCondorAPI = Mock()
        self._drain_status = DrainStatusAPI.DrainStatusAPI(config)

    def _dao(self, package: str, name: str, *arguments: Any, **named: Any) -> Any:
        factory = DAOFactory(package=PACKAGES[package], logger=self._thread.logger, dbinterface=self._thread.dbi)
        return factory(classname=name).execute(*arguments, **named)

    def _sql(self, statement: str, **binds: Any) -> list[Any]:
        return [tuple(row) for row in self._thread.dbi.processData(statement, binds)[0].fetchall()]

    def _make_dbs_upload(self, config: Configuration) -> Any:
        def put(work: Any) -> None:
            if work == "STOP":
                return
            refused = work["name"].split("#")[0] in self._refused["dbs"]
            if not refused:
                self._in_dbs[work["name"]] = work["block"]
            poller.workResult.put({"name": work["name"], "success": "error" if refused else "uploaded"})

        def set_up_pool(one: Any) -> None:
            results = queue.Queue()
            one.workInput, one.workResult = Mock(put=put), Mock(put=results.put, get=results.get)

        DBSBufferBlock.JSONRequests = DBSUploadPoller.DbsApi = DBSUploadPoller.WMStatsServer = MagicMock()
        DBSUploadPoller.resetWatchdogTimer = Mock(return_value=0)
        DBSUploadPoller.DBSUploadPoller.setupPool = set_up_pool
        poller = DBSUploadPoller.DBSUploadPoller(config)
        # Where ReqMgr has parents of datasets, DBS is told no parents of files.
        poller.wmstatsServerSvc.getChildParentDatasetMap.return_value = {}
        return poller

    def _make_rucio_injector(self, config: Configuration) -> Any:
        def create_replicas(rse: str, files: list[dict[str, Any]], block: str) -> bool:
            if block.split("#")[0] in self._refused["replicas"]:
                return False
            self._in_rucio |= {file["name"] for file in files}
            return True

        def create_rule(did: str, **_: Any) -> list[str]:
            dataset, _, block = did.partition("#")
            return [] if dataset in self._refused["block rules" if block else "container rules"] else ["rule"]

        RucioInjectorPoller.Rucio = Mock(
            return_value=Mock(
                createReplicas=create_replicas,
                createReplicationRule=create_rule,
                closeBlockContainer=lambda block: block.split("#")[0] not in self._refused["closing"],
                getReplicaInfoForBlocks=lambda block, deep: [
                    {"name": name, "replica": [SITE, DESTINATION]} for name in block
                ],
                listDataRules=lambda block, **_: [],
            )
        )
        RucioInjectorPoller.resetWatchdogTimer = Mock(return_value=0)
        poller = RucioInjectorPoller.RucioInjectorPoller(config)
        poller.setup(None)
        return poller

    def _make_task_archiver(self, config: Configuration) -> tuple[Any, Any]:
        TaskArchiverPoller.RequestDBWriter = TaskArchiverPoller.ReqMgr = MagicMock()
        TaskArchiverPoller.resetWatchdogTimer = Mock(return_value=0)
        poller = CleanCouchPoller.CleanCouchPoller(config)
        poller.useReqMgrForCompletionCheck = True
        poller.centralRequestDBWriter = Mock(
            getStatusAndTypeByRequest=lambda name: {
                name: ["normal-archived" if name in self._archived else "announced", "ReReco"]
            }
        )
        return TaskArchiverPoller.TaskArchiverPoller(config), poller

    # What goes on in an agent.

    def inject(
        self, name: str, dataset: str, inputs: list[str], keep: bool = True, delete_blocks: bool = False
    ) -> None:
        """A workflow comes, as WorkQueueManager puts it into WMBS and DBSBuffer.

        dataset: what it writes
        inputs:  the files that it reads; none for a simulation from scratch
        keep:    the output of its first task is kept; only then DBSBuffer knows that task
        """
        folder = self._folder / name
        folder.mkdir(exist_ok=True)
        spec = _specification(name, dataset, keep, delete_blocks)
        spec.setSpecUrl(str(folder / "spec.pkl"))
        spec.save(spec.specUrl())
        mask = {"FirstRun": 1, "LastRun": 1, "FirstLumi": 1, "LastLumi": 3, "FirstEvent": 1, "LastEvent": 30}
        part = {"blockName": f"block with {inputs[0]}"} if inputs else {"mask": mask}
        helper = WMBSHelper(spec, "Processing", cachepath=str(folder), commonLocation=[SITE], **part)
        helper.createSandbox = Mock()
        block = {"Files": [_from_dbs(lfn) for lfn in inputs], "PhEDExNodeNames": [SITE]}
        helper.createSubscriptionAndAddFiles(block if inputs else None)
        self._dao("wmbs", "Workflow.MarkInjectedWorkflows", [name])

    def work(self, name: str, dataset: str, jobs: int = 1000) -> list[str]:
        """Jobs of a workflow, at most so many, are split, run and accounted; returns the merged files."""
        merged = []
        while jobs and (ready := self._ready_jobs(name)[:jobs]):
            jobs -= len(ready)
            reports = {str(job): _report(name, task, kind, dataset, job) for job, task, kind in ready}
            self._job_accountant.loadJobReport = reports.__getitem__
            self._job_accountant([{"id": job, "fwjr_path": str(job)} for job, _, _ in ready])
            done = [{"id": job, "state": "cleanout", "couch_record": None} for job, _, _ in ready]
            self._dao("wmbs", "Jobs.ChangeState", done)
            merged += [report.getAllFiles()[0]["lfn"] for report in reports.values() if report.merged]
        return merged

    def _ready_jobs(self, name: str) -> list[tuple[int, str, str]]:
        """Job, task and kind."""
        for subscription in self._subscriptions(name):
            split = SplitterFactory()(package="WMCore.WMBS", subscription=subscription)
            split(files_per_job=2 if subscription["type"] == "Merge" else 1)
        return self._sql(
            """SELECT j.id, w.task, t.name FROM wmbs_job j INNER JOIN wmbs_job_state js ON js.id = j.state
               INNER JOIN wmbs_jobgroup g ON g.id = j.jobgroup INNER JOIN wmbs_subscription s ON s.id = g.subscription
               INNER JOIN wmbs_sub_types t ON t.id = s.subtype INNER JOIN wmbs_workflow w ON w.id = s.workflow
               WHERE w.name = :name AND js.name <> 'cleanout' ORDER BY j.id""",
            name=name,
        )

    def _subscriptions(self, name: str) -> list[Subscription]:
        rows = self._sql(
            """SELECT s.id FROM wmbs_subscription s INNER JOIN wmbs_workflow w ON w.id = s.workflow
               WHERE w.name = :name ORDER BY s.id""",
            name=name,
        )
        found = [Subscription(id=row[0]) for row in rows]
        for subscription in found:
            subscription.load()
            subscription["workflow"] = Workflow(id=subscription["workflow"].id)
            subscription["workflow"].load()
        return found

    def abort(self, name: str) -> None:
        """All that a workflow has still to do fails."""
        for subscription in self._subscriptions(name):
            if files := subscription.filesOfStatus("Available"):
                subscription.acquireFiles(files)
                subscription.failFiles(files)

    def refuse(self, by: str, datasets: list[str]) -> None:
        """From now on these datasets are refused and no others. by: one of REFUSING"""
        self._refused[by] = set(datasets)

    def upload(self) -> None:
        """One cycle of DBS3Upload."""
        self._dbs_upload.algorithm()

    def register(self) -> None:
        """One cycle of RucioInjector."""
        self._rucio_injector.algorithm(None)

    def finish(self, names: list[str]) -> None:
        """Nothing more comes for these workflows; then one cycle of TaskArchiver."""
        for name in names:
            for subscription in self._subscriptions(name):
                fileset = Fileset(id=subscription["fileset"].id)
                fileset.load()
                fileset.markOpen(False)
        self._task_archiver.algorithm()

    def archive(self, names: list[str]) -> None:
        """ReqMgr has archived these workflows; then TaskArchiver deletes them from WMBS."""
        self._archived |= set(names)
        self._couch_cleaner.deleteWorkflowFromWMBSAndDisk()

    # The same with DBSBuffer's own classes, as scripts and older releases use them.

    def by_hand(self, name: str, dataset: str, parents: list[str], children: int = 1, done: bool = True) -> list[str]:
        """A file with parents, some of them unknown, and its children; returns their LFNs. done: to the very end."""
        workflow = self._dao("buffer", "InsertWorkflow", name, f"/{name}/Task", 100, 10, 1000, 10**9)
        block = DBSBufferBlock.DBSBufferBlock(f"{dataset}#{name}", SITE, dataset)
        block.setDataset(dataset, "mc", "PRODUCTION")
        files = []
        for number in range(1 + children):
            file = DBSBufferFile(
                lfn=f"/store/mc/{name}/{number}.root",
                size=10,
                events=5,
                checksums={"adler32": "ad1e5"},
                locations={SITE},
                workflowId=workflow,
            )
            file.setAlgorithm(**ALGORITHM)
            file.setDatasetPath(dataset)
            file.addRun(Run(1, (number, 5)))
            file.create()
            files.append(file)
        lfns = [file["lfn"] for file in files]
        files[0].addParents(parents)
        if children:
            files[0].addChildren(lfns[1:])
        if done:
            # Before it is uploaded, DBS3Upload would make blocks in both places, one of them empty.
            files[0].setLocation(DESTINATION)
            self._dao("buffer", "CreateBlocks", [block])
            files[0].setBlock(block.getName())
            self._dao("buffer", "SetBlockFiles", [{"block": block.getName(), "filelfn": lfn} for lfn in lfns[1:]])
            self._dao("buffer", "UpdateFiles", [block], "InDBS")
            block.status = "InDBS"
            self._dao("buffer", "UpdateBlocks", [block])
            self._dao("buffer", "DBSBufferFiles.SetPhEDExStatus", lfns, 1)
            self._dao("buffer", "SetBlockClosed", block.getName())
            self._dao("rucio", "SetBlocksRule", {"RULE_ID": "rule", "BLOCKNAME": block.getName()})
            self.complete(name)
        return lfns

    def complete(self, name: str) -> None:
        """What TaskArchiver writes of a finished workflow."""
        self._dao("buffer", "UpdateWorkflowsToCompleted", [name])

    # What the agent answers.

    def outstanding(self) -> dict[str, Any]:
        """What the components have still to do, by the DAOs that they ask."""
        util = DBSBufferUtil()
        datasets = util.findUploadableDAS()
        names = [block["blockname"] for block in util.findOpenBlocks()]
        deletable = set(self._dao("wmbs", "Workflow.GetDeletableWorkflows"))
        return {
            **{
                name: self._dao("rucio", name)
                for name in (
                    "GetUninjectedFiles",
                    "GetMigratedBlocks",
                    "GetUnsubscribedBlocks",
                    "GetUnsubscribedDatasets",
                    "GetCompletedBlocks",
                    "GetDeletableBlocks",
                )
            },
            "FindDASToUpload": datasets,
            "LoadDBSFilesByDAS": {
                one["DatasetPath"]: self._dao("buffer", "LoadDBSFilesByDAS", one["DatasetPath"]) for one in datasets
            },
            "LoadBlocks": util.loadBlocks(names),
            "LoadFilesByBlock": {name: self._dao("buffer", "LoadFilesByBlock", name) for name in names},
            "CheckStatusForCompletedWorkflows": util.getPhEDExDBSStatusForCompletedWorkflows(summary=True),
            "GetDeletedBlocksByWorkflow": self._dao("wmbs", "Workflow.GetDeletedBlocksByWorkflow"),
            "GetDeletableWorkflows": deletable,
            "undeleted blocks of deletable workflows": [
                one for one in self._dao("buffer", "CountUndeletedBlocksByWorkflow") if one["name"] in deletable
            ],
            "drained": self._drain_status.checkWorkflows(),
            "to drain": self._drain_status.checkFileUploadStatus(),
        }

    def files(self) -> dict[str, Any]:
        """Every file with its parents, as DBSBufferFile loads it, and its block."""
        found = {}
        for (lfn,) in self._sql("SELECT lfn FROM dbsbuffer_file"):
            file = DBSBufferFile(lfn=lfn)
            file.load(parentage=1)
            block = [list(row) for row in self._dao("buffer", "DBSBufferFiles.GetBlock", lfn)]
            found[lfn] = {**file, "parents": file.getParentLFNs(), "block": block}
        return found

    def workflows(self) -> dict[str, Any]:
        """Every workflow that DBSBuffer knows: whether it is completed, and its runs."""
        completed = DBSBufferUtil().getCompletedWorkflows()
        names = {row[0] for row in self._sql("SELECT name FROM dbsbuffer_workflow")}
        return {name: [name in completed, self._dao("buffer", "ListRunsWorkflow", name)] for name in names}

    def datasets(self) -> dict[str, Any]:
        """Every dataset with its subscriptions."""
        found = {}
        for (path,) in self._sql("SELECT path FROM dbsbuffer_dataset"):
            dataset = DBSBufferDataset(path)
            dataset.load()
            found[path] = dict(dataset)
        return found

    def told(self) -> dict[str, Any]:
        """What DBS was told, the parents of each file, and Rucio."""
        parents: dict[str, list[str]] = {}
        for block in self._in_dbs.values():
            parents |= {file["logical_file_name"]: [] for file in block["files"]}
            for link in block["file_parent_list"]:
                parents[link["logical_file_name"]].append(link["parent_logical_file_name"])
        return {"dbs": parents, "rucio": self._in_rucio}


def _job_accountant(config: Configuration) -> Any:
    for outside in ("ChangeState", "DataCollectionService", "CouchServer", "WMStatsWriter"):
        setattr(AccountantWorker, outside, Mock())
    return AccountantWorker.AccountantWorker(config)


def _specification(name: str, dataset: str, keep: bool, delete_blocks: bool) -> Any:
    """A workload of two tasks: processing, and merging what comes out of it."""
    _, primary, processed, tier = dataset.split("/")
    spec = newWorkload(name)
    spec.setOwnerDetails("owner", "group", {"dn": "dn"})
    spec.setDashboardActivity("production")
    spec.setSubscriptionInformation()
    output = {
        "primaryDataset": primary,
        "processedDataset": processed,
        "dataTier": tier,
        "lfnBase": "/store/unmerged",
        "mergedLFNBase": "/store/mc",
        "filterName": None,
    }
    processing = spec.newTask("Processing")
    step = _add_step(processing, "Processing", "output", output)
    step.getTypeHelper().data.output.keep = keep
    merge = processing.addTask("Merge")
    merge.setInputReference(step, outputModule="output", dataTier=tier)
    _add_step(merge, "Merge", "Merged", output)
    spec.setSubscriptionInformation(nonCustodialSites=[DESTINATION], deleteFromSource=delete_blocks)
    return spec


def _add_step(task: Any, kind: str, module: str, output: dict[str, Any]) -> Any:
    task.setTaskType(kind)
    task.setSplittingAlgorithm("FileBased", files_per_job=1)
    step = task.makeStep("cmsRun1")
    step.setStepType("CMSSW")
    task.applyTemplates()
    step.getTypeHelper().addOutputModule(module, **output)
    return step


def _from_dbs(lfn: str) -> dict[str, Any]:
    """A file as DBS describes it."""
    return {
        "LogicalFileName": lfn,
        "FileSize": 10,
        "NumberOfEvents": 5,
        "Adler32": "ad1e5",
        "LumiList": [{"RunNumber": 1, "LumiSectionNumber": [1, 2]}],
    }


def _report(name: str, task: str, kind: str, dataset: str, job: int) -> Any:
    """The report of a job that wrote one file."""
    _, primary, processed, tier = dataset.split("/")
    merged = kind == "Merge"
    module = "Merged" if merged else "output"
    file: Any = File(
        lfn=f"/store/{'mc' if merged else 'unmerged'}/{name}/{job}.root",
        size=1000 + job,
        events=10,
        checksums={"adler32": "ad1e5", "cksum": "12345"},
        locations={SITE},
        merged=merged,
    )
    file.addRun(Run(job, (1, 4), (2, 6)))
    file |= {
        "outputModule": module,
        "module_label": module,
        "dataset": {
            "primaryDataset": primary,
            "processedDataset": processed,
            "dataTier": tier,
            "applicationName": "cmsRun",
            "applicationVersion": "CMSSW_1",
        },
        "validStatus": "PRODUCTION",
        "acquisitionEra": "Era",
        "fileRef": SimpleNamespace(),
    }
    return Mock(
        merged=merged,
        taskSuccessful=lambda: True,
        getAllFiles=lambda: [file],
        getAllSkippedFiles=lambda: [],
        getTaskName=lambda: task,
    )


if __name__ == "__main__":
    main()
