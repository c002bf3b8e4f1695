# SPDX-License-Identifier: GPL-3.0-or-later
"""Redeployment of an agent: saved, wiped, made anew by a release with another schema."""
