# SPDX-License-Identifier: GPL-3.0-or-later
"""Options of the modules that talk to an agent's database."""

from __future__ import annotations


class ModuleDocFragment:
    """C(dmwm.wmagent.database): how to reach an agent's database."""

    DOCUMENTATION = r"""
options:
  secrets:
    description:
      - The agent's C(WMAgent.secrets) on the agent. Its C(MDB_USER), C(MDB_PASS) and C(MDB_HOST) (optionally
        C(MDB_PORT), C(MDB_SOCK), C(MDB_SSL_CA)), the older C(MYSQL_USER), C(MYSQL_PASS) and C(MYSQL_HOST), or
        C(ORACLE_USER), C(ORACLE_PASS) and C(ORACLE_TNS) tell which database it is and how to reach it.
    type: path
    required: true
  database_name:
    description: Name of the agent's database in MariaDB; Oracle needs none.
    type: str
    default: wmagent
  timeout:
    description: Seconds to wait for a connection, and for each statement or request.
    type: float
    default: 30
requirements:
  - PyMySQL for MariaDB, python-oracledb or cx_Oracle for Oracle; the tools environment staged with an image has them
"""

    LOGIN = r"""
options:
  secrets:
    description:
      - The agent's C(WMAgent.secrets) on the agent. Its C(MDB_USER), C(MDB_PASS) and C(MDB_HOST) (optionally
        C(MDB_PORT), C(MDB_SOCK), C(MDB_SSL_CA)), the older C(MYSQL_USER), C(MYSQL_PASS) and C(MYSQL_HOST), or
        C(ORACLE_USER), C(ORACLE_PASS) and C(ORACLE_TNS) tell which database it is and how to reach it.
      - Either this or O(login_user) is needed.
    type: path
  database_name:
    description: Name of the agent's database in MariaDB; Oracle needs none.
    type: str
    default: wmagent
  timeout:
    description: Seconds to wait for a connection.
    type: float
    default: 30
  login_user:
    description: The account that owns the agent's tables, where O(secrets) is not given.
    type: str
  login_password:
    description: Its password.
    type: str
  login_host:
    description: MariaDB's host.
    type: str
    default: 127.0.0.1
  login_port:
    description: MariaDB's port.
    type: int
    default: 3306
  login_unix_socket:
    description: MariaDB's socket, used instead of host and port.
    type: path
  login_dsn:
    description: Oracle's connect string or TNS alias; makes it an Oracle database.
    type: str
  ca_cert:
    description: File with the CA that MariaDB's certificate must chain to.
    type: path
requirements:
  - PyMySQL for MariaDB, python-oracledb or cx_Oracle for Oracle; the tools environment staged with an image has them
"""
