# SPDX-License-Identifier: GPL-3.0-or-later
"""The program that the schedule runs: lock, log, time limit, who hears of a failure, exit code."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[3]
PROGRAM = ROOT / "roles/schedule/files/run.py"


def write_job(folder: Path, script: str, **values: Any) -> Path:
    job = {
        "name": "cleanup",
        "command": ["/bin/sh", "-c", script],
        "folder": str(folder),
        "environment": {"PATH": "/usr/bin:/bin"},
        "max_runtime": 60,
        "on_failure": "",
    }
    (folder / "cleanup.json").write_text(json.dumps(job | values))
    return folder / "cleanup.json"


def run(job: Path, *options: str, **constants: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(job, *options, **constants), capture_output=True, text=True, timeout=30, check=False)


def command(job: Path, *options: str, **constants: Any) -> list[str]:
    """The program, with other values for some of its constants."""
    start = f"import runpy, sys; sys.argv = {[str(PROGRAM), *options, str(job)]!r}\n"
    last = 'if __name__ == "__main__":'
    values = "".join(f"{name} = {value!r}\n" for name, value in constants.items())
    text = PROGRAM.read_text().replace(last, values + last)
    script = job.with_name("program.py")
    script.write_text(text)
    return [sys.executable, "-c", start + f"runpy.run_path({str(script)!r}, run_name='__main__')"]


def log_of(job: Path) -> str:
    return job.with_suffix(".log").read_text()


def test_a_run_that_succeeds_is_in_the_log_and_says_nothing(tmp_path):
    job = write_job(tmp_path, "echo one; echo two >&2; pwd", on_failure="touch told")
    done = run(job)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    lines = log_of(job).splitlines()
    assert lines[1:4] == ["one", "two", str(tmp_path)] and "begins" in lines[0] and "exit code 0" in lines[4]
    assert not (tmp_path / "told").exists()
    assert job.with_suffix(".log").stat().st_mode & 0o777 == 0o600


def test_somebody_hears_of_a_failure(tmp_path):
    hears = tmp_path / "hears"
    hears.write_text('#!/bin/sh\ncat > heard; echo "$1 $WMAGENT_JOB $WMAGENT_EXIT_CODE $SECRET" >> heard\n')
    hears.chmod(0o700)
    job = write_job(
        tmp_path, "seq 100; exit 3", on_failure=f"{hears} 'to us'", environment={"PATH": "/usr/bin:/bin", "SECRET": "x"}
    )
    done = run(job)
    assert (
        done.returncode == 3 and "cleanup failed with exit code 3" in done.stderr and len(done.stderr.splitlines()) == 1
    )
    heard = (tmp_path / "heard").read_text().splitlines()
    assert heard[0] == f"dmwm.wmagent: cleanup failed on {os.uname().nodename} with exit code 3"
    assert heard[-3] == "100" and heard[-1] == "to us cleanup 3 x" and 50 <= len(heard) <= 55
    assert "was told of it" in log_of(job)


@pytest.mark.parametrize(
    ("teller", "said"),
    [
        ("sh -c 'echo no route; exit 5'", "nobody was told: sh ended with 5: no route"),
        ("./missing --to us", "nobody was told: ./missing: No such file or directory"),
        ("sleep 60", "nobody was told: sleep took longer than 0.5 s"),
    ],
)
def test_a_failure_of_which_nobody_can_hear_is_noted(tmp_path, teller, said):
    job = write_job(tmp_path, "exit 1", on_failure=teller)
    done = run(job, FOR_THE_COMMAND=0.5)
    assert done.returncode == 1 and said in log_of(job) and "Traceback" not in done.stderr


def test_a_second_run_steps_aside(tmp_path):
    job = write_job(tmp_path, "echo ran; exit 9", on_failure="touch told")
    with job.with_suffix(".lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        done = run(job)
    assert (done.returncode, done.stderr) == (0, "") and not (tmp_path / "told").exists()
    assert log_of(job).count("\n") == 1 and "steps aside: the run before is still going" in log_of(job)
    assert run(job).returncode == 9, "a lock whose owner is gone holds nobody up"


def test_a_run_that_takes_too_long_is_interrupted_with_all_it_started(tmp_path):
    script = "trap 'echo told; exit 7' INT; echo $$ > process; while :; do sleep 0.1; done"
    job = write_job(tmp_path, script, max_runtime=0.5, on_failure="touch told")
    assert run(job).returncode == 124
    assert "is interrupted after 0.5 s" in log_of(job) and "\ntold\n" in log_of(job) and (tmp_path / "told").exists()
    deaf = write_job(tmp_path, "trap '' INT; echo $$ > process; while :; do sleep 0.1; done", max_runtime=0.3)
    assert run(deaf, TO_END=0.3).returncode == 124
    assert not Path(f"/proc/{(tmp_path / 'process').read_text().strip()}").exists()


def test_whoever_ends_it_interrupts_the_playbook(tmp_path):
    job = write_job(tmp_path, "trap 'echo told; exit 7' INT; touch there; while :; do sleep 0.1; done")
    deaf = ["sh", "-c", 'trap "" INT; exec "$@"', "sh"]  # as nohup and a shell's & start a program
    with subprocess.Popen([*deaf, *command(job)]) as process:
        end = time.monotonic() + 20
        while not (tmp_path / "there").exists() and time.monotonic() < end:
            time.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 7
    assert "\ntold\n" in log_of(job)


def test_a_log_stays_small(tmp_path):
    job = write_job(tmp_path, "yes 0123456789012345678901234567890123456789 | head -1000")
    for _ in range(3):
        assert run(job, LOG_BYTES=10_000).returncode == 0
    sizes = {file.name: file.stat().st_size for file in tmp_path.glob("cleanup.log*")}
    assert set(sizes) == {"cleanup.log", "cleanup.log.1"} and all(size < 10_200 for size in sizes.values()), sizes


def test_a_log_that_cannot_be_written_keeps_nobody_from_hearing(tmp_path):
    job = write_job(tmp_path, "echo gone wrong; exit 2", on_failure="tee heard")
    job.with_suffix(".log").mkdir()
    done = run(job)
    assert done.returncode == 2 and "Is a directory" in done.stderr and "Traceback" not in done.stderr
    assert "gone wrong" in (tmp_path / "heard").read_text()


def test_a_program_that_is_not_there_has_failed(tmp_path):
    job = write_job(tmp_path, "", command=["/nowhere/python"], on_failure="tee heard")
    assert run(job, "--wait=0.1").returncode == 127
    assert "/nowhere/python: No such file or directory" in (tmp_path / "heard").read_text()
