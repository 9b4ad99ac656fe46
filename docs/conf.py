"""How Sphinx builds the documentation; warnings are errors (`make docs`)."""

from iotda_provider import __version__

project = "airflow-provider-iotda"
author = "The airflow-provider-iotda authors"
copyright = "The airflow-provider-iotda authors"
version = release = __version__

extensions = ["myst_parser", "sphinx.ext.autodoc"]
myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3
exclude_patterns = ["_build", "locale"]
templates_path = ["_templates"]

# Chinese: `make docs` builds the pages once more with -D language=zh_CN. The catalogues are written
# by scripts/translations.py.
locale_dirs = ["locale"]
gettext_compact = False
gettext_location = False

autodoc_member_order = "bysource"
autodoc_typehints = "none"

html_theme = "furo"
html_title = f"airflow-provider-iotda {__version__}"
html_sidebars = {
    "**": [
        *("sidebar/brand.html", "sidebar/search.html", "sidebar/languages.html"),
        *("sidebar/scroll-start.html", "sidebar/navigation.html", "sidebar/scroll-end.html"),
    ]
}
