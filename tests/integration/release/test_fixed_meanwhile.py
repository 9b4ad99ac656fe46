"""Nobody is taken off a fix: devices that have left the bad version keep what they run."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest
from tests.integration.release.conftest import PACKAGE

from iotda_provider.hooks.iotda import IoTDAHook
from iotda_provider.release.storage import ReleaseFiles

#: The way back is from 2.0.0 to 1.0.0, which some devices run already when it begins.
BAD, OLD, FIXED = "2.0.0", "1.0.0", "2.0.1"
FIX = "f1"
SCENARIO: dict[str, Any] = {
    "fw_version": BAD,
    "packages": [
        {"package_id": PACKAGE, "version": OLD},
        {"package_id": FIX, "version": FIXED},
    ],
}


def bring(run: Any, package_id: str, devices: Iterable[str]) -> None:
    """Somebody else gives devices a package."""
    with IoTDAHook() as hook:
        hook.create_batch_task(
            task_name="by_hand",
            task_type="firmwareUpgrade",
            targets=list(devices),
            document={"package_ids": [package_id]},
        )
    run.emulator.advance(120)


def versions() -> dict[str, str | None]:
    """What each device runs now."""
    with IoTDAHook() as hook:
        return {device.device_id: device.fw_version for device in hook.list_devices()}


def passes(run: Any, wave: int, **given: Any) -> dict[str, Any]:
    """Go through a wave; what its creation came to."""
    created: dict[str, Any] = run.create(wave, from_version=BAD, **given)
    run.confirm(wave)
    assert run.watch(wave)["verdict"] == "passed"
    return created


def test_whoever_gets_a_fix_while_the_question_is_open_or_a_wave_is_under_way_keeps_it(
    rollout: Any,
) -> None:
    run = rollout(**SCENARIO)
    run.plan("50%, 100%")  # of those that were found before the question
    first, second = run.wave(1), run.wave(2)
    bring(run, FIX, [*first[:5], second[0]])
    bring(run, PACKAGE, first[5:7])
    assert passes(run, 1)["left_out"] == {"runs_another_version": 5, "already_current": 2}

    # As many have gone as have come: the numbers are those of the plan.
    bring(run, FIX, second[1:4])
    made = passes(run, 2)
    assert made["left_out"] == {"runs_another_version": 4}
    assert "4 left out (runs another version)" in made["summary"]

    fixed, others = {*first[:5], *second[:4]}, {*first[5:7]}
    assert sorted(run.confirmed) == sorted(set(run.devices) - fixed - others), "each once"
    now = versions()
    assert {now[device] for device in fixed} == {FIXED}
    assert {now[device] for device in run.devices if device not in fixed} == {OLD}
    found = run.reconcile(run.outcome(2), version=OLD, from_version=BAD)
    assert (found["running"], found["counts"]["left_out"]) == (400 - 11, 11)
    assert found["left_out"] == {"runs_another_version": 9, "already_current": 2}


def test_a_fix_of_everybody_leaves_nobody_to_be_confirmed(rollout: Any) -> None:
    run = rollout(**SCENARIO)
    run.plan("100%")
    bring(run, FIX, run.devices)
    made = run.create(1, from_version=BAD)
    assert (made["devices"], made["batch_task_ids"]) == (0, [])
    assert run.confirm(1)["confirmed"] == 0
    run.watch(1)
    found = run.reconcile(run.outcome(1), version=OLD, from_version=BAD)
    assert (run.confirmed, found["left_out"]) == ([], {"runs_another_version": 400})


def test_whoever_installs_the_fix_when_the_last_wave_begins_has_it_at_the_end(rollout: Any) -> None:
    run = rollout(**SCENARIO)
    run.plan("100%")
    busy = run.devices[:6]
    with IoTDAHook() as hook:
        hook.create_batch_task(
            task_name="fix",
            task_type="firmwareUpgrade",
            targets=busy,
            document={"package_ids": [FIX]},
        )
    assert passes(run, 1)["left_out"] == {"held_elsewhere": 6}
    run.emulator.advance(120)
    assert not set(busy) & set(run.confirmed)
    found = run.reconcile(run.outcome(1), version=OLD, from_version=BAD)
    assert found["left_out"] == {"runs_another_version": 6}
    assert sorted(run.xcoms["reconcile", "left_out"]) == sorted(busy)


def test_whose_other_upgrade_ends_while_it_is_asked_for_is_read_afterwards(
    rollout: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = rollout(**SCENARIO)
    run.plan("100%")
    busy = run.devices[:6]
    with IoTDAHook() as hook:
        hook.create_batch_task(
            task_name="fix",
            task_type="firmwareUpgrade",
            targets=busy,
            document={"package_ids": [FIX]},
        )
    from iotda_provider.release.other_upgrades import OtherUpgrades

    really_take = OtherUpgrades.take

    def take(self: OtherUpgrades, page: Any) -> None:
        """The first answer is on its way when the others end."""
        if not self.held:
            run.emulator.advance(120)
        really_take(self, page)

    monkeypatch.setattr(OtherUpgrades, "take", take)
    left_out = passes(run, 1)["left_out"]
    assert sum(left_out.values()) == 6
    assert not set(busy) & set(run.confirmed)
    assert {versions()[device] for device in busy} == {FIXED}


def test_they_are_read_again_where_the_wave_could_not_be_written_down(
    rollout: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = rollout(**SCENARIO)
    run.plan("100%")
    fixed = run.devices[:5]
    really_write, failed = ReleaseFiles.write, []

    def write(self: ReleaseFiles, key: str, value: Any) -> None:
        if key == "begun_1" and not failed:
            failed.append(key)
            bring(run, FIX, fixed)
            raise OSError("Airflow is down")
        really_write(self, key, value)

    monkeypatch.setattr(ReleaseFiles, "write", write)
    assert passes(run, 1)["left_out"] == {"runs_another_version": 5}
    assert failed
    assert not set(fixed) & set(run.confirmed)


@pytest.mark.parametrize("known", ["a count", "no package"])
def test_they_are_looked_at_whatever_the_plan_has_counted(rollout: Any, known: str) -> None:
    run = rollout(devices=100, **SCENARIO)
    if known == "no package":
        run.emulator.add_fault("status", call="show_ota_package", status=403)
    run.plan("100%")
    fixed = run.devices[:5]
    bring(run, FIX, fixed)
    assert passes(run, 1)["left_out"] == {"runs_another_version": 5}
    assert not set(fixed) & set(run.confirmed)


def test_a_device_of_which_nobody_can_say_what_it_runs_is_left_out(rollout: Any) -> None:
    run = rollout(devices=100, **SCENARIO)
    run.plan("100%")
    for call, count in (("list_devices", 1), ("show_device", 4)):
        run.emulator.add_fault("status", call=call, status=403, count=count)
    assert passes(run, 1)["left_out"] == {"version_unread": 4}
    found = run.reconcile(run.outcome(1), version=OLD, from_version=BAD)
    assert found["left_out"] == {"version_unread": 4}
