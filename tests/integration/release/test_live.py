"""What people see of a release: what it is about, and how each wave stands meanwhile."""

from __future__ import annotations

from typing import Any

import pytest
from tests.integration.release.conftest import PACKAGE, RULES, XComs

from iotda_provider.guards import rules_to_json


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, Any]]:
    """Every record that was written, with its task."""
    found: list[tuple[str, Any]] = []
    put = XComs.put

    def note(xcoms: XComs, task_id: str, key: str, value: Any) -> None:
        put(xcoms, task_id, key, value)
        if key == "live":
            found.append((task_id, xcoms[task_id, key]))

    monkeypatch.setattr(XComs, "put", note)
    return found


def test_each_wave_shows_how_it_stands_and_how_it_has_ended(
    rollout: Any, written: list[tuple[str, Any]]
) -> None:
    run = rollout(failure_rate=0.3)
    run.plan(waves="10%, 100%", rules=RULES, group_ids=["0000000a-0000"])
    run.confirm()
    result = run.watch()

    about = run.xcoms["plan", "rollout"]
    assert (about["kind"], about["rules"]) == ("release", rules_to_json([RULES]))
    assert (about["package_ids"], about["version"]) == ([PACKAGE], "2.0.0")
    assert (about["group_ids"], about["batch_task_ids"]) == (["0000000a-0000"], [])
    assert about["devices"] == run.xcoms["plan", "return_value"]["devices"]
    begun = run.xcoms["create_1", "rollout"]
    assert (begun["kind"], begun["batch_task_ids"]) == ("release", run.task_ids)
    assert "_wave_1_of_2_part_1_afr" in begun["batch_task_names"][0]
    assert result["verdict"] == "breached"
    assert {task_id for task_id, _ in written} == {"create_1", "confirm_1", "watch_1"}
    under_way = [record for task_id, record in written if task_id == "watch_1"][:-1]
    assert under_way
    for record in under_way:
        assert record["due"] > record["looked_at"]
        assert record["progress"]["total"] == 40
        assert record["verdict"] is None
    (rule,) = run.xcoms["watch_1", "live"]["rules"]
    assert rule["value"] is not None
    assert run.xcoms["confirm_1", "live"]["verdict"] == "confirmed"
    last = run.xcoms["watch_1", "live"]
    assert (last["verdict"], last["sentence"]) == ("breached", result["summary"][:240])
    assert last["stop"]["accepted_at"]
    assert last["due"] is None
