"""Which devices of a stopped release get the old package back, read from the platform."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException
from tests.integration.release.test_other_releases import hold

from iotda_provider.exceptions import IoTDANotFoundError
from iotda_provider.hooks.iotda import IoTDAHook
from iotda_provider.operators.release.find_way_back import FindDevicesToRollBackOperator
from iotda_provider.release.device_ids import read_devices
from iotda_provider.release.storage import ReleaseFiles

OLD, OTHER = "01d", "02d"
SCENARIO: dict[str, Any] = {
    "devices": 200,
    "packages": [
        {"package_id": "a1b2c3d4e5f60718293a4b5c", "version": "2.0.0"},
        {"package_id": OLD, "version": "1.0.0"},
        {"package_id": OTHER, "version": "1.0.0", "product_id": "other"},
        {"package_id": "03d", "version": "1.0.0", "support_source_versions": ["3.0.0"]},
    ],
    # Of the first wave ten never end, and ten fail.
    "segments": [
        {"name": "slow", "count": 10, "success_after": 864_000},
        {"name": "weak", "count": 10, "failure_rate": 1, "failure_after": 5},
        {"name": "older", "count": 10, "fw_version": "0.9.0"},
    ],
}
ALL = [f"device-{n:05}" for n in range(200)]
SLOW, WEAK, OLDER = ALL[:10], ALL[10:20], ALL[20:30]


@pytest.fixture
def deferrable() -> bool:
    """Reading what devices run waits for nothing."""
    return False


@pytest.fixture
def released(rollout: Any) -> Any:
    """A release whose first wave, of all but ten devices, is confirmed."""
    run = rollout(speed=600, **SCENARIO)
    versions = {"0.9.0": OLDER, "1.0.0": [one for one in ALL if one not in OLDER]}
    run.plan("95%, 100%", versions=versions)
    run.confirm()
    run.emulator.advance(3600)
    return run


def find(run: Any, package_id: str = OLD, **given: Any) -> Any:
    return run.run(
        FindDevicesToRollBackOperator(
            task_id="find",
            release_dag_id="dag",
            release_run_id="run",
            plan_task_id="plan",
            keeper_task_id="outcome",
            package_id=package_id,
            **given,
        )
    )


@pytest.mark.parametrize("in_file", [False, True])
def test_a_plan_that_dies_while_it_writes_leaves_a_release_with_a_way_back(
    rollout: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, in_file: bool
) -> None:
    run = rollout(speed=600, devices=20, packages=SCENARIO["packages"])
    path = (tmp_path / "release.json").as_uri() if in_file else None
    about = {"versions": {"1.0.0": run.devices}, "manifest_path": path}
    really, deaths = ReleaseFiles.write, ["before_2"]

    def write(files: ReleaseFiles, key: str, value: Any) -> None:
        if key in deaths:
            deaths.remove(key)
            raise KeyboardInterrupt
        really(files, key, value)

    monkeypatch.setattr(ReleaseFiles, "write", write)
    with pytest.raises(KeyboardInterrupt):
        run.plan("50%, 100%", **about)
    run.plan("50%, 100%", **about)
    for wave in (1, 2):
        run.confirm(wave)
        run.emulator.advance(3600)

    found = find(run, release_manifest_path=path)

    assert (found["devices"], found["counts"]["version_before_unknown"]) == (20, 0)


def test_it_is_those_that_were_confirmed_and_run_the_version_now(
    released: Any, tmp_path: Any
) -> None:
    path = tmp_path / "decisions.jsonl"
    released.emulator.clear_journal()
    found = find(released, report_path=str(path))

    first = set(released.wave(1))
    updated = first - set(SLOW) - set(WEAK)
    assert set(released.xcoms["find", "targets"]) == updated
    assert set(released.xcoms["find", "from_another"]) == updated & set(OLDER)
    assert found["devices"] == len(updated)
    assert found["counts"]["still_installing"] == len(first & set(SLOW))
    assert found["counts"]["runs_another_version"] == len(first & set(WEAK))
    assert (found["version"], found["old_version"]) == ("2.0.0", "1.0.0")
    assert {why: set(ids) for why, ids in released.xcoms["find", "left_as_they_are"].items()} == {
        "still_installing": first & set(SLOW),
        "runs_another_version": first & set(WEAK),
    }
    rows = {row["target"]: row for row in map(json.loads, path.read_text().splitlines())}
    assert set(rows) == first, "devices of waves that never began are in no batch task"
    device = next(iter(updated & set(OLDER)))
    assert rows[device] == {
        "target": device,
        "outcome": "roll_back",
        "version_before": "0.9.0",
        "version_now": "2.0.0",
        "wave": 1,
    }
    methods = {entry["method"] for entry in released.emulator.journal()}
    assert methods == {"GET"}, "it only reads"


@pytest.mark.parametrize("is_deleted", [True, False])
def test_only_the_platform_can_say_that_a_batch_task_has_no_devices_any_more(
    released: Any, is_deleted: bool
) -> None:
    """Those that are still installing would go back in the middle of it."""
    gone = {"status": 404, "body": {"error_code": "IOTDA.014217"}}
    fault = {"kind": "status", **gone} if is_deleted else {"kind": "html", "status": 404}
    released.emulator.add_fault(call="show_batch_task", **fault)
    if is_deleted:
        assert find(released)["counts"].get("still_installing", 0) == 0
        return
    with pytest.raises(IoTDANotFoundError, match="a proxy or load balancer"):
        find(released)
    released.emulator.clear_faults()
    assert find(released)["counts"]["still_installing"] > 0


def test_what_ran_before_outlives_a_cleared_plan(released: Any) -> None:
    first = find(released)
    released.said("breached")
    released.outcome()  # it keeps a copy of all that was written down
    released.xcoms.forget("plan")
    with pytest.raises(AirflowFailException, match="does not say which package"):
        find(released)
    released.plan("95%, 100%")

    again = find(released)

    assert again["counts"] == first["counts"]


def test_nobody_goes_back_whose_version_before_is_not_known(rollout: Any) -> None:
    run = rollout(speed=600, **SCENARIO)
    run.plan("95%, 100%", versions={"1.0.0": ALL[:50]})
    run.confirm()
    run.emulator.advance(3600)

    found = find(run)

    known = set(ALL[20:50]) & set(run.wave(1))
    assert set(run.xcoms["find", "targets"]) == known
    assert found["counts"]["version_before_unknown"] > 0


@pytest.mark.parametrize("where", ["XComs", "files"])
def test_who_came_again_with_the_last_wave_goes_back_too(
    rollout: Any, where: str, tmp_path: Any
) -> None:
    run = rollout(
        packages=SCENARIO["packages"],
        segments=[{"name": "older", "count": 200, "fw_version": "0.9.0"}],
    )
    path = (tmp_path / "m.json").as_uri() if where == "files" else None
    older = run.devices[:200]
    versions = {"0.9.0": older, "1.0.0": run.devices[200:]}
    run.plan("25%, 50%, 100%", manifest_path=path, versions=versions)
    held = run.devices[::8]
    other = hold(run, held)
    for wave in (1, 2, 3):
        if wave == 3:
            with IoTDAHook() as hook:
                hook.stop_batch_task(other)
            run.emulator.advance(60)
        run.confirm(wave)
        assert run.watch(wave)["verdict"] == "passed"
    run.outcome(3)

    found = find(run, release_manifest_path=path, manifest_path=path and f"{path}.found")

    assert (found["devices"], found["counts"]["version_before_unknown"]) == (400, 0)
    assert sorted(read_devices(run.xcoms["find", "targets"])) == run.devices
    assert sorted(read_devices(run.xcoms["find", "from_another"])) == older


@pytest.mark.parametrize(
    ("package_id", "said"),
    [
        (OTHER, "its product is other"),
        ("03d", r"can be installed on 3\.0\.0 only"),
        ("a1b2c3d4e5f60718293a4b5c", r"brings version 2\.0\.0"),
        ("04d", "There is no package 04d"),
    ],
)
def test_a_package_that_is_no_way_back_is_refused(
    released: Any, package_id: str, said: str
) -> None:
    with pytest.raises(AirflowFailException, match=said):
        find(released, package_id)


def test_a_run_that_has_planned_nothing_is_refused(rollout: Any) -> None:
    run = rollout(speed=600, **SCENARIO)

    with pytest.raises(AirflowFailException, match="has planned no waves that can be read"):
        find(run)
