# SPDX-License-Identifier: GPL-3.0-or-later
"""What test hosts are made of: Linux namespaces, a virtual switch, an overlay of ``/``; none outlives its process."""

from __future__ import annotations

import contextlib
import functools
import os
import select
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path

SSHD = "/usr/sbin/sshd"
COMMANDS = ("unshare", "nsenter", "setpriv", "ip", "ssh", "ssh-keygen", SSHD)
STARTING_WITHIN = 20.0  # seconds: two busy cores, several runs side by side

# Dies with the test run, also when that is killed: the kernel then takes the namespaces and their links away.
_TIED = ("setpriv", "--pdeathsig", "KILL")
_UNSHARE = "unshare --mount --uts --ipc --net --pid --fork --kill-child --propagation=private"
_HOST = (*_TIED, *_UNSHARE.split())

_SWITCH_SCRIPT = """
ip link set lo up
ip link add switch type bridge
ip addr add "$1" dev switch
ip link set switch up
echo ready
exec sleep infinity
"""

# The first process of a host: makes its file system, goes into it and becomes sshd, which also reaps orphans.
_HOST_SCRIPT = """
base=$1 name=$2 mode=$3
shift 3
root=$base/root
echo "$name" > /proc/sys/kernel/hostname
if [ "$mode" = overlay ]; then
    mount -t overlay overlay -o "lowerdir=/,upperdir=$base/upper,workdir=$base/work" "$root"
    sed -i 's/^root:!/root:*/' "$root/etc/shadow" # sshd lets nobody into a locked account, whatever the key
else
    mount --bind / "$root"
    mount -o remount,bind,ro "$root"
    for own in root home srv data opt var/tmp; do
        [ ! -d "/$own" ] || { mkdir -p "$base/upper/$own"; mount --bind "$base/upper/$own" "$root/$own"; }
    done
fi
mount -t proc proc "$root/proc"
mount -t sysfs -o ro sysfs "$root/sys"
mount --rbind /dev "$root/dev"
mount -t tmpfs -o mode=1777 tmpfs "$root/dev/shm"
mount -t tmpfs -o mode=755 tmpfs "$root/run"
mount --bind "$base/tmp" "$root/tmp"
mount --bind "$base/hosts" "$root/etc/hosts"
mkdir -m 755 "$root/run/sshd" "$root/run/lock"
cp -p "$base"/sshd/* "$root/run/sshd/"
for shown in "$@"; do
    mkdir -p "$root$shown"
    mount --bind -o ro "$shown" "$root$shown"
done
mkdir "$root/run/old"
cd "$root"
pivot_root . run/old
cd /
umount -l /run/old
rmdir /run/old
exec /usr/sbin/sshd -D -e -f /run/sshd/sshd_config
"""


@functools.cache
def why_no_hosts() -> str:
    """Why test hosts can't be made here, in one line; '' where they can."""
    if os.geteuid() != 0:
        return "test hosts in namespaces need root"
    missing = [command for command in COMMANDS if shutil.which(command) is None]
    if missing:
        return (
            f"test hosts need {', '.join(missing)} (apt-get install openssh-server openssh-client iproute2 util-linux)"
        )
    trial = subprocess.run(
        [*_HOST, "sh", "-ec", "mount -t tmpfs none /mnt; ip link add type bridge; ip link add type veth"],
        capture_output=True, text=True, timeout=STARTING_WITHIN, check=False,
    )  # fmt: skip
    return "" if trial.returncode == 0 else f"namespaces are not permitted here: {trial.stderr.strip()}"


@functools.cache
def can_overlay(folder: Path) -> bool:
    """Whether an overlay of ``/`` can have its upper folder below `folder`."""
    base = folder / f"overlay-{os.getpid()}"
    for part in ("upper", "work", "root"):
        (base / part).mkdir(parents=True)
    options = f"lowerdir=/,upperdir={base}/upper,workdir={base}/work"
    trial = subprocess.run(
        [*_HOST, "mount", "-t", "overlay", "overlay", "-o", options, f"{base}/root"],
        capture_output=True, timeout=STARTING_WITHIN, check=False,
    )  # fmt: skip
    shutil.rmtree(base)
    return trial.returncode == 0


