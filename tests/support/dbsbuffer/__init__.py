# SPDX-License-Identifier: GPL-3.0-or-later
"""DBSBuffer databases for tests: WMCore's own tables in MariaDB and Oracle, small random contents, and large ones."""
