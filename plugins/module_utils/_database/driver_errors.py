# SPDX-License-Identifier: GPL-3.0-or-later
"""Database drivers: find the one that is installed, and say in one line what its errors mean."""

from __future__ import annotations

import importlib
import re
from typing import TYPE_CHECKING, Any

from ansible_collections.dmwm.wmagent.plugins.module_utils._errors import WMAgentError

if TYPE_CHECKING:
    from ansible_collections.dmwm.wmagent.plugins.module_utils._database.connection import DatabaseSettings

_DRIVERS = {"mariadb": ("pymysql",), "oracle": ("oracledb", "cx_Oracle")}
_PACKAGES = {"mariadb": "PyMySQL", "oracle": "python-oracledb"}

_UNREACHABLE = "cannot be reached ({why}); is it running, and does WMAgent.secrets name the right host and port?"
_DENIED = "refuses user {user} with this password; check the user and password in WMAgent.secrets"
_NO_DATABASE = "has no database {name}; check wmagent_database_name (Oracle: ORACLE_TNS)"
_NO_RIGHT = "gives user {user} no access to database {name}; check the grants and wmagent_database_name"
_TIMEOUT = "did not answer within {timeout:g} s; look at its load and locks, or allow more time"
_TLS = "and this host agree on no TLS session ({why}); check the CA file and the server's certificate"
_LOST = "closed the connection ({why}); is it restarting?"
_FULL = "takes no more sessions ({why}); close some or raise its limit"
_LOCKED = "could not get a lock in time ({why}); something else holds it, try again"
_NO_TABLE_RIGHT = "lets user {user} not do that ({why}); grant it all rights on the agent's tables"
_SERVER_READ_ONLY = "takes no writes ({why}); is it a replica, or set to read_only?"
_READ_ONLY = "was asked to write in a read-only session ({why}); this is a mistake in the collection"
_OTHER = "answered with an error: {why}"

_MARIADB_CODES = {
    1045: _DENIED,
    1698: _DENIED,
    1044: _NO_RIGHT,
    1049: _NO_DATABASE,
    1040: _FULL,
    1203: _FULL,
    1226: _FULL,
    1969: _TIMEOUT,
    1205: _LOCKED,
    1213: _LOCKED,
    1792: _READ_ONLY,
    1142: _NO_TABLE_RIGHT,
    1143: _NO_TABLE_RIGHT,
    1290: _SERVER_READ_ONLY,
    1836: _SERVER_READ_ONLY,
    2002: _UNREACHABLE,
    2003: _UNREACHABLE,
    2026: _TLS,
    3159: _TLS,
    2006: _LOST,
    2013: _LOST,
    2014: _LOST,
    1053: _LOST,
    1927: _LOST,
}

_ORACLE_CODES = {
    "ORA-01017": _DENIED,
    "ORA-28000": _DENIED,
    "ORA-28001": _DENIED,
    "ORA-01045": _NO_RIGHT,
    "ORA-12514": _NO_DATABASE,
    "ORA-12505": _NO_DATABASE,
    "ORA-12154": _NO_DATABASE,
    "DPY-4000": _NO_DATABASE,
    "DPY-4001": _DENIED,
    "DPY-4026": _NO_DATABASE,
    "DPY-4027": _NO_DATABASE,
    "DPY-6001": _NO_DATABASE,
    "DPY-6003": _NO_DATABASE,
    "DPY-6005": _UNREACHABLE,
    "DPY-4011": _LOST,
    "DPY-4024": _TIMEOUT,
    "DPI-1067": _TIMEOUT,
    "ORA-12541": _UNREACHABLE,
    "ORA-12543": _UNREACHABLE,
    "ORA-12545": _UNREACHABLE,
    "ORA-12170": _TIMEOUT,
    "ORA-03113": _LOST,
    "ORA-03114": _LOST,
    "ORA-03135": _LOST,
    "ORA-01033": _LOST,
    "ORA-01034": _UNREACHABLE,
    "ORA-00018": _FULL,
    "ORA-00020": _FULL,
    "ORA-12519": _FULL,
    "ORA-00054": _LOCKED,
    "ORA-00060": _LOCKED,
    "ORA-30006": _LOCKED,
    "ORA-01456": _READ_ONLY,
    "ORA-01031": _NO_TABLE_RIGHT,
    "ORA-16000": _SERVER_READ_ONLY,
    "ORA-28759": _TLS,
    "ORA-29024": _TLS,
}
_HELP_LINK = re.compile(r"Help: https?://\S+")
_ORACLE_CODE = re.compile(r"\b(?:ORA|DPY|DPI)-\d{4,5}\b")


class DatabaseBusyError(WMAgentError):
    """A lock that another session holds was not given up in time."""


class DatabaseLostError(WMAgentError):
    """The server closed the connection; a new one may work."""


def driver(dialect: str) -> Any:
    """The DB-API module for a dialect. Raises WMAgentError where none is installed."""
    for name in _DRIVERS[dialect]:
        try:
            return importlib.import_module(name)
        except ImportError:
            continue
    raise WMAgentError(
        f"no Python driver for {dialect} is installed for this interpreter; install {_PACKAGES[dialect]} "
        "(the tools environment staged with an image has it)"
    )


def translate(settings: DatabaseSettings, error: BaseException, timeout: float) -> WMAgentError:
    """One line for a driver's error: what, where, what to do. Never the password, never a statement's parameters."""
    text = " ".join(_HELP_LINK.sub("", str(error)).split())
    if settings.dialect == "oracle":
        found = _ORACLE_CODE.findall(text)
        template = next((_ORACLE_CODES[code] for code in found if code in _ORACLE_CODES), _OTHER)
    else:
        template = _mariadb_template(error, text)
        text = _mariadb_reason(error)
    if settings.tls_ca and isinstance(error, OSError):
        template = _TLS
    if template in (_UNREACHABLE, _OTHER, _LOST) and re.search(r"timed out|timeout", text, re.IGNORECASE):
        template = _TIMEOUT
    why = text.replace(settings.password, "********") if settings.password else text
    kind = {_LOCKED: DatabaseBusyError, _LOST: DatabaseLostError}.get(template, WMAgentError)
    return kind(
        f"{settings.where} " + template.format(why=why[:300], user=settings.user, name=settings.name, timeout=timeout)
    )


def _mariadb_template(error: BaseException, text: str) -> str:
    code = error.args[0] if error.args else None
    if code in (2003, 2013) and re.search(r"\bSSL\b|\bTLS\b|certificate", text, re.IGNORECASE):
        return _TLS
    if isinstance(error, RuntimeError):  # PyMySQL says so where an authentication plugin needs a library it lacks
        return _OTHER
    return _MARIADB_CODES.get(code, _OTHER) if isinstance(code, int) else _OTHER


def _mariadb_reason(error: BaseException) -> str:
    reason = error.args[1] if len(error.args) > 1 else error
    return " ".join(str(reason).split())
