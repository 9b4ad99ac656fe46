"""The names that the first page promises can be imported, and no promised path is dropped."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest
from tests import inventory

from iotda_provider import emulator, links, models
from iotda_provider.guards.serialization import RULES
from iotda_provider.hooks import iotda
from iotda_provider.operators import batch_task, release
from iotda_provider.sensors import batch_task as sensors

PAGE = (Path(__file__).resolve().parents[3] / "docs" / "index.md").read_text(encoding="utf-8")
ROWS = {
    f"iotda_provider{path}": re.findall(r"`(\w+)`", names)
    for path, names in re.findall(r"^\| `(\.[\w.]+)` \| (.+) \|$", PAGE, re.MULTILINE)
}
NAMES = [(module, name) for module, names in ROWS.items() for name in names]
GUIDE = (Path(__file__).resolve().parents[3] / "docs" / "guards.md").read_text(encoding="utf-8")
TRIGGERS = inventory.classes("triggers")


@pytest.mark.parametrize(("module", "name"), NAMES)
def test_a_documented_name_can_be_imported(module: str, name: str) -> None:
    assert hasattr(importlib.import_module(module), name)


@pytest.mark.parametrize("rule", RULES)
def test_a_rule_is_named_here_and_its_promise_in_the_guide(rule: str) -> None:
    assert rule in ROWS["iotda_provider.guards"]
    assert f"\n| `{rule}(" in GUIDE


@pytest.mark.parametrize("name", TRIGGERS)
def test_a_trigger_is_where_the_page_says(name: str) -> None:
    """Its path is in Airflow's database: whoever moves it breaks the tasks that are deferred."""
    module = TRIGGERS[name]
    assert name in ROWS.get(module, ()), f"add `{name}` to the table"
    assert getattr(importlib.import_module(module), name).__module__ == module


@pytest.mark.parametrize("module", [iotda, batch_task, release, sensors, models, emulator, links])
def test_whatever_a_public_module_offers_is_documented(module: object) -> None:
    assert set(ROWS[module.__name__]) == set(module.__all__)
