"""What the package imports is declared: no other package's change takes it away. And no more is."""

from __future__ import annotations

import ast
import configparser
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "provider" / "iotda_provider"
#: What the module of a distribution is called, where it is not called as that.
MODULES = {
    "apache_airflow": "airflow",
    "apache_airflow_providers_common_compat": "airflow.providers.common.compat",
    "apache_airflow_providers_http": "airflow.providers.http",
    "apache_airflow_providers_standard": "airflow.providers.standard",
}
PROVIDER = re.compile(r"airflow\.providers\.(common\.)?\w+")
#: Of Airflow 3's API server, in which alone the page's app is loaded.
OF_THE_API_SERVER = {"fastapi", "sqlalchemy"}
#: Of the connection form of Airflow 2, which brings them; Airflow 3 never imports that file.
OF_AIRFLOW_2 = {"flask_appbuilder", "flask_babel", "markupsafe", "wtforms"}


def imported(file: Path) -> set[str]:
    """The modules that a file imports, but for types only; also through ``import_module``."""
    tree = ast.parse(file.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            node.body = []
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            names.add(node.module or "")
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module"):
            names.update(one.value for one in node.args[:1] if isinstance(one, ast.Constant))
    found = ((name, PROVIDER.match(name)) for name in names)
    tops = {match[0] if match else name.partition(".")[0] for name, match in found}
    return tops - set(sys.stdlib_module_names) - {"__future__", "iotda_provider"}


def declared(text: str) -> set[str]:
    """The modules of a list of requirements."""
    lines = (line.partition("#")[0].strip() for line in text.splitlines())
    names = (re.split(r"[^A-Za-z0-9._-]", line)[0].replace("-", "_") for line in lines if line)
    return {MODULES.get(name, name) for name in names}


@pytest.fixture(scope="module")
def setup() -> configparser.ConfigParser:
    found = configparser.ConfigParser(interpolation=None)
    found.read(ROOT / "setup.cfg")
    return found


def test_what_is_declared_is_imported(setup: configparser.ConfigParser) -> None:
    everything = set().union(*map(imported, PACKAGE.rglob("*.py")))
    assert declared(setup["options"]["install_requires"]) - everything == set()
    assert declared(setup["options.extras_require"]["emulator"]) - everything == set()


def test_what_is_imported_is_declared(setup: configparser.ConfigParser) -> None:
    required = declared(setup["options"]["install_requires"]) | OF_AIRFLOW_2
    extras = {name: declared(text) for name, text in setup["options.extras_require"].items()}

    undeclared: dict[str, set[str]] = {}
    for file in PACKAGE.rglob("*.py"):
        allowed = required
        if file.is_relative_to(PACKAGE / "emulator"):
            allowed = required | extras["emulator"] | {"pytest"}  # which loads the plugin
        if file.is_relative_to(PACKAGE / "ui"):
            allowed = required | OF_THE_API_SERVER
        if file.name == "plot.py":
            allowed = required | extras["plot"]
        if missing := imported(file) - allowed:
            undeclared[str(file.relative_to(PACKAGE))] = missing
    assert undeclared == {}
