"""How Sphinx builds the documentation; warnings are errors (`make docs`)."""

import re

from sphinx.application import Sphinx
from sphinx.search.en import SearchEnglish

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


class SearchByCharacters(SearchEnglish):
    """Sphinx's own search in Chinese finds nothing without jieba's dictionary, and in Sphinx 9.0
    nothing at all (https://github.com/sphinx-doc/sphinx/issues/14229).
    """

    lang = "zh"

    def split(self, input: str) -> list[str]:
        runs = re.findall("[\u3400-\u9fff]+", input)
        words = [run[i : i + n] for n in (2, 3, 4) for run in runs for i in range(len(run) - n + 1)]
        return [*super().split(input), *words]

    def stem(self, word: str) -> str:
        return super().stem(word) if word.isascii() else word


def setup(app: Sphinx) -> None:
    app.add_search_language(SearchByCharacters)
