# SPDX-License-Identifier: GPL-3.0-or-later
"""Test hosts with a real sshd, made of namespaces in well under a second, on a network that a test can cut.

::

    @needs_hosts
    def test_something() -> None:
        with ssh_hosts(2) as hosts:
            hosts.run(["ansible", "all", "-m", "ansible.builtin.ping"])
            hosts[0].cut()

Hosts and the controller's end of the network have namespaces of their own, so every run may use the same addresses.
Commands for the controller go through :meth:`SshHosts.run`; outside it the hosts can't be reached.
Start hosts in the main thread: they end with the thread that started them.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from support import namespaces

CHECKOUT = Path(__file__).resolve().parents[2]
NETWORK = "10.213.0"

_WHY_NOT = namespaces.why_no_hosts()
needs_hosts = pytest.mark.skipif(bool(_WHY_NOT), reason=_WHY_NOT or "-")

_SSH_OPTIONS = ("GlobalKnownHostsFile=/dev/null", "StrictHostKeyChecking=yes", "IdentitiesOnly=yes", "BatchMode=yes")
_SSHD_CONFIG = """\
Port 22
ListenAddress 0.0.0.0
HostKey /run/sshd/host_key
AuthorizedKeysFile /run/sshd/authorized_keys
AuthenticationMethods publickey
PermitRootLogin prohibit-password
UsePAM no
UseDNS no
PidFile none
MaxSessions 50
MaxStartups 100
Subsystem sftp internal-sftp
"""


class SshHost:
    """One test host.

    Attributes: `name`; `address`; `ssh`: arguments of an ssh command that reaches it from the controller's namespace;
    `inventory`: its variables for Ansible;
    `mode`: ``overlay`` (all of ``/`` can be written) or ``bind`` (some folders).
    """

    def __init__(self, name: str, address: str, folder: Path, switch: int, ssh_options: Sequence[str]) -> None:
        self.name = name
        self.address = address
        self.folder = folder
        self.mode = "overlay" if namespaces.can_overlay(folder.parent) else "bind"
        self.ssh = ["ssh", *ssh_options, f"root@{address}"]
        self._switch = switch
        self._port = f"port-{name}"
        self._outer: subprocess.Popen[bytes] | None = None
        self._first = 0

    @property
    def inventory(self) -> dict[str, Any]:
        """Variables of this host for an inventory."""
        key = self.ssh.index("-i") + 1
        options = [*self.ssh[1 : key - 1], *self.ssh[key + 1 : -1]]
        return {
            "ansible_host": self.address,
            "ansible_user": "root",
            "ansible_ssh_private_key_file": self.ssh[key],
            "ansible_ssh_common_args": " ".join(options),
            "ansible_python_interpreter": "/usr/bin/python3.11",
        }

    def start(self, client_key: Path, shown: Sequence[Path] = ()) -> str:
        """Bring the host up; return its line for a known_hosts file. RuntimeError with sshd's words where it fails."""
        for part in ("upper", "work", "root", "tmp", "sshd"):
            (self.folder / part).mkdir(parents=True)
        (self.folder / "tmp").chmod(0o1777)
        (self.folder / "hosts").write_text(f"127.0.0.1 localhost\n{self.address} {self.name}.test {self.name}\n")
        (self.folder / "sshd/sshd_config").write_text(_SSHD_CONFIG)
        shutil.copy(client_key.with_suffix(".pub"), self.folder / "sshd/authorized_keys")
        host_key = new_key(self.folder / "sshd/host_key")
        self._outer = namespaces.start_host(self.folder, self.name, self.mode, shown)
        try:
            namespaces.wait_until(f"first process of {self.name}", self._find_first)
            self._connect()
            namespaces.wait_until(f"sshd of {self.name}", self._answers)
        except BaseException:
            self.stop()
            raise
        return f"{self.address} {host_key}"

    def _find_first(self) -> int:
        self._check_alive()
        assert self._outer is not None
        self._first = namespaces.first_process(self._outer.pid)
        return self._first

    def _connect(self) -> None:
        namespaces.configure_network(
            self._switch,
            f"link add {self._port} type veth peer name eth0 netns {self._first}",
            f"link set {self._port} master switch up",
        )
        namespaces.configure_network(
            self._first, "link set lo up", f"addr add {self.address}/24 dev eth0", "link set eth0 up"
        )

    def _answers(self) -> bool:
        self._check_alive()
        return namespaces.listens(self._first, 22)

    def _check_alive(self) -> None:
        assert self._outer is not None
        if self._outer.poll() is not None:
            raise RuntimeError(f"test host {self.name} ended: {(self.folder / 'sshd.log').read_text()[-2000:]}")

    def run(
        self, argv: Sequence[str], timeout: float = 60, folder: str | Path = "/", **options: Any
    ) -> subprocess.CompletedProcess[str]:
        """Run a command in `folder` of the host, past ssh and past a cut link; its output is captured."""
        enter = ["nsenter", f"--target={self._first}", "--mount", "--uts", "--ipc", "--net", "--pid", "--"]
        command = [*enter, "env", f"--chdir={folder}", *argv]
        if "input" not in options:
            options["stdin"] = subprocess.DEVNULL
        return subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False, **options)

    def path(self, inside: str | Path) -> Path:
        """A path from here to the absolute path `inside` the host; absolute links on the way lead astray."""
        return Path(f"/proc/{self._first}/root{inside}")

    def hide(self, folder: Path) -> None:
        """Put an empty read-only folder over `folder`, so that nothing in the host can lean on it."""
        done = self.run(["mount", "-t", "tmpfs", "-o", "ro,size=4k", "tmpfs", str(folder)])
        assert done.returncode == 0, done.stderr

    def cut(self) -> None:
        """Lose every packet to and from the host, silently; connections stay as they are."""
        namespaces.configure_network(self._switch, f"link set {self._port} down")

    def mend(self) -> None:
        """Undo :meth:`cut`."""
        namespaces.configure_network(self._switch, f"link set {self._port} up")

    def stop(self) -> None:
        """End every process of the host at once, as a power cut would, and remove its link and folder."""
        if self._outer is None:
            return
        outer, self._outer = self._outer, None
        namespaces.kill_namespace(outer, self._first)
        with contextlib.suppress(RuntimeError):  # gone with the host's end, if the kernel was quicker
            namespaces.configure_network(self._switch, f"link del {self._port}")
        shutil.rmtree(self.folder)


