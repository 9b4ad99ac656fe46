"""The documentation of connections: its examples are read, its fields complete, its tests there."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path

import pytest
from airflow.models import Connection

from iotda_provider.connection.fields import AUTH_TYPES, EXTRA_FIELDS
from iotda_provider.connection.loading import load_settings
from iotda_provider.emulator.identity.iam import IamSettings
from iotda_provider.emulator.scenario.scenario import Scenario
from iotda_provider.hooks.iotda import IoTDAHook

ROOT = Path(__file__).resolve().parents[3]
TEXT = (ROOT / "docs" / "connections.md").read_text(encoding="utf-8")
COLUMNS = ("permanent", "temporary", "refresh", "wrong secret", "no permission", "expired")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", TEXT, re.DOTALL)


def rows(heading: str) -> list[list[str]]:
    """The rows of the table that has this heading row."""
    table = TEXT[TEXT.index(heading) :].split("\n\n")[0]
    return [
        [cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()[2:]
    ]


def test_examples_of_the_environment_mean_the_same(monkeypatch):
    examples = [
        re.search(r"IOTDA_DEFAULT='(.*)'", block, re.DOTALL)[1] for block in blocks("shell")
    ]
    assert len(examples) == 2
    read = []
    for text in examples:
        monkeypatch.setenv("AIRFLOW_CONN_IOTDA_DEFAULT", text)
        read.append(IoTDAHook().settings)

    assert read[0] == read[1]
    assert read[0].instance_id == "7d8a9b0c-1234-4a5b-8c9d-0e1f2a3b4c5d"


def test_every_action_that_a_call_needs_is_in_the_table():
    sources = (ROOT / "provider" / "iotda_provider" / "api").glob("*.py")
    needed = {
        action
        for source in sources
        for action in re.findall(r'permission="(iotda:[^"]+)"', source.read_text("utf-8"))
    }
    named = set()
    for whole, more in re.findall(r"`(iotda:\w+):\w+`((?:, `:\w+`)*)", TEXT):
        named |= {f"{whole}{verb}" for verb in re.findall(r":\w+", more)}
    named |= set(re.findall(r"`(iotda:\w+:\w+)`", TEXT))
    assert needed <= named


def test_examples_of_the_secrets_backend_are_good():
    known = json.loads(next(block for block in blocks("json") if "iotda_default" in block))
    kinds = set()
    for conn_id, fields in known.items():
        connection = Connection(
            conn_id=conn_id, **(fields | {"extra": json.dumps(fields["extra"])})
        )
        kinds.add(load_settings(connection, conn_id=conn_id).auth_type)

    assert kinds == {"federation", "token", "agency"}


def test_every_field_of_extra_is_explained():
    explained = {
        name for row in rows("| Extra | meaning |") for name in re.findall(r"`(\w+)`", row[0])
    }

    assert explained == {field.name for field in EXTRA_FIELDS}


def test_emulators_iam_is_documented_with_its_defaults():
    example = json.loads(next(block for block in blocks("json") if '"iam"' in block))

    assert Scenario.read(example).iam == IamSettings()
    assert set(example["iam"]) == set(vars(IamSettings()))


def test_each_cell_of_the_table_is_a_test_that_exists():
    file = ROOT / "tests" / "integration" / "auth" / "test_auth_types.py"
    tree = ast.parse(file.read_text(encoding="utf-8"))
    there = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
    table = {row[0].strip("`"): row[1:] for row in rows(f"| | {' | '.join(COLUMNS)} |")}

    assert set(table) == set(AUTH_TYPES)
    named = set()
    for auth_type, cells in table.items():
        assert len(cells) == len(COLUMNS)
        for column, cell in zip(COLUMNS, cells, strict=True):
            if cell != "-":
                assert cell == f"`test_{auth_type}_{column.replace(' ', '_')}`"
                named.add(cell.strip("`"))
    assert named <= there
    assert {name for name in there if name.startswith("test_")} == named, "and none is left out"


@pytest.mark.parametrize("word", ["wrong secret", "no permission", "expired", "temporary"])
def test_no_auth_type_is_left_without_what_they_all_can_show(word):
    column = COLUMNS.index(word)
    assert all(row[1 + column] != "-" for row in rows(f"| | {' | '.join(COLUMNS)} |"))
