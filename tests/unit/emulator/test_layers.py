"""Each folder of the emulator imports only the folders below it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

EMULATOR = Path(__file__).resolve().parents[3] / "provider" / "iotda_provider" / "emulator"
FROM_THE_BOTTOM_UP = ("common", "identity", "scenario", "service", "state", "web")


def test_each_folder_is_in_the_list() -> None:
    assert {path.parent.name for path in EMULATOR.glob("*/__init__.py")} == set(FROM_THE_BOTTOM_UP)


@pytest.mark.parametrize("folder", FROM_THE_BOTTOM_UP)
def test_no_folder_imports_a_folder_above_it(folder: str) -> None:
    text = "".join(path.read_text(encoding="utf-8") for path in (EMULATOR / folder).rglob("*.py"))
    imported = set(re.findall(r"iotda_provider\.emulator(?:\.| import )(\w+)", text))
    assert imported
    assert imported <= set(FROM_THE_BOTTOM_UP[: FROM_THE_BOTTOM_UP.index(folder) + 1])
