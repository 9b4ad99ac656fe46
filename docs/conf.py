"""How Sphinx builds the documentation; warnings are errors (`make docs`)."""

from iotda_provider import __version__

project = "airflow-provider-iotda"
author = "The airflow-provider-iotda authors"
copyright = "The airflow-provider-iotda authors"
version = release = __version__

extensions = ["myst_parser", "sphinx.ext.autodoc"]
myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3
exclude_patterns = ["_build"]

autodoc_member_order = "bysource"
autodoc_typehints = "none"

html_theme = "furo"
html_title = f"airflow-provider-iotda {__version__}"
