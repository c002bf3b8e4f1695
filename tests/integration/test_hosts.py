# SPDX-License-Identifier: GPL-3.0-or-later
"""The test hosts themselves: apart from each other, reached by real SSH, cut without a hang, gone without a trace."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from support import namespaces
from support.hosts import SshHost, SshHosts, needs_hosts, ssh_hosts

pytestmark = needs_hosts


def _networks(hosts: SshHosts) -> set[str]:
    """The network namespaces in use, as /proc names them."""
    own = Path(f"/proc/{hosts.network_pid}/ns/net")
    return {str(link.readlink()) for link in (own, *(host.path("/proc/1/ns/net") for host in hosts))}


def _users(networks: set[str]) -> list[str]:
    """Processes in one of `networks`."""
    found = []
    for link in Path("/proc").glob("[0-9]*/ns/net"):
        try:
            if str(link.readlink()) in networks:
                found.append(link.parts[2])
        except OSError:
            continue
    return found


def _assert_nothing_left(folder: Path, networks: set[str]) -> None:
    assert not folder.exists()
    assert _users(networks) == []
    assert str(folder) not in Path("/proc/self/mountinfo").read_text()
    assert list(Path("/sys/class/net").glob("port-host*")) == []


def test_ansible_reaches_them_and_files_stay_where_they_are_written(tmp_path: Path) -> None:
    with ssh_hosts(2) as hosts:
        done = hosts.run(["ansible", "all", "-m", "ansible.builtin.ping"])
        assert done.returncode == 0, done.stdout
        assert done.stdout.count("SUCCESS") == 2
        marks = [Path("/srv/only-on-host1"), Path("/tmp/only-on-host1"), Path("/etc/only-on-host1")]
        written = hosts.run(
            ["ansible", "host1", "-m", "ansible.builtin.command", "-a", f"touch {' '.join(map(str, marks))}"]
        )
        assert written.returncode == 0, written.stdout
        assert [hosts[0].path(mark).exists() for mark in marks] == [True] * 3
        assert [hosts[1].path(mark).exists() for mark in marks] == [False] * 3
        assert [mark.exists() for mark in marks] == [False] * 3
        assert hosts[1].run(["hostname"]).stdout.strip() == "host2"
        assert hosts[1].run(["ls", str(tmp_path)]).returncode != 0, "/tmp of this machine is to be out of sight"


def test_the_checkout_is_read_only_and_can_be_hidden() -> None:
    checkout = Path(__file__).resolve().parents[2]
    with ssh_hosts(1) as hosts:
        host = hosts[0]
        assert host.run(["test", "-f", str(checkout / "galaxy.yml")]).returncode == 0
        assert host.run(["touch", str(checkout / "written")]).returncode != 0
        host.hide(checkout)
        assert host.run(["ls", "-A", str(checkout)]).stdout == ""
        assert (checkout / "galaxy.yml").exists()


def test_a_wrong_host_key_is_refused() -> None:
    with ssh_hosts(2) as hosts:
        known = hosts.folder / "known_hosts"
        first, second = known.read_text().splitlines()
        known.write_text(f"{first.split()[0]} {second.split(maxsplit=1)[1]}\n")
        assert "Host key verification failed" in hosts.run([*hosts[0].ssh, "true"]).stdout


@pytest.mark.slow
def test_a_cut_link_means_unreachable_not_a_hang() -> None:
    """One link cut under a running task, the other before any connection; limits as in ansible.cfg: 15 s each."""
    with ssh_hosts(2) as hosts:
        running, fresh = hosts
        fresh.cut()
        work = "ansible.builtin.shell", "-a", "touch /tmp/began; sleep 600"
        commands = [hosts.popen(["ansible", host.name, "-m", *work]) for host in hosts]
        namespaces.wait_until("task on host1", running.path("/tmp/began").exists)
        running.cut()
        began = time.monotonic()
        for process in commands:
            output, _ = process.communicate(timeout=40)
            assert process.returncode == 4, output  # Ansible's exit code for unreachable hosts
            assert "UNREACHABLE" in output
        assert time.monotonic() - began < 25
        for host in hosts:
            host.mend()
        mended = hosts.run(["ansible", "all", "-m", "ansible.builtin.ping"])
        assert mended.returncode == 0, mended.stdout


def test_runs_side_by_side_use_the_same_addresses_without_meeting() -> None:
    with ssh_hosts(1) as one, ssh_hosts(1) as other:
        assert one[0].address == other[0].address
        one[0].path("/srv/mark").write_text("one")
        other[0].path("/srv/mark").write_text("other")
        assert [hosts.run([*hosts[0].ssh, "cat", "/srv/mark"]).stdout for hosts in (one, other)] == ["one", "other"]


def test_nothing_is_left_after_a_failed_test() -> None:
    with pytest.raises(ZeroDivisionError), ssh_hosts(2) as hosts:
        folder, networks = hosts.folder, _networks(hosts)
        hosts.run([*hosts[0].ssh, "setsid sleep 1000 >/dev/null 2>&1 </dev/null & true"])  # a daemon, as components are
        hosts.run(["ansible", "all", "-m", "ansible.builtin.ping"])  # leaves connections open on purpose
        left_running = hosts.popen([*hosts[0].ssh, "sleep", "1000"])
        hosts[1].stop()
        hosts[0].cut()  # its end is not heard of
        assert _users(networks), "processes of hosts are to be seen while they run"
        raise ZeroDivisionError
    _assert_nothing_left(folder, networks)
    assert left_running.poll() is not None


def test_hosts_die_with_a_killed_test_run(tmp_path: Path) -> None:
    script = (
        "import os, time\n"
        "from support.hosts import ssh_hosts\n"
        "with ssh_hosts(1) as hosts:\n"
        "    print(os.readlink(f'/proc/{hosts.network_pid}/ns/net'), end=' ')\n"
        "    print(hosts[0].path('/proc/1/ns/net').readlink(), flush=True)\n"
        "    time.sleep(600)\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "TMPDIR": str(tmp_path)}
    with subprocess.Popen([sys.executable, "-c", script], env=environment, stdout=subprocess.PIPE, text=True) as run:
        assert run.stdout is not None
        networks = set(run.stdout.readline().split())
        assert len(networks) == 2
        assert _users(networks)
        run.send_signal(signal.SIGKILL)
    namespaces.wait_until("end of orphaned hosts", lambda: not _users(networks))


def test_without_an_overlay_hosts_still_keep_to_themselves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(namespaces, "can_overlay", lambda _folder: False)
    with ssh_hosts(1) as hosts:
        host: SshHost = hosts[0]
        assert host.mode == "bind"
        done = hosts.run(["ansible", "all", "-m", "ansible.builtin.command", "-a", "touch /srv/only-on-host1"])
        assert done.returncode == 0, done.stdout
        assert host.path("/srv/only-on-host1").exists()
        assert not Path("/srv/only-on-host1").exists()
        assert host.run(["touch", "/usr/written"]).returncode != 0


def test_a_host_that_does_not_come_up_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("support.hosts._SSHD_CONFIG", "NoSuchOption yes\n")
    with pytest.raises(RuntimeError, match=r"test host host1 ended:.*NoSuchOption"), ssh_hosts(1):
        pass
