"""Every line of docs/security.md names the tests that show it, and they are there."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]


def test_each_line_names_tests_and_all_of_them_exist() -> None:
    text = (ROOT / "docs" / "security.md").read_text()
    there = set()
    for file in (ROOT / "tests").rglob("test_*.py"):
        there |= set(re.findall(r"def (test_\w+)\(", file.read_text()))
    rows = [line for line in text.splitlines() if line.startswith("| ")][1:]
    assert len(rows) > 20
    for row in rows:
        stops, shown = row.strip("| ").split(" | ")[-2:] if "anything that" not in row else ("", "")
        named = set(re.findall(r"`(test_\w+)`", shown))
        assert named or "DAGs are code" in row, row
        assert named <= there, (stops, named - there)
