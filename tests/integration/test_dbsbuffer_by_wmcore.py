# SPDX-License-Identifier: GPL-3.0-or-later
"""A cleanup as an agent lives it: WMCore's own components write the rows, and go on as if nothing had happened.

The components of a real image (:mod:`support.wmcore_agent`) live through some workflows in a real MariaDB, whose schema
their own ``wmcore-db-init`` made. Then comes a cleanup, which must make no difference to what the components find to do
and to what they know of anything that stays; then the rest of their life, in which nothing may be missing.
"""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.dmwm.wmagent.plugins.module_utils._database.connection import DatabaseSettings, connect
from ansible_collections.dmwm.wmagent.plugins.module_utils._database.describe import MODULES
from ansible_collections.dmwm.wmagent.plugins.module_utils._database.throwaway import MariaDBServer
from ansible_collections.dmwm.wmagent.plugins.module_utils._dbsbuffer.cleanup import Cleanup, Request
from ansible_collections.dmwm.wmagent.plugins.module_utils._dbsbuffer.eligibility import Rules
from ansible_collections.dmwm.wmagent.plugins.module_utils._dbsbuffer.method import DELETE, REBUILD
from ansible_collections.dmwm.wmagent.plugins.module_utils._release.interpreter import (
    environment_config,
    environment_links,
    probe,
)
from ansible_collections.dmwm.wmagent.plugins.module_utils._release.materialize import (
    LinkSources,
    place_files,
    place_links,
)
from ansible_collections.dmwm.wmagent.plugins.module_utils._release.repository import open_repository
from ansible_collections.dmwm.wmagent.plugins.module_utils._release.wheel_plan import plan_wheels
from ansible_collections.dmwm.wmagent.plugins.modules import dbsbuffer_info
from support.dbsbuffer.rebuilding import schema
from support.mariadb import create_database
from support.wheels import PYTHON

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
IMAGES = ("2.4.5.9-p1", "2.4.4")
"""The demo's, the newest first. None of them built is an error, as for the other tests of real images' schemas."""
NOT_NEEDED = {
    *("babel", "cherrypy", "coverage", "ct3", "docutils", "jinja2", "pydantic", "pydantic-core", "pygments", "pyzmq"),
    *("rich", "setuptools", "snowballstemmer", "sphinx", "tzdata"),
}
"""Packages of an image that none of the components imports, and that take half of the time to unpack."""

INPUTS = [f"/store/data/{number}.root" for number in range(8)]
"""Files that other agents wrote."""
UNKNOWN = ["/store/unknown/0.root", "/store/unknown/1.root"]
"""Parents that only scripts know."""

GOING = (
    # A simulation, finished in every respect.
    "plain",
    # The second one reads the files of the first; its blocks are deleted where they were made once they were moved.
    "source",
    "derived",
    # Both read the same files, which are rows of the first one.
    "reader-1",
    "reader-2",
    # Its inputs are rows of no workflow, as the output of its first task is not kept.
    "loose",
    # Nothing but inputs: no job was run.
    "aborted",
    # Written with DBSBufferFile: a file, with parents that nobody knows, and its child.
    "by-hand",
)
HELD = {
    # Its file is in WMBS as an input of the next one, which is at work.
    "feeding": {"file still in WMBS": 1},
    "fed": {
        "task not completed": 2,
        "still in WMBS": 1,
        "file NOTUPLOADED": 2,
        "block not Closed": 1,
        "file still in WMBS": 3,
    },
    # DBS refuses its block. The next one has the same input, which is a row of neither.
    "stuck": {"file NOTUPLOADED": 1, "block not Closed": 1},
    "beside": {"shares an input with a workflow that stays": 1},
    # Rucio refuses its replicas; to close its block; rules for its dataset and block.
    "unregistered": {"file not in Rucio": 1, "block not Closed": 1, "file of a dataset not subscribed yet": 1},
    "unclosed": {"block not Closed": 1},
    "unsubscribed": {"file of a dataset not subscribed yet": 1, "block without a rule": 1},
    # Both write into the same block; the second one is not archived yet.
    "mixed-a": {"shares a block with a workflow that stays": 1},
    "mixed-b": {"still in WMBS": 1, "file still in WMBS": 1},
    # It left WMBS before its block was deleted where it was made. RucioInjector never does that any more.
    "orphan": {"block not deleted yet": 1},
    # As by-hand, and just begun.
    "grey": {"task not completed": 1, "file NOTUPLOADED": 1, "block not Closed": 1},
}
REFUSED = {
    "dbs": ["stuck"],
    "replicas": ["unregistered"],
    "closing": ["unclosed"],
    "container rules": ["unsubscribed"],
    "block rules": ["unsubscribed"],
}
STAYING_INPUTS = {INPUTS[4], INPUTS[6], UNKNOWN[1]}


