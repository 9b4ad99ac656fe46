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
#: Sizes in pixels: of a room, between two rooms, between two vertical lines, and of a letter.
HEIGHT, GAP, LANE, LETTER = 34, 16, 15, 7.1
NAME_WIDTH = 150
STYLE = """
  text { font: 12px Verdana, "DejaVu Sans", sans-serif; fill: #1f2933; }
  .name { font-weight: bold; font-size: 13px; }
  rect { fill: #f5f7fa; stroke: #7b8794; }
  .alone { fill: #e3f0e8; }
  path { fill: none; stroke: #52606d; stroke-width: 1.3; }
  .to { marker-end: url(#arrow); }
"""


def rooms() -> dict[str, str]:
    """The folders of the package, each with what it is for."""
    found = {}
    for init in sorted(PACKAGE.glob("*/__init__.py")):
        docstring = ast.get_docstring(ast.parse(init.read_text(encoding="utf-8"))) or ""
        found[init.parent.name] = docstring.partition("\n")[0]
    return found


def imported(path: Path) -> Iterator[str]:
    """The rooms that a file imports from when it runs; imports for annotations are left out."""

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
    """Which rooms each room imports, without those that it reaches through another room."""
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


def from_the_top(edges: dict[str, set[str]]) -> list[str]:
    """The rooms in an order in which each imports only from rooms that come later."""
    size = {room: len(_all_below(room, edges)) for room in edges}
    above = {other for others in edges.values() for other in others}
    order: list[str] = []

    def place(rooms: set[str]) -> None:
        for room in sorted(rooms - set(order), key=lambda room: (-size[room], room)):
            if room not in order:
                place(edges[room])
                order.append(room)

    for room in sorted(edges.keys() - above, key=lambda room: (size[room], room)):
        place({room})
    return order[::-1]


def draw() -> str:
    """The picture: a box for each room, from the top of the house to its bottom.

    An arrow leads to what is imported. Between neighbours it is short; all other arrows to one
    room share a vertical line beside the boxes.
    """
    names = rooms()
    lines = edges(names)
    order = from_the_top(lines)
    row = {room: number for number, room in enumerate(order)}
    users = {
        room: [row[other] for other in order if room in lines[other] and row[room] - row[other] > 1]
        for room in order
    }
    lanes = _lanes({room: (min(rows), row[room]) for room, rows in users.items() if rows})
    left = (max(lanes.values(), default=0) + 2) * LANE
    box = NAME_WIDTH + int(max(map(len, names.values())) * LETTER)
    width = left + box + GAP
    height = len(order) * (HEIGHT + GAP) + GAP
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img">',
        "<title>The rooms of the package; an arrow leads to what is imported</title>",
        f"<style>{STYLE}</style>",
        '<defs><marker id="arrow" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" '
        'markerHeight="7" orient="auto"><path d="M0 0 8 4 0 8z" '
        'style="fill:#52606d;stroke:none"/></marker></defs>',
        f'<rect width="{width}" height="{height}" style="fill:#fff;stroke:none"/>',
    ]
    for room, number in row.items():
        top = GAP + number * (HEIGHT + GAP)
        kind = ' class="alone"' if not any(room in others for others in lines.values()) else ""
        out.append(f'<rect x="{left}" y="{top}" width="{box}" height="{HEIGHT}" rx="5"{kind}/>')
        out.append(f'<text class="name" x="{left + 10}" y="{top + 22}">{escape(room)}/</text>')
        out.append(f'<text x="{left + NAME_WIDTH}" y="{top + 22}">{escape(names[room])}</text>')
        if number and room in lines[order[number - 1]]:
            out.append(f'<path class="to" d="M{left + 60} {top - GAP} V{top - 1}"/>')
        if users[room]:
            x, end = left - (lanes[room] + 1) * LANE, top + 10
            for other in users[room]:
                start = GAP + other * (HEIGHT + GAP) + HEIGHT - 10
                out.append(f'<path d="M{left} {start} H{x + 6} Q{x} {start} {x} {start + 6}"/>')
            start = GAP + min(users[room]) * (HEIGHT + GAP) + HEIGHT - 4
            corner = f"V{end - 6} Q{x} {end} {x + 6} {end}"
            out.append(f'<path class="to" d="M{x} {start} {corner} H{left - 1}"/>')
    return "\n".join([*out, "</svg>", ""])


def _lanes(spans: dict[str, tuple[int, int]]) -> dict[str, int]:
    """A vertical line for each room that needs one; short ones are next to the boxes."""
    taken: list[list[tuple[int, int]]] = []
    found = {}
    for room, (start, end) in sorted(spans.items(), key=lambda item: item[1][1] - item[1][0]):
        free = (
            number
            for number, others in enumerate(taken)
            if all(end < first or last < start for first, last in others)
        )
        lane = next(free, len(taken))
        if lane == len(taken):
            taken.append([])
        taken[lane].append((start, end))
        found[room] = lane
    return found


if __name__ == "__main__":
    PICTURE.write_text(draw(), encoding="utf-8")
    sys.stdout.write(f"{PICTURE}\n")
