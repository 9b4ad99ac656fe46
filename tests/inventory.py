"""What the package has, read from its sources: so a test names what somebody forgot in a list."""

from __future__ import annotations

import ast
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1] / "provider" / "iotda_provider"
ENDINGS = {"operators": "Operator", "sensors": "Sensor", "triggers": "Trigger"}


def classes(room: str) -> dict[str, str]:
    """The operators, sensors or triggers of that room, by name, each with its module.

    Left out are private classes, and those that another class of the room is based on, unless the
    first page of the documentation promises them.
    """
    found, bases = {}, set()
    for path in sorted((PACKAGE / room).rglob("*.py")):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef):
                bases |= {base.id for base in node.bases if isinstance(base, ast.Name)}
                if node.name.endswith(ENDINGS[room]) and not node.name.startswith("_"):
                    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
                    found[node.name] = ".".join(parts)
    promised = (PACKAGE.parents[1] / "docs" / "index.md").read_text(encoding="utf-8")
    return {
        name: module
        for name, module in found.items()
        if name not in bases or f"`{name}`" in promised
    }
