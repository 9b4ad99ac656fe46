"""Draws the rooms of the package and who imports whom, from the sources: docs/house.svg."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from html import escape
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "provider" / "iotda_provider"
PICTURE = ROOT / "docs" / "house.svg"
WIDTH, HEIGHT, GAP, BETWEEN = 176, 46, 18, 62  # of a room, and between rooms
STYLE = """
  text { font: 13px sans-serif; fill: #1f2933; text-anchor: middle; }
  .what { font-size: 9px; fill: #52606d; }
  rect { fill: #f5f7fa; stroke: #7b8794; rx: 6; }
  .alone { fill: #e3f0e8; }
  path { fill: none; stroke: #9aa5b1; marker-end: url(#arrow); }
"""


def rooms() -> dict[str, str]:
    """The folders of the package, each with what it is for."""
    found = {}
    for init in sorted(PACKAGE.glob("*/__init__.py")):
        said = ast.get_docstring(ast.parse(init.read_text(encoding="utf-8"))) or ""
        found[init.parent.name] = said.partition("\n")[0]
    return found


def imported(path: Path) -> Iterator[str]:
    """The rooms that a file imports from when it runs; types alone are left out."""

    def visit(node: ast.AST) -> Iterator[str]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
                continue
            if isinstance(child, ast.ImportFrom) and child.module:
                names = [f"{child.module}.{name.name}" for name in child.names]
                yield from (n.split(".")[1] for n in names if n.startswith(f"{PACKAGE.name}."))
            yield from visit(child)

    return visit(ast.parse(path.read_text(encoding="utf-8")))


def edges(names: dict[str, str]) -> dict[str, set[str]]:
    """Who imports whom, without what follows from other edges."""
    whole = {
        room: {
            other
            for path in (PACKAGE / room).rglob("*.py")
            for other in imported(path)
            if other in names and other != room
        }
        for room in names
    }
    below = {room: _all_below(room, whole) for room in names}
    return {
        room: {a for a in others if not any(a in below[b] for b in others - {a})}
        for room, others in whole.items()
    }


def _all_below(room: str, edges: dict[str, set[str]]) -> set[str]:
    found: set[str] = set()
    todo = [room]
    while todo:
        for other in edges[todo.pop()] - found:
            found.add(other)
            todo.append(other)
    return found


def levels(names: dict[str, str], edges: dict[str, set[str]]) -> list[list[str]]:
    """The rooms from the top of the house to its bottom."""
    depth: dict[str, int] = {}

    def height(room: str) -> int:
        if room not in depth:
            depth[room] = 1 + max((height(other) for other in edges[room]), default=-1)
        return depth[room]

    for room in names:
        height(room)
    highest = max(depth.values())
    return [[room for room in names if depth[room] == at] for at in range(highest, -1, -1)]


def draw() -> str:
    """The picture."""
    names = rooms()
    lines = edges(names)
    rows = levels(names, lines)
    width = max(map(len, rows)) * (WIDTH + GAP) + GAP
    at = {}
    for number, row in enumerate(rows):
        left = (width - len(row) * (WIDTH + GAP) + GAP) // 2
        for n, room in enumerate(row):
            at[room] = (left + n * (WIDTH + GAP), GAP + number * (HEIGHT + BETWEEN))
    height = len(rows) * (HEIGHT + BETWEEN) - BETWEEN + 2 * GAP
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img">',
        "<title>The rooms of the package; an arrow leads to what is imported</title>",
        f"<style>{STYLE}</style>",
        '<defs><marker id="arrow" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="6" '
        'markerHeight="6" orient="auto"><path d="M0 0 8 4 0 8z" '
        'style="fill:#9aa5b1;stroke:none;marker-end:none"/></marker></defs>',
        f'<rect width="{width}" height="{height}" style="fill:#fff;stroke:none"/>',
    ]
    for room in names:
        for other in sorted(lines[room]):
            (x, y), (u, v) = at[room], at[other]
            x, u, y = x + WIDTH // 2, u + WIDTH // 2, y + HEIGHT
            bend = (v - y) // 2
            out.append(f'<path d="M{x} {y} C{x} {y + bend} {u} {v - bend} {u} {v - 2}"/>')
    for room, what in names.items():
        x, y = at[room]
        kind = ' class="alone"' if not any(room in others for others in lines.values()) else ""
        out.append(f'<rect x="{x}" y="{y}" width="{WIDTH}" height="{HEIGHT}"{kind}/>')
        out.append(f'<text x="{x + WIDTH // 2}" y="{y + 19}">{escape(room)}/</text>')
        short = what if len(what) <= 38 else f"{what[:37].rsplit(' ', 1)[0]}…"
        out.append(f'<text class="what" x="{x + WIDTH // 2}" y="{y + 35}">{escape(short)}</text>')
    return "\n".join([*out, "</svg>", ""])


if __name__ == "__main__":
    PICTURE.write_text(draw(), encoding="utf-8")
    sys.stdout.write(f"{PICTURE}\n")
