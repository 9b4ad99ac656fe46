"""A procedure is a coroutine over an I/O object, and awaits nothing else: read from the sources."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[2] / "provider" / "iotda_provider"
FILES = sorted(path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.py"))
#: What carries out what a procedure awaits, in a worker or a triggerer, and what they share.
EDGES = {
    f"{room}/{name}.py"
    for room in ("rollout_guard", "release")
    for name in ("alerts", "files_io", "memory_store", "triggerer", "worker")
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
    assert {"procedures", "transport", "rollout_guard", "release"} <= set(rooms)
    assert rooms.count("release") >= 6


def test_guards_and_releases_await_in_procedures_only_or_at_their_edges() -> None:
    for file in FILES:
        if file.split("/")[0] not in ("rollout_guard", "release") or file in EDGES:
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
