"""The house: who may import whom, and how large a room may be, read from the sources."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[2] / "provider" / "iotda_provider"
NAME = PACKAGE.name
#: From the bottom up: a file imports from its own room and from those before it.
ROOMS = (
    "models",
    "exceptions",
    "waiting",
    "airflow_support",
    "masking",
    "connection",
    "api",
    "transport",
    "auth",
    "procedures",
    "hooks",
    "trials",
    "guards",
    "task_io",
    "notifications",
    "rollout_guard",
    "release",
    "triggers",
    "links",
    "sensors",
    "operators",
    "ui",
    "doctor",
)
ROOT_FILES = {"__init__.py", "exceptions.py", "get_provider_info.py"}
#: Rooms that know no Airflow, and the files of them that do.
WITHOUT_AIRFLOW = {
    "models": set(),
    "trials": set(),
    "guards": set(),
    "api": set(),
    "procedures": set(),
    "rollout_guard": {"worker.py", "triggerer.py", "memory_store.py"},
    "release": {"worker.py", "triggerer.py", "storage.py"},
}
MOST_LINES = 400
MOST_LINES_BESIDES_METHODS = 150
#: Folders and files directly under the package.
MOST_IN_THE_ROOT = 26

FILES = sorted(path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.py"))
MODULES = {
    ".".join((NAME, *Path(file).with_suffix("").parts)).removesuffix(".__init__"): file
    for file in FILES
}


def imports(file: str, *, types: bool = True) -> Iterator[str]:
    """What a file imports: in its functions and by a dotted path, too.

    :param types: also what it imports for annotations alone
    """

    def visit(node: ast.AST) -> Iterator[str]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING":
                if not types:
                    child.body = []
            elif isinstance(child, ast.ImportFrom) and child.module:
                for name in child.names:
                    whole = f"{child.module}.{name.name}"
                    yield whole if whole in MODULES else child.module
            elif isinstance(child, ast.Import):
                yield from (name.name for name in child.names)
            elif isinstance(child, ast.Constant) and isinstance(child.value, str):
                yield from {child.value, child.value.rpartition(".")[0]} & set(MODULES)
            yield from visit(child)

    return visit(tree(file))


def tree(file: str) -> ast.Module:
    return ast.parse((PACKAGE / file).read_text(encoding="utf-8"))


def room(module: str) -> str:
    """The part of the package that a module belongs to; empty: the package itself."""
    return module.split(".")[1] if "." in module else ""


def ours(file: str) -> set[str]:
    return {name for name in imports(file) if name.split(".")[0] == NAME}


@pytest.mark.parametrize("file", [file for file in FILES if not file.startswith("emulator/")])
def test_nothing_imports_upwards(file: str) -> None:
    here = room(f"{NAME}.{file.replace('/', '.').removesuffix('.py')}")
    if here in ("__init__", "get_provider_info"):
        return  # they name others in texts alone
    assert here in ROOMS
    below = ROOMS[: ROOMS.index(here) + 1]
    above = {name for name in ours(file) if room(name) not in below}
    assert not above - {NAME}


@pytest.mark.parametrize("file", [file for file in FILES if file.startswith("emulator/")])
def test_the_emulator_knows_the_models_and_nothing_else(file: str) -> None:
    assert {room(name) for name in ours(file)} <= {"emulator", "models", ""}


def test_nothing_imports_in_a_circle() -> None:
    graph = {name: ours(file) & set(MODULES) - {name} for name, file in MODULES.items()}
    while free := {
        name
        for name, wanted in graph.items()
        if not wanted & set(graph) or not any(name in others for others in graph.values())
    }:
        graph = {name: wanted for name, wanted in graph.items() if name not in free}
    assert not graph


@pytest.mark.parametrize(
    "file",
    [
        file
        for file in FILES
        if "/" in file
        and (here := file.split("/")[0]) in WITHOUT_AIRFLOW
        and file.split("/")[-1] not in WITHOUT_AIRFLOW[here]
    ],
)
def test_what_is_pure_knows_no_airflow(file: str) -> None:
    assert not {name for name in imports(file, types=False) if name.split(".")[0] == "airflow"}


def test_three_files_stand_in_the_root() -> None:
    assert {file for file in FILES if "/" not in file} == ROOT_FILES


def test_the_package_is_a_short_table_of_contents() -> None:
    assert len({file.split("/")[0] for file in FILES}) <= MOST_IN_THE_ROOT


@pytest.mark.parametrize("file", FILES)
def test_a_file_can_be_read_in_a_sitting(file: str) -> None:
    assert len((PACKAGE / file).read_text(encoding="utf-8").splitlines()) <= MOST_LINES


@pytest.mark.parametrize("file", ["hooks/iotda.py", "hooks/iotda_async.py"])
def test_a_hook_is_its_public_methods_and_little_else(file: str) -> None:
    methods = [
        method
        for hook in tree(file).body
        if isinstance(hook, ast.ClassDef)
        for method in hook.body
        if isinstance(method, ast.FunctionDef | ast.AsyncFunctionDef)
        and not method.name.startswith("_")
    ]
    public = sum((method.end_lineno or 0) - method.lineno + 1 for method in methods)
    lines = len((PACKAGE / file).read_text(encoding="utf-8").splitlines())
    assert lines - public <= MOST_LINES_BESIDES_METHODS


@pytest.mark.parametrize(
    "folder",
    sorted({path.parent.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.py")}),
)
def test_a_folder_says_in_one_line_what_it_is_for(folder: str) -> None:
    said = ast.get_docstring(tree(f"{folder}/__init__.py"))
    assert said
    assert said.splitlines()[0].endswith(".")


def test_the_folders_of_unit_tests_are_those_of_the_package() -> None:
    tests = Path(__file__).parent
    folders = {path.parent.relative_to(tests).as_posix() for path in tests.rglob("test_*.py")}
    assert not {folder for folder in folders - {"docs"} if not (PACKAGE / folder).is_dir()}
