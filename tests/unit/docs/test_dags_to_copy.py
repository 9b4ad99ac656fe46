"""The guides name each DAG file that has to be copied, and what stands at its top."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
DAGS = {file.stem: file.read_text(encoding="utf-8") for file in (ROOT / "dags").glob("*.py")}
#: The file that has each DAG.
FILE_OF = {
    dag_id: name
    for name, text in DAGS.items()
    for dag_id in re.findall(r'(?<!_)dag_id="(\w+)"', text)
}
FILE_OF["guard_one_rollout"] = "rollout_guard"
STARTED = re.compile(r'trigger_dag_id="(\w+)"|(guard_what_is_left)\(')


def needed(name: str, known: frozenset[str] = frozenset()) -> frozenset[str]:
    """A DAG file, and those of the DAGs that it starts, and so on."""
    known |= {name}
    for dag_id, left in STARTED.findall(DAGS[name]):
        file = FILE_OF["guard_one_rollout" if left else dag_id]
        if file not in known:
            known = needed(file, known)
    return known


def test_it_is_known_which_dags_start_which() -> None:
    assert needed("build_to_fleet") == {
        "build_to_fleet",
        "firmware_release",
        "roll_back_release",
        "rollout_guard",
    }


@pytest.mark.parametrize("page", ["from-build-to-fleet.md"])
def test_a_guide_names_every_file_and_its_constants(page: str) -> None:
    text = (ROOT / "docs" / "howto" / page).read_text(encoding="utf-8")
    rows = dict(re.findall(r"^ *\| `dags/(\w+)\.py` \|.*?\| (.*?) \|$", text, re.MULTILINE))
    assert set(rows) == needed("build_to_fleet")
    for name, last in rows.items():
        constants = set(re.findall(r"`([A-Z_]{3,}|external_evidence)`", last))
        assert constants, name
        for one in constants - {"MANIFEST_PATH" if name == "roll_back_release" else ""}:
            assert re.search(rf"^({one}\b|def {one}\()", DAGS[name], re.MULTILINE), (name, one)


def test_the_way_back_says_that_its_dag_has_to_be_there() -> None:
    text = (ROOT / "docs" / "howto" / "roll-back.md").read_text(encoding="utf-8")
    assert "Copy `dags/roll_back_release.py` into your DAGs folder" in text
    assert re.search(r"^ANSWER_WITHIN\b", DAGS["roll_back_release"], re.MULTILINE)
