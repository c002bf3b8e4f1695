# SPDX-License-Identifier: GPL-3.0-or-later
"""How much is free on the disks where CouchDB keeps its files."""

from __future__ import annotations

import shutil
import socket
from collections.abc import Mapping
from pathlib import Path

from ansible_collections.dmwm.wmagent.plugins.module_utils._couchdb.client import CouchClient
from ansible_collections.dmwm.wmagent.plugins.module_utils._couchdb.compaction_plan import DATABASES, VIEWS, Disks
from ansible_collections.dmwm.wmagent.plugins.module_utils._errors import WMAgentError

_SETTING = {DATABASES: "database_dir", VIEWS: "view_index_dir"}
# What a CouchDB 2 or later keeps in each folder; a folder without it is another one that has the same name.
_MARK = {DATABASES: "shards", VIEWS: ".shards"}


def disks_of(client: CouchClient, data_directory: str | None, free_bytes: int | None) -> Disks:
    """The disks and what is free on them.

    data_directory: where this host sees the files of databases and views; None to ask CouchDB, which tells its own
                    folders (``[couchdb] database_dir``, ``view_index_dir``), and to take its word where it runs on this
                    host and they are CouchDB's folders here
    free_bytes:     what is free, told by somebody who can see it; None to look

    Raises WMAgentError where a folder that was named is not there.
    """
    if free_bytes is not None:
        if free_bytes < 0:
            raise WMAgentError(f"free_bytes is {free_bytes}; it is a number of bytes, 0 or more")
        return Disks(dict.fromkeys(_SETTING, "told"), {"told": free_bytes})
    if data_directory is not None:
        folder = Path(data_directory)
        if not folder.is_dir():
            raise WMAgentError(f"data_directory {folder} is no folder on this host; name where CouchDB's files are")
        return _look(dict.fromkeys(_SETTING, folder))
    settings = client.get("/_node/_local/_config/couchdb")
    if not isinstance(settings, Mapping):
        raise WMAgentError(f"{client.settings.where} does not tell its settings; is a proxy in between?")
    if not is_here(client.settings.host):
        return _unknown(f"CouchDB runs on {client.settings.host}, whose disks this host does not see")
    folders = {kind: Path(str(settings.get(name, ""))) for kind, name in _SETTING.items()}
    for kind, folder in folders.items():
        if not folder.is_absolute() or not _is_couchdbs(folder, kind, folders):
            return _unknown(f"CouchDB says that its {kind} are in {folder}, which is not that folder on this host")
    return _look(folders)


def is_here(host: str) -> bool:
    """Whether a server of this name runs on this host."""
    own = {"localhost", "::1", "[::1]", socket.gethostname(), socket.getfqdn()}
    return host.startswith("127.") or host in own


def _is_couchdbs(folder: Path, kind: str, folders: Mapping[str, Path]) -> bool:
    try:
        # Before the first view is built there is no folder for views, which are beside the databases mostly.
        return (folder / _MARK[kind]).is_dir() or (kind == VIEWS and folder == folders[DATABASES])
    except OSError:
        return False


def _look(folders: Mapping[str, Path]) -> Disks:
    disk_of: dict[str, str] = {}
    free: dict[str, int] = {}
    for kind, folder in folders.items():
        try:
            disk_of[kind] = str(folder.stat().st_dev)
            free[disk_of[kind]] = shutil.disk_usage(folder).free
        except OSError as error:
            return _unknown(f"{folder} cannot be looked at ({error.strerror})")
    return Disks(disk_of, free)


def _unknown(why: str) -> Disks:
    return Disks({}, {}, f"{why}; name it with data_directory, or tell free_bytes")
