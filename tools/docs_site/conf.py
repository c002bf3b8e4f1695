# SPDX-License-Identifier: GPL-3.0-or-later
"""Sphinx's configuration of the documentation site (make docs-site)."""

project = "dmwm.wmagent"
copyright = "dmwm.wmagent contributors"

# antsibull-docs writes the modules' pages; docs/*.md are read as they are.
extensions = ["sphinx_antsibull_ext", "myst_parser"]
myst_heading_anchors = 3
html_theme = "furo"
html_title = project
# Links to files of the checkout, and to pages of Ansible's own documentation, lead nowhere on this site.
suppress_warnings = ["myst.xref_missing", "ref.ref"]
