# SPDX-License-Identifier: GPL-3.0-or-later
"""Spread work over processes by fork(2): no threads, no semaphores, nothing left behind when the parent is killed."""

from __future__ import annotations

import ctypes
import os
import pickle
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from ansible_collections.dmwm.wmagent.plugins.module_utils._errors import WMAgentError

Item = TypeVar("Item")
Result = TypeVar("Result")

_PR_SET_PDEATHSIG = 1


def worker_count() -> int:
    """Processes worth having: the CPUs this process may use, four at most."""
    return max(1, min(4, len(os.sched_getaffinity(0))))


def spread(items: Sequence[Item], weight: Callable[[Item], int], parts: int) -> list[list[Item]]:
    """Split ``items`` into at most ``parts`` lists of about equal weight, heaviest first. Pure; no list is empty."""
    loads = [0] * max(1, parts)
    lists: list[list[Item]] = [[] for _ in loads]
    for item in sorted(items, key=weight, reverse=True):
        lightest = loads.index(min(loads))
        loads[lightest] += weight(item) + 1
        lists[lightest].append(item)
    return [part for part in lists if part]


def run_parallel(work: Callable[[list[Item]], Result], parts: Sequence[list[Item]]) -> list[Result]:
    """``[work(part) for part in parts]``, each in a process of its own; results come back in that order.

    Raises WMAgentError where a part raised it or its process died. The other processes are ended first.
    """
    if len(parts) <= 1:
        return [work(part) for part in parts]
    children = [_start(work, part) for part in parts]
    running = [child for child, _pipe in children]
    answers: list[Any] = []
    try:
        for child, pipe in children:
            answer = _read_all(pipe)
            os.waitpid(child, 0)
            running.remove(child)  # from here on its number may be somebody else's
            answers.append(_unpack(answer))
    finally:
        for child in running:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
        for _child, pipe in children:
            os.close(pipe)
    return answers


def _start(work: Callable[[list[Item]], Any], part: list[Item]) -> tuple[int, int]:
    reader, writer = os.pipe()
    sys.stdout.flush()
    sys.stderr.flush()
    parent = os.getpid()
    child = os.fork()
    if child:
        os.close(writer)
        return child, reader
    try:
        os.close(reader)
        die_with_parent(parent)
        answer = _answer(work, part)
        with os.fdopen(writer, "wb") as stream:
            stream.write(answer)
    finally:
        os._exit(0)


def _answer(work: Callable[[list[Item]], Any], part: list[Item]) -> bytes:
    try:
        return pickle.dumps((True, work(part)))
    except WMAgentError as error:
        return pickle.dumps((False, str(error)))
    except OSError as error:
        return pickle.dumps((False, f"{error.filename or 'a file'}: {error.strerror}; check the disk and its owner"))
    except BaseException:
        return pickle.dumps((False, traceback.format_exc().strip().splitlines()[-1]))


def _read_all(pipe: int) -> bytes:
    chunks = []
    while chunk := os.read(pipe, 1 << 20):
        chunks.append(chunk)
    return b"".join(chunks)


def _unpack(content: bytes) -> Any:
    try:
        good, answer = pickle.loads(content)  # noqa: S301 - written by our own child
    except (EOFError, pickle.UnpicklingError):
        raise WMAgentError("a worker process was killed (out of memory?); run again") from None
    if not good:
        raise WMAgentError(answer)
    return answer


def die_with_parent(parent: int) -> None:
    """Have the kernel kill this process when ``parent`` is killed: nobody may write into a cleaned-up folder."""
    try:
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    except (OSError, AttributeError):
        return
    if os.getppid() != parent:
        os._exit(0)
