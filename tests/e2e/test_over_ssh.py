# SPDX-License-Identifier: GPL-3.0-or-later
"""A rollout over real SSH: two agents on two hosts, one cut off in the middle of its switch."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.dmwm.wmagent.plugins.module_utils._release.repository import open_repository
from support import namespaces
from support.agent import TEN
from support.hosts import CHECKOUT, SshHost, SshHosts, needs_hosts, ssh_hosts

pytestmark = [needs_hosts, pytest.mark.slow]

OLD, BASE, NEW = "2.4.4", "2.4.5.9", "2.4.5.9-p1"
IMAGES = CHECKOUT / "build/images"
LAB = "/srv/lab"
ROOT = f"{LAB}/agents/lab01/srv/wmagent"
BIN = Path(sys.executable).parent
ENDS_WITHIN = 240  # seconds: 15 until the cut is noticed, and the verdict on the other host, on a busy machine


def _lab(host: SshHost, state: str) -> None:
    """Bring the lab of one host, which sees no other, to `state`."""
    options = {
        "wmagent_lab_dir": LAB,
        "wmagent_hosts": "lab01",
        "wmagent_lab_state": state,
        "wmagent_lab_start": "quick",
        "wmagent_lab_image": OLD,
        "wmagent_components": list(TEN),
        # Upstream logs a traceback when it asks a real CouchDB about replications that have only just begun.
        "wmagent_lab_couchdb": "stand-in",
        "wmagent_repository": str(IMAGES),
    }
    command = [str(BIN / "ansible-playbook"), "-i", "inventories/lab", "playbooks/lab.yml", "-e", json.dumps(options)]
    done = host.run(
        command,
        timeout=300,
        folder=CHECKOUT,
        # The checkout is read-only on a host, and make keeps uv's cache there.
        env={
            **os.environ,
            "ANSIBLE_CONFIG": "ansible.cfg",
            "ANSIBLE_STDOUT_CALLBACK": "default",
            "UV_CACHE_DIR": "/srv/uv-cache",
        },
    )
    assert done.returncode == 0, done.stdout + done.stderr


def _variables(host: SshHost) -> dict[str, Any]:
    """What the lab's inventory says of its agent, with the ports that this host's lab has chosen."""
    names = ("wmagent_root", "wmagent_secrets", "wmagent_database_name", "wmagent_environment", "wmagent_config")
    message = "{{ dict(names | zip(names | map('extract', vars))) }}"
    options = json.dumps({"wmagent_lab_dir": LAB, "names": names})
    command = [str(BIN / "ansible"), "-i", "inventories/lab", "lab01", "-e", options]
    done = host.run([*command, "-m", "ansible.builtin.debug", "-a", f"msg={message}"], folder=CHECKOUT)
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout.partition(" => ")[2])["msg"]


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SshHosts]:
    """Two hosts with an agent deployed by hand on each: made on one, copied to the other while it stands still."""
    with ssh_hosts(2) as hosts:
        first, second = hosts
        _lab(first, "present")
        _lab(first, "stopped")
        subprocess.run(["cp", "-a", str(first.path(LAB)), str(second.path("/srv/"))], check=True, timeout=120)
        for host in hosts:
            _lab(host, "present")
            host.hide(IMAGES)  # blobs have to come over the network
        inventory = json.loads(hosts.inventory_file.read_text())
        inventory["all"]["vars"] = {
            **_variables(first),
            "wmagent_repository": str(IMAGES),
            "wmagent_tools_dir": "/srv/tools",
            "wmagent_state_dir": str(tmp_path_factory.mktemp("state")),
            "wmagent_batches": ["100%"],
            "wmagent_components": list(TEN),
            "wmagent_healthy_for": 3,
            "wmagent_healthy_within": 90,
            "wmagent_disk_reserve": "256M",
        }
        hosts.inventory_file.write_text(json.dumps(inventory))
        yield hosts


def _received(host: SshHost) -> int:
    """Bytes that came into the host over its link."""
    for line in host.path("/proc/1/net/dev").read_text().splitlines():
        name, _, counters = line.partition(":")
        if name.strip() == "eth0":
            return int(counters.split()[0])
    raise AssertionError("host without eth0")


def _image_of(host: SshHost) -> str:
    """The image that `current` names; '' for a release that was adopted, or for none."""
    release = host.run(["cat", f"{ROOT}/current/release.json"])
    return json.loads(release.stdout)["image"] if release.returncode == 0 else ""


def _stage_base(fleet: SshHosts, folder: Path, host: str) -> None:
    """Stage the image that the new one is a patch of, on one host."""
    base = {"image": BASE, "repository": str(IMAGES)}
    stage = {"wmagent_root": ROOT, "secrets": "{{ wmagent_secrets }}", "database_name": "{{ wmagent_database_name }}"}
    tasks = [
        {"dmwm.wmagent.tools": {**base, "tools_dir": "{{ wmagent_tools_dir }}"}, "register": "tools"},
        {"dmwm.wmagent.release_stage": {**base, **stage}, "vars": {"ansible_python_interpreter": "{{ tools.python }}"}},
    ]
    playbook = folder / "stage.json"
    playbook.write_text(json.dumps([{"hosts": host, "gather_facts": False, "tasks": tasks}]))
    done = fleet.run(["ansible-playbook", str(playbook)], timeout=240)
    assert done.returncode == 0, done.stdout


def test_a_rollout_over_ssh_survives_a_cut_link_and_sends_only_what_is_missing(fleet: SshHosts, tmp_path: Path) -> None:
    first, second = fleet
    upgrade = ["ansible-playbook", "playbooks/upgrade.yml", "-e", f"wmagent_image={NEW}"]
    _stage_base(fleet, tmp_path, "host1")
    before = [_received(host) for host in fleet]

    journal = second.path(f"{ROOT}/.deploy/journal.json")
    rollout = fleet.popen(upgrade)
    namespaces.wait_until("switch on host2", lambda: journal.exists() or rollout.poll() is not None, 300)
    received = [_received(host) - start for host, start in zip(fleet, before, strict=True)]
    second.cut()
    assert rollout.poll() is None, rollout.communicate()[0]
    began = time.monotonic()
    output, _ = rollout.communicate(timeout=300)
    assert rollout.returncode != 0, output
    assert "UNREACHABLE" in output.upper(), output
    assert "host2" in output
    assert time.monotonic() - began < ENDS_WITHIN, output
    assert _image_of(first) == NEW, output

    second.mend()
    again = fleet.run(upgrade, timeout=300)
    assert again.returncode == 0, output + again.stdout
    assert [_image_of(host) for host in fleet] == [NEW, NEW], again.stdout

    repository = open_repository(str(IMAGES))
    there = {wheel.digest for wheel in repository.image(BASE).description.wheels}
    wheels = repository.image(NEW).description.wheels
    missing = sum(wheel.size for wheel in wheels if wheel.digest not in there)
    whole = sum(wheel.size for wheel in wheels)
    assert received[1] > whole, "the image did not come over the link"
    saved = received[1] - received[0]  # what Ansible itself sends is the same on both links
    assert saved == pytest.approx(whole - missing, rel=0.05)

    third = fleet.run(upgrade, timeout=120)
    assert third.returncode == 0, third.stdout
    assert "changed=0" in third.stdout, third.stdout
