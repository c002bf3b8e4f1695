# SPDX-License-Identifier: GPL-3.0-or-later
"""The lab: a small private copy of everything an agent talks to, under one folder of one machine.

The servers (``couch_standin``, ``central``) need the standard library only; ``inside.py`` is run by the agents' own
interpreter; the rest stands on the collection's module_utils.
"""
