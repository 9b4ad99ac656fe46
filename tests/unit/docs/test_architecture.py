"""The page about the architecture names what is there, and its picture is the code's."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
PACKAGE = ROOT / "provider" / "iotda_provider"
PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
PATHS = sorted(set(re.findall(r"`([\w./-]+(?:/|\.(?:py|md)))`", PAGE)))


def test_the_picture_shows_the_rooms_and_imports_of_now() -> None:
    draw = runpy.run_path(str(ROOT / "scripts" / "draw_house.py"))["draw"]
    picture = (ROOT / "docs" / "house.svg").read_text(encoding="utf-8")
    assert picture == draw(), "run: python scripts/draw_house.py"


def test_paths_are_named() -> None:
    assert len(PATHS) > 40


@pytest.mark.parametrize("path", PATHS)
def test_each_path_that_is_named_exists(path: str) -> None:
    assert (ROOT / path).exists() or (PACKAGE / path).exists()
