"""Nothing imports upwards: the layers of the architecture, read from the sources."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[2] / "provider" / "iotda_provider"
#: From the bottom up; what stands in no layer (models, api, guards, ...) is below them all.
LAYERS = (
    {"hooks"},
    {"guarding"},
    {"release", "release_files"},
    {"triggers"},
    {"operators", "sensors", "links"},
    {"task_groups"},
)
PURE = {"guards", "models"}


def room(module: str) -> str:
    """The part of the package that a module belongs to."""
    return module.split(".")[1] if "." in module else ""


def level(name: str) -> int:
    """How high a room stands; 0 is below all layers."""
    return next((at for at, layer in enumerate(LAYERS, 1) if name in layer), 0)


def imports(path: Path) -> set[str]:
    """What of this package a file imports when it is loaded, types alone left out."""
    found: set[str] = set()

    def visit(node: ast.AST) -> None:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef)):
                continue  # loaded when it is used
            if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
                continue
            if isinstance(child, ast.ImportFrom) and child.module:
                found.update(f"{child.module}.{name.name}" for name in child.names)
            elif isinstance(child, ast.Import):
                found.update(name.name for name in child.names)
            visit(child)

    visit(ast.parse(path.read_text(encoding="utf-8")))
    return found


FILES = sorted(path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.py"))


@pytest.mark.parametrize("file", FILES)
def test_nothing_imports_upwards(file: str) -> None:
    here = file.split("/")[0].removesuffix(".py")
    ours = {name for name in imports(PACKAGE / file) if name.startswith("iotda_provider.")}
    if here == "emulator":
        ours = {name for name in ours if room(name) not in ("emulator", "models")}
        assert not ours, "the emulator imports models, never hooks or operators"
        return
    above = {name for name in ours if level(room(name)) > level(here)}
    assert not above


@pytest.mark.parametrize("file", [file for file in FILES if file.split("/")[0] in PURE])
def test_the_pure_centre_knows_no_airflow(file: str) -> None:
    assert not {name for name in imports(PACKAGE / file) if name.startswith("airflow")}


#: What carries out what a procedure awaits, in a worker or a triggerer, and what they share.
EDGES = {
    f"{room}/{name}.py"
    for room in ("guarding", "release")
    for name in ("alerts", "memory_store", "triggerer", "worker")
}
IO = ("io", "transport")


def procedures_in(path: Path) -> list[ast.AsyncFunctionDef]:
    """The coroutines over an injected I/O object, which is their first argument, after ``self``."""
    return [
        node
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.AsyncFunctionDef)
        and next((arg.arg for arg in node.args.args if arg.arg != "self"), "") in IO
    ]


PROCEDURES = [file for file in FILES if procedures_in(PACKAGE / file)]


def test_there_are_procedures() -> None:
    rooms = [file.split("/")[0] for file in PROCEDURES]
    assert {"procedures.py", "creating.py", "transport", "guarding", "release"} <= set(rooms)
    assert rooms.count("release") >= 6


def test_guards_and_releases_await_in_procedures_only_or_at_their_edges() -> None:
    for file in FILES:
        if file.split("/")[0] not in ("guarding", "release") or file in EDGES:
            continue
        tree = ast.parse((PACKAGE / file).read_text(encoding="utf-8"))
        procedures = procedures_in(PACKAGE / file)
        inside = {at for procedure in procedures for at in awaits(procedure)}
        assert awaits(tree) == inside, file


def awaits(tree: ast.AST) -> set[tuple[int, int]]:
    """Where something is awaited: lines and columns."""
    return {
        (node.lineno, node.col_offset) for node in ast.walk(tree) if isinstance(node, ast.Await)
    }


@pytest.mark.parametrize("file", PROCEDURES)
def test_a_procedure_awaits_its_io_object_and_does_no_io_itself(file: str) -> None:
    tree = ast.parse((PACKAGE / file).read_text(encoding="utf-8"))
    imported = {
        name.split(".")[0]
        for node in ast.walk(tree)
        if isinstance(node, (ast.Import, ast.ImportFrom))
        for name in (
            [node.module or ""]
            if isinstance(node, ast.ImportFrom)
            else [alias.name for alias in node.names]
        )
    }
    assert not imported & {"asyncio", "time", "threading", "concurrent", "requests", "aiohttp"}
    for procedure in procedures_in(PACKAGE / file):
        inside = list(ast.walk(procedure))
        assert not [node for node in inside if isinstance(node, (ast.Yield, ast.YieldFrom))]
        if procedure.args.args[0].arg == "transport":
            continue  # tenacity's retries sleep by it
        awaited = [node.value for node in inside if isinstance(node, ast.Await)]
        strangers = [ast.unparse(what) for what in awaited if not is_of_io(what)]
        assert not strangers, procedure.name


def is_of_io(awaited: ast.expr) -> bool:
    """Whether what is awaited is a method of the I/O object, or a procedure that gets it."""
    if not isinstance(awaited, ast.Call):
        return False
    given = [*awaited.args, *(keyword.value for keyword in awaited.keywords)]
    whose = [*given, getattr(awaited.func, "value", None)]
    return any(isinstance(one, ast.Name) and one.id in IO for one in whose)