@dataclass
class Agent:
    """Components of an agent that run; each attribute is a verb of their script."""

    process: subprocess.Popen[str]
    log: Path

    def __getattr__(self, verb: str) -> Callable[..., Any]:
        return lambda **arguments: self._ask(verb, arguments)

    def _ask(self, verb: str, arguments: dict[str, Any]) -> Any:
        assert self.process.stdin and self.process.stdout
        self.process.stdin.write(json.dumps([verb, arguments]) + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        assert answer, f"{verb} {arguments} failed:\n{self.log.read_text()[-4000:]}"
        return json.loads(answer)


@dataclass(frozen=True)
class Home:
    """Where an agent is at home.

    prefix: of the release
    folder: for specifications of workflows; WMBS knows a workflow by where its specification is
    """

    prefix: Path
    database: DatabaseSettings
    folder: Path

    @property
    def url(self) -> str:
        one = self.database
        return f"mysql://{one.user}:{one.password}@{one.host}:{one.port}/{one.name}"

    def init_database(self) -> None:
        config = self.folder / f"{self.database.name}.py"
        config.write_text(
            "from WMCore.Configuration import Configuration\n"
            "config = Configuration()\n"
            'config.section_("CoreDatabase")\n'
            f"config.CoreDatabase.connectUrl = {self.url!r}\n"
        )
        program = self.prefix / "bin" / "wmcore-db-init"
        options = [f"--config={config}", "--create", f"--modules={','.join(MODULES)}"]
        python = self.prefix / "bin" / "python"
        subprocess.run([python, "-I", program, *options], capture_output=True, check=True, timeout=120)

    @contextmanager
    def components(self) -> Iterator[Agent]:
        """Start the components; they connect to the database when they are first asked for something."""
        log = self.folder / f"{self.database.name}.log"
        command = [self.prefix / "bin/python", "-I", ROOT / "tests/support/wmcore_agent.py", self.url, self.folder]
        with log.open("w") as errors:
            process = subprocess.Popen(
                [str(part) for part in command],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )
        with process:
            yield Agent(process, log)

    def clean(self, method: str) -> Cleanup:
        request = Request(Rules(now=time.time()), method=method)
        cleanup = Cleanup(self.database, request, note=pytest.fail)
        cleanup.look()
        cleanup.run()
        return cleanup

    def info(self, retention: str) -> dict[str, Any]:
        """What the module dbsbuffer_info returns."""
        one = self.database
        options = dict.fromkeys(("secrets", "login_unix_socket", "login_dsn", "ca_cert", "before"))
        login = {"login_user": one.user, "login_password": one.password, "login_host": one.host, "login_port": one.port}
        options |= {**login, "database_name": one.name, "timeout": 60, "retention": retention, "block_rules": True}
        return dbsbuffer_info.run(options)


def dataset_of(name: str) -> str:
    return f"/{name.partition('-')[0]}/Era-v1/AOD"


def run(agent: Agent, name: str, inputs: list[str], *, dataset: str = "", **options: Any) -> list[str]:
    """A workflow comes and all its jobs are done; returns the files that it wrote."""
    dataset = dataset or dataset_of(name)
    agent.inject(name=name, dataset=dataset, inputs=inputs, **options)
    return agent.work(name=name, dataset=dataset)


def live_up_to_the_cleanup(agent: Agent) -> dict[str, list[str]]:
    """Returns the files that each workflow wrote."""
    files = {"source": run(agent, "source", []), "feeding": run(agent, "feeding", [])}
    files["derived"] = run(agent, "derived", files["source"], delete_blocks=True)
    files["reader-1"] = run(agent, "reader-1", INPUTS[:3])
    files["reader-2"] = run(agent, "reader-2", INPUTS[1:3])
    files["loose"] = run(agent, "loose", INPUTS[3:4], keep=False)
    for name in ("stuck", "beside"):
        files[name] = run(agent, name, INPUTS[4:5], keep=False)
    files["fed"] = run(agent, "fed", files["feeding"])
    for name in ("plain", "unregistered", "unclosed", "unsubscribed", "mixed-a", "mixed-b"):
        files[name] = run(agent, name, [])
    files["orphan"] = run(agent, "orphan", [], delete_blocks=True)
    agent.inject(name="aborted", dataset=dataset_of("aborted"), inputs=INPUTS[5:6])
    agent.abort(name="aborted")
    parents = [*files["plain"], UNKNOWN[0]]
    files["by-hand"] = agent.by_hand(name="by-hand", dataset="/hand/Era-v1/AOD", parents=parents)
    begun = {"dataset": dataset_of("grey"), "children": 0, "done": False}
    files["grey"] = agent.by_hand(name="grey", parents=UNKNOWN[1:], **begun)

    for by, names in REFUSED.items():
        agent.refuse(by=by, datasets=[dataset_of(name) for name in names])
    finished = sorted({*GOING, *HELD} - {"by-hand", "fed", "grey"})
    agent.finish(names=finished)
    agent.archive(names=["orphan"])
    upload_and_register(agent)
    agent.archive(names=[name for name in finished if name != "mixed-b"])
    files["fed"] += run(agent, "fed", INPUTS[6:7])
    return files


def live_on(agent: Agent, files: dict[str, list[str]]) -> dict[str, list[str]]:
    """What is under way comes to its end, and new work uses what may be gone: files, datasets, parents.

    Returns the files that each workflow wrote in all.
    """
    for by in REFUSED:
        agent.refuse(by=by, datasets=[])
    more = {"fed": files["fed"] + run(agent, "fed", files["derived"])}
    more["again"] = run(agent, "again", [*files["source"], *files["by-hand"]], dataset=dataset_of("plain"))
    parents = [*files["plain"], UNKNOWN[0], *files["grey"]]
    more["new"] = agent.by_hand(name="new", dataset=dataset_of("new"), parents=parents)
    agent.complete(name="grey")
    agent.finish(names=["fed", "again"])
    upload_and_register(agent)
    agent.archive(names=["fed", "again", "mixed-b"])
    return files | more


def parents_in_dbs(files: dict[str, list[str]]) -> dict[str, set[str]]:
    """By workflow, what DBS has to know in the end of the parents of its files."""
    return {name: set() for name in files if name not in ("by-hand", "new")} | {
        "derived": set(files["source"]),
        "reader-1": set(INPUTS[:3]),
        "reader-2": set(INPUTS[1:3]),
        "loose": set(INPUTS[3:4]),
        "stuck": set(INPUTS[4:5]),
        "beside": set(INPUTS[4:5]),
        "fed": {*files["feeding"], *INPUTS[6:7], *files["derived"]},
        "again": {*files["source"], *files["by-hand"]},
        "grey": set(UNKNOWN[1:]),
    }


def upload_and_register(agent: Agent) -> None:
    # Files wait for their parents to be in DBS.
    for _ in range(2):
        agent.upload()
    agent.register()


def look(agent: Agent) -> dict[str, Any]:
    """All that an agent answers, without the order of lists, which most of its statements leave open."""
    return {
        "outstanding": settled(agent.outstanding()),
        "files": settled(agent.files()),
        "workflows": settled(agent.workflows()),
        "datasets": settled(agent.datasets()),
    }


def settled(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: settled(one) for key, one in value.items()}
    if isinstance(value, list):
        return sorted((settled(one) for one in value), key=lambda one: json.dumps(one, sort_keys=True))
    return value


@pytest.fixture(scope="module")
def prefix(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The newest image's packages in an environment, without byte code."""
    repository = open_repository(os.environ.get("WMAGENT_TEST_IMAGES") or str(ROOT / "build" / "images"))
    names = repository.names()
    image = repository.image(next((name for name in IMAGES if name in names), IMAGES[0]))
    folder = tmp_path_factory.mktemp("release")
    wheels = [
        (wheel, folder / wheel.filename)
        for wheel in image.description.part("release")
        if wheel.name not in NOT_NEEDED and not wheel.name.startswith("sphinxcontrib")
    ]
    for wheel, path in wheels:
        with repository.open_blob(wheel.digest, wheel.size) as stream:
            path.write_bytes(stream.read())
    python, prefix = probe(PYTHON), folder / "environment"
    place_links(environment_links(python), prefix)
    (prefix / "pyvenv.cfg").write_bytes(environment_config(python))
    planned = plan_wheels(wheels, prefix, python.library, python.version)
    place_files(list(planned.values()), prefix, LinkSources([]), python.cache_tag)
    return prefix


@dataclass
class Lived:
    """An agent that has lived up to the cleanup, and another home with the same database.

    agent:  its components, which run on with all that they remember
    before: what it answered
    files:  those that each workflow wrote
    homes:  by method
    """

    agent: Agent
    before: dict[str, Any]
    files: dict[str, list[str]]
    homes: dict[str, Home]


@pytest.fixture(scope="module")
def lived(prefix: Path, mariadb_server: MariaDBServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lived]:
    names = {method: f"wmcore_{os.getpid()}_{method}" for method in (DELETE, REBUILD)}
    folder = tmp_path_factory.mktemp("agent")
    homes = {method: Home(prefix, mariadb_server.settings(name), folder) for method, name in names.items()}
    for name in names.values():
        create_database(mariadb_server, name)
    with homes[DELETE].components() as agent, ThreadPoolExecutor(1) as pool:
        # The agent lives while the other database is made.
        made = [pool.submit(home.init_database) for home in homes.values()]
        made[0].result()
        files = live_up_to_the_cleanup(agent)
        made[1].result()
        copy_database(mariadb_server, names[DELETE], names[REBUILD])
        yield Lived(agent, look(agent), files, homes)


def copy_database(server: MariaDBServer, source: str, target: str) -> None:
    """All rows, and what ids come next; the tables are there."""
    with connect(server.root_settings(target), timeout=60, read_only=False) as root:
        root.execute("SET SESSION foreign_key_checks = 0, sql_mode = 'NO_AUTO_VALUE_ON_ZERO'")
        for table, following in root.query(
            "SELECT table_name, auto_increment FROM information_schema.tables WHERE table_schema = %s", (source,)
        ):
            root.execute(f"DELETE FROM {table}")
            root.execute(f"INSERT INTO {table} SELECT * FROM {source}.{table}")
            if following:
                root.execute(f"ALTER TABLE {table} AUTO_INCREMENT = {following}")


def only(found: dict[str, Any], keys: Iterable[str]) -> dict[str, Any]:
    return {key: found[key] for key in keys}


@pytest.mark.parametrize("method", [DELETE, REBUILD])
def test_the_agent_goes_on_as_if_nothing_had_happened(lived: Lived, method: str) -> None:
    home, files, before = lived.homes[method], lived.files, lived.before
    assert [name for name, found in before["outstanding"].items() if not found] == ["drained"]
    staying = STAYING_INPUTS | {lfn for name in HELD for lfn in files[name]}
    with connect(home.database) as connection:
        in_wmbs = {lfn for (lfn,) in connection.query("SELECT lfn FROM wmbs_file_details")}
    # WMCore's Subscription.deleteEverything leaves what merge jobs wrote. Nothing uses it there, so it keeps nothing.
    assert in_wmbs >= {*files["plain"], *files["reader-1"]}
    # Only `aborted`, which has nothing but inputs: these have no age.
    assert home.info("30d")["eligible"]["workflows"] == 1
    found = home.info("0s")
    assert found["held_back"]["by_workflow"] == HELD
    assert found["eligible"]["workflows"] == len(GOING)
    assert found["eligible"]["files"] + found["eligible"]["placeholders"] == len(before["files"]) - len(staying)
    tables = schema(home.database)

    with ExitStack() as stack:
        # With delete the components work on, with all that they remember; with rebuild they are started afterwards.
        agent = lived.agent if method == DELETE else stack.enter_context(home.components())
        cleanup = home.clean(method)
        assert (cleanup.method_used, cleanup.stopped_by, cleanup.replanned) == (method, "", [])
        assert schema(home.database) == tables

        after = look(agent)
        assert after["outstanding"] == before["outstanding"]
        assert after["files"] == only(before["files"], staying)
        assert after["workflows"] == only(before["workflows"], HELD)
        assert after["datasets"] == before["datasets"]

        files = live_on(agent, files)
        told = [one.told() for one in (lived.agent, agent)]
        in_dbs = {lfn: parents for one in told for lfn, parents in one["dbs"].items()}
        assert set(in_dbs) == {lfn for name in parents_in_dbs(files) for lfn in files[name]}
        for name, parents in parents_in_dbs(files).items():
            assert {parent for lfn in files[name] for parent in in_dbs[lfn]} == parents
        assert {lfn for one in told for lfn in one["rucio"]} == set(in_dbs)

        assert home.info("0s")["held_back"]["by_workflow"] == only(HELD, ["orphan"])
        home.clean(DELETE)
        assert set(agent.files()) == set(files["orphan"])
        assert agent.outstanding()["drained"]
