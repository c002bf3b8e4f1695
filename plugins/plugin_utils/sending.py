# SPDX-License-Identifier: GPL-3.0-or-later
"""What the action plugins share that send blobs to agents."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ansible import constants
from ansible.errors import AnsibleError
from ansible.plugins.action import ActionBase
from ansible_collections.dmwm.wmagent.plugins.module_utils._errors import WMAgentError
from ansible_collections.dmwm.wmagent.plugins.module_utils._release.bundle import write_bundle
from ansible_collections.dmwm.wmagent.plugins.module_utils._release.description import Wheel
from ansible_collections.dmwm.wmagent.plugins.module_utils._release.repository import Repository


class SendingAction(ActionBase):
    """An action that asks the agent what it lacks, and sends that as one bundle."""

    remedy = "run dmwm.wmagent.tools and set ansible_python_interpreter to the python it returns"
    """What to do where the module's interpreter does not exist."""

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Entry point; WMAgentError becomes the task's message."""
        result = super().run(tmp, task_vars)
        try:
            result.update(self._send(dict(self._task.args), task_vars or {}))
        except WMAgentError as error:
            result.update(failed=True, msg=str(error))
        finally:
            self._remove_tmp_path(self._connection._shell.tmpdir)
        return result

    def _send(self, args: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        raise NotImplementedError

    def _module(self, args: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        """Run the module of the same name on the agent."""
        answer: dict[str, Any] = self._execute_module(
            module_name=f"dmwm.wmagent.{type(self).__module__.rpartition('.')[2]}",
            module_args=args,
            task_vars=task_vars,
        )
        if answer.get("rc") == 127:  # what a shell says where there is no such program
            python = task_vars.get("ansible_python_interpreter", "the interpreter")
            host = task_vars.get("inventory_hostname", "the agent")
            raise WMAgentError(f"{python} does not exist on {host}; {self.remedy}")
        return answer

    def _transfer_bundle(self, repository: Repository, wheels: Sequence[Wheel]) -> tuple[str, int]:
        """Put ``wheels`` on the agent as one file; returns its path there and its size in bytes."""
        local = bundle_for(repository, wheels)
        if not self._connection._shell.tmpdir:
            self._make_tmp_path()
        folder = self._connection._shell.tmpdir
        remote = self._connection._shell.join_path(folder, "bundle.tar")
        self._transfer_file(str(local), remote)
        self._fixup_perms2((folder, remote))
        return remote, local.stat().st_size


def bundle_for(repository: Repository, wheels: Sequence[Wheel]) -> Path:
    """The bundle of ``wheels``, made once for all agents of a run that lack the same ones.

    It stands in Ansible's temporary folder of this run, and goes with it.
    """
    names = "\n".join([repository.location, *sorted(wheel.digest for wheel in wheels)])
    target = Path(constants.DEFAULT_LOCAL_TMP) / f"bundle-{hashlib.sha256(names.encode()).hexdigest()[:16]}.tar"
    if not target.is_file():
        write_bundle(target, wheels, repository.open_blob)
    return target


def bundle_size(wheels: Sequence[Wheel]) -> int:
    """Bytes that the bundle of ``wheels`` will have."""
    content = sum(512 + -(-wheel.size // 512) * 512 for wheel in wheels)
    return -(-(content + 1024) // 10240) * 10240 if wheels else 0


def text_argument(args: dict[str, Any], name: str, default: str | None = None) -> str:
    """One textual argument of the task. Raises AnsibleError, as Ansible's own check does, where it is missing."""
    value = args.get(name)
    if value is None:
        value = default
    if value is None or (value == "" and default is None):
        raise AnsibleError(f"missing required arguments: {name}")
    return str(value)
