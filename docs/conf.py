"""Sphinx configuration: MyST Markdown, furo, and directives that print what is not written by hand."""

from __future__ import annotations

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE / "_ext"), str(HERE.parent)]

import hakgal_hybrid  # noqa: E402

project = "hakgal_hybrid"
author = copyright = "the authors of hakgal_hybrid"
version = release = hakgal_hybrid.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "hybrid_settings", "hybrid_openapi", "hybrid_figures"]
exclude_patterns = ["benchmarks", "faults", "_build"]
suppress_warnings: list[str] = []

myst_heading_anchors = 3
myst_enable_extensions = ["deflist", "colon_fence"]

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
python_use_unqualified_type_names = True

html_theme = "furo"
html_title = f"hakgal_hybrid {release}"
html_static_path = ["_static"]
html_css_files = ["tables.css"]
html_copy_source = False