def wait_until(what: str, condition: Callable[[], object], within: float = STARTING_WITHIN) -> None:
    """Return once `condition` is true; AssertionError naming `what` after `within` seconds."""
    end = time.monotonic() + within
    while not condition():
        assert time.monotonic() < end, f"{what}: not within {within:g} s"
        time.sleep(0.005)


def start_switch(address: str) -> subprocess.Popen[bytes]:
    """A network namespace with a bridge ``switch`` that holds `address` (with prefix length)."""
    script = ["sh", "-euc", _SWITCH_SCRIPT, "sh", address]
    process = subprocess.Popen([*_TIED, "unshare", "--net", *script], stdout=subprocess.PIPE, stdin=subprocess.DEVNULL)
    assert process.stdout is not None
    readable, _, _ = select.select([process.stdout], [], [], STARTING_WITHIN)
    if not readable or process.stdout.readline() != b"ready\n":
        process.kill()
        process.wait()
        raise RuntimeError("no switch for the test hosts: see the output above")
    return process


def start_host(base: Path, name: str, mode: str, shown: Sequence[Path]) -> subprocess.Popen[bytes]:
    """The outer process of a host whose parts lie in `base`; `shown` folders are there read-only."""
    with (base / "sshd.log").open("wb") as log:
        script = ["sh", "-euc", _HOST_SCRIPT, "sh", str(base), name, mode, *map(str, shown)]
        return subprocess.Popen([*_HOST, *script], stdin=subprocess.DEVNULL, stdout=log, stderr=log)


def first_process(outer: int) -> int:
    """PID, as seen from here, of the first process in the namespace that `outer` made; 0 if there is none yet."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        return int(Path(f"/proc/{outer}/task/{outer}/children").read_text().split()[0])
    return 0


def listens(pid: int, port: int) -> bool:
    """Whether something listens on TCP `port` in the network namespace of process `pid`."""
    try:
        table = Path(f"/proc/{pid}/net/tcp").read_text().splitlines()[1:]
    except OSError:
        return False
    rows = (line.split() for line in table)
    return any(row[1].endswith(f":{port:04X}") and row[3] == "0A" for row in rows)


def in_network(pid: int, argv: Sequence[str]) -> list[str]:
    """`argv` to run in the network namespace of process `pid`."""
    return ["nsenter", f"--net=/proc/{pid}/ns/net", "--", *argv]


def configure_network(pid: int, *lines: str) -> None:
    """Run `ip` commands, one a line without the word ``ip``, in the network namespace of process `pid`."""
    done = subprocess.run(
        in_network(pid, ["ip", "-batch", "-"]),
        input="\n".join(lines),
        text=True,
        capture_output=True,
        timeout=20,
        check=False,
    )
    if done.returncode != 0:
        raise RuntimeError(f"ip {lines}: {done.stderr.strip()}")


def end_process(pid: int, within: float = STARTING_WITHIN) -> None:
    """SIGTERM a process that this run started; return when it is gone."""
    with contextlib.suppress(ProcessLookupError):
        watched = os.pidfd_open(pid)
        try:
            signal.pidfd_send_signal(watched, signal.SIGTERM)
            _await_end(watched, f"process {pid}", within)
        finally:
            os.close(watched)


def _await_end(watched: int, what: str, within: float) -> None:
    gone, _, _ = select.select([watched], [], [], within)
    assert gone, f"{what} lives on after {within:g} s"


def kill_namespace(outer: subprocess.Popen[bytes], first: int, within: float = STARTING_WITHIN) -> None:
    """SIGKILL the outer process; return when the namespace's first process, hence every process in it, is gone."""
    try:
        watched = os.pidfd_open(first) if first else -1
    except ProcessLookupError:
        watched = -1
    outer.kill()
    outer.wait(within)
    if watched >= 0:
        try:
            _await_end(watched, f"test host (first process {first})", within)
        finally:
            os.close(watched)
