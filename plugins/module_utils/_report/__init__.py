# SPDX-License-Identifier: GPL-3.0-or-later
"""The report as a page, as Markdown and as JSON. Runs on the controller only; stands on _history's model."""