class SshHosts(Sequence[SshHost]):
    """Hosts on one switch, and the controller's end of it. Made by :func:`ssh_hosts`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.inventory_file = folder / "inventory.json"
        self.key = folder / "id"
        self._control = folder / "cp"
        self._known = folder / "known_hosts"
        self._hosts: list[SshHost] = []
        self._running: list[subprocess.Popen[str]] = []
        self._switch = namespaces.start_switch(f"{NETWORK}.1/24")

    def __len__(self) -> int:
        return len(self._hosts)

    def __getitem__(self, index: Any) -> Any:
        return self._hosts[index]

    @property
    def network_pid(self) -> int:
        """A process whose network namespace is the controller's end."""
        return self._switch.pid

    def start_hosts(self, count: int, shown: Sequence[Path]) -> None:
        """Bring up `count` hosts named host1, host2 … and write known_hosts and the inventory."""
        self._control.mkdir()
        new_key(self.key)
        options = ["-F", "none", "-i", str(self.key), "-o", f"UserKnownHostsFile={self._known}"]
        for option in _SSH_OPTIONS:
            options += ["-o", option]
        for number in range(1, count + 1):
            name = f"host{number}"
            host = SshHost(name, f"{NETWORK}.{10 + number}", self.folder / name, self._switch.pid, options)
            line = host.start(self.key, shown)
            self._hosts.append(host)
            with self._known.open("a") as known:
                known.write(line + "\n")
        inventory = {"all": {"hosts": {host.name: host.inventory for host in self._hosts}}}
        self.inventory_file.write_text(json.dumps(inventory, indent=2))

    def environment(self, extra: Mapping[str, str] | None = None) -> dict[str, str]:
        """The environment of a controller's command: this checkout's Ansible, these hosts as the inventory."""
        return {
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "ANSIBLE_CONFIG": str(CHECKOUT / "ansible.cfg"),
            "ANSIBLE_INVENTORY": str(self.inventory_file),
            "ANSIBLE_SSH_CONTROL_PATH_DIR": str(self._control),
            **(extra or {}),
        }

    def run(
        self, argv: Sequence[str], timeout: float = 120, environment: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run a command as the controller, in the checkout; stdout and stderr are captured as one."""
        process = self.popen(argv, environment)
        try:
            output, _ = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired as error:
            process.kill()
            output, _ = process.communicate()
            raise AssertionError(f"{list(argv)} ran into its limit of {timeout} s:\n{output}") from error
        return subprocess.CompletedProcess(argv, process.returncode, output)

    def popen(self, argv: Sequence[str], environment: Mapping[str, str] | None = None) -> subprocess.Popen[str]:
        """Start a command as the controller; it is killed, if it still runs, when the hosts go."""
        process = subprocess.Popen(
            namespaces.in_network(self._switch.pid, argv), env=self.environment(environment), cwd=CHECKOUT, text=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        self._running.append(process)
        return process

    def stop(self) -> None:
        """End everything, whatever state it is in."""
        with contextlib.ExitStack() as stack:
            stack.callback(shutil.rmtree, self.folder)
            stack.callback(self._switch.wait, 20)
            stack.callback(self._switch.kill)
            for host in self._hosts:
                stack.callback(host.stop)
            stack.callback(self._close_connections)
            for process in self._running:
                stack.enter_context(process)  # closes its pipe, waits
                stack.callback(process.kill)
        assert self._switch.stdout is not None
        self._switch.stdout.close()

    def _close_connections(self) -> None:
        """End the ssh masters that ControlPersist left; they would hold the network namespace."""
        for socket in self._control.glob("*"):
            check = ["ssh", "-F", "none", "-S", str(socket), "-O", "check", "any"]
            told = subprocess.run(check, capture_output=True, text=True, timeout=20, check=False)
            if master := re.search(r"pid=(\d+)", told.stderr):
                namespaces.end_process(int(master[1]))


def new_key(path: Path) -> str:
    """Make an SSH key pair without a passphrase; the public key."""
    command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "test", "-f", str(path)]
    subprocess.run(command, check=True, capture_output=True, timeout=20)
    return path.with_suffix(".pub").read_text().strip()


@contextlib.contextmanager
def ssh_hosts(count: int, shown: Sequence[Path] = ()) -> Iterator[SshHosts]:
    """`count` test hosts; each sees this checkout, and the folders `shown`, read-only. All ends with the block."""
    hosts = SshHosts(Path(tempfile.mkdtemp(prefix="wmagent-hosts-")))
    try:
        hosts.start_hosts(count, [CHECKOUT, *shown])
        yield hosts
    finally:
        hosts.stop()
