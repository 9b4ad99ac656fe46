"""What a dry run says of API calls, held against the calls of the same release run afterwards."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from tests.integration.release.conftest import PACKAGE

from iotda_provider.operators.batch_task.collect import CollectFailedSubtasksOperator
from iotda_provider.operators.guard_runs import FindUnfinishedOfReleaseOperator
from iotda_provider.operators.release.at_rest import WaitUntilAtRestOperator
from iotda_provider.operators.release.check import CheckReleaseOperator
from iotda_provider.operators.release.preview import PreviewReleaseOperator
from iotda_provider.release.device_ids import read_devices

ALL, CANARIES = "0000000a-0000", "0000000c-0000"
RULES = '[{"rule": "MaxFailures", "count": 1000}]'
LOOKS = 10.0
#: A healthy fleet, of which a fifth is offline when the release begins.
FLEET: dict[str, Any] = {
    "devices": 1000,
    "success_after": 20,
    "segments": [
        {"name": "asleep", "count": 200, "offline_share": 1, "offline_for": 600, "online_after": 30}
    ],
    "groups": [
        {"name": "all", "group_id": ALL, "count": 420},
        {"name": "canaries", "group_id": CANARIES, "count": 60},
    ],
    "layout": "mixed",
    "switches": {"initializing": 0, "stop_after": 0, "search_per_second": None},
}
CREATES = [f"create_{n}" for n in range(1, 7)]


@pytest.fixture
def deferrable() -> bool:
    """As the shipped DAG: the calls are the same in both."""
    return True


def check(run: Any, **given: Any) -> Any:
    return run.run(
        CheckReleaseOperator(
            task_id="check",
            package_id=PACKAGE,
            group_ids=[ALL, CANARIES],
            create_task_id=CREATES,
            rules=RULES,
            gate=0.1,
            **given,
        )
    )


def took(run: Any) -> int:
    """How many calls were made since the last time; by name, where a test fails."""
    entries = run.emulator.journal()
    print(Counter(entry["call"] for entry in entries))
    run.emulator.clear_journal()
    return len(entries)


@pytest.mark.parametrize(
    ("waves", "timing", "where"),
    [
        ("20%, 50%, 100%", {"bake_time": 120, "trial": "can stop"}, "XComs"),
        ("25%, 100%", {"bake_time": 60, "trial": "off"}, "files"),
        (f"group:{CANARIES}, 30%, 100%", {"bake_time": 60, "trial": "can stop"}, "XComs"),
    ],
    ids=["trial", "files", "groups"],
)
def test_a_release_takes_the_calls_that_its_dry_run_has_forecast(
    rollout: Any, waves: str, timing: dict[str, Any], where: str, tmp_path: Path
) -> None:
    run = rollout(speed=1, **FLEET)
    run.emulator.clear_journal()
    path = (tmp_path / "release.json").as_uri() if where == "files" else None

    checked = check(run, waves=waves, manifest_path=path, is_dry_run=True, trial=timing["trial"])
    forecast = run.run(
        PreviewReleaseOperator(
            task_id="preview", checked=checked, rules=RULES, gate=0.1, poll_interval=LOOKS, **timing
        )
    )
    methods = {entry["method"] for entry in run.emulator.journal()}
    assert methods == {"GET"}
    assert list(tmp_path.iterdir()) == [], "no file is left behind"
    assert ("check", "targets") not in run.xcoms
    calls = forecast["calls"]
    assert took(run) == pytest.approx(calls["checking"], rel=0.1)

    check(run, waves=waves, manifest_path=path, trial=timing["trial"])
    checking = took(run)
    targets, late = run.xcoms["check", "targets"], run.xcoms["check", "late"]
    began = run.time.time()
    plan = run.plan(waves, devices=targets, late=late, manifest_path=path, **timing)
    assert [w["devices"] for w in plan["waves"]] == [w["devices"] for w in forecast["waves"]]
    assert sum(w["devices"] for w in plan["waves"]) == len(read_devices(targets))
    planning = took(run)
    common = {"rules": RULES, "poll_interval": LOOKS}
    in_waves: Counter[str] = Counter()
    for wave in range(1, len(plan["waves"]) + 1):
        run.create(wave, **common)
        in_waves["creating"] += took(run)
        run.confirm(wave, **common, rehearse_stop=True)
        in_waves["confirming"] += took(run)
        seen = run.watch(wave, **common, wave_timeout=36_000, **timing)
        assert seen["verdict"] == "passed"
        in_waves["watching"] += took(run)
    seconds = run.time.time() - began
    outcome = run.outcome(len(plan["waves"]))
    tasks = outcome["batch_task_ids"]
    run.run(WaitUntilAtRestOperator(task_id="at_rest", batch_task_id=tasks))
    run.run(CollectFailedSubtasksOperator(task_id="collect", batch_task_id=tasks))
    run.reconcile(outcome, product_id=checked["product_id"])
    run.run(
        FindUnfinishedOfReleaseOperator(
            task_id="unfinished", batch_task_id=tasks, create_task_id=CREATES
        )
    )
    ending = took(run)

    found = {"checking": checking, "planning": planning, **in_waves, "ending": ending}
    expected = {
        **{name: calls[name] for name in found},
        "watching": calls["watching"] + calls["comparing"],
    }
    assert sum(found.values()) == pytest.approx(calls["all"], rel=0.1)
    assert found == pytest.approx(expected, rel=0.2, abs=6)
    assert seconds == pytest.approx(forecast["seconds"], rel=0.1)
