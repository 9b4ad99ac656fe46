"""Each wave's devices are looked at again: who runs the version by now, or is gone, is left out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from tests.integration.release.conftest import DOCUMENT

from iotda_provider.hooks.iotda import IoTDAHook
from iotda_provider.release.storage import ReleaseFiles

#: Of the waves of 400 devices.
WAVES = "25%, 50%, 100%"
#: A platform that takes more than a search a second.
OFTEN = {"initializing": 0, "stop_after": 0, "search_per_second": None}

DOWN: dict[str, Any] = {"kind": "status", "status": 503}
PROXY: dict[str, Any] = {"kind": "html", "status": 404}


def calls(run: Any, *names: str) -> int:
    """How many calls of these names were made."""
    return sum(len(run.emulator.journal(name)) for name in names)


def update(run: Any, devices: Sequence[str]) -> None:
    """Somebody else gives some devices the version."""
    with IoTDAHook() as hook:
        hook.create_batch_task(
            task_name="by_hand", task_type="firmwareUpgrade", targets=devices, document=DOCUMENT
        )
    run.emulator.advance(120)


def remove(run: Any, devices: Sequence[str]) -> None:
    """Somebody deletes some devices."""
    for device in devices:
        run.emulator._on_loop(
            lambda device=device: run.emulator.instance.run("remove_device", device_id=device)
        )


def passes(run: Any, wave: int) -> dict[str, Any]:
    """Go through a wave; what its creation came to."""
    run.confirm(wave)
    assert run.watch(wave)["verdict"] == "passed"
    created: dict[str, Any] = run.xcoms[f"create_{wave}", "return_value"]
    return created


def test_who_runs_the_version_by_now_or_is_gone_is_left_out_and_reported(rollout: Any) -> None:
    run = rollout()
    run.plan(WAVES)
    waves = [run.wave(number) for number in (1, 2, 3)]
    updated = [waves[0][0], waves[1][0], waves[1][5], waves[2][7]]
    update(run, updated[:1])
    assert passes(run, 1)["left_out"] == {"already_current": 1}

    # Between two waves, some of the next one, and of the one after it.
    update(run, updated[1:])
    removed = [waves[1][9], waves[2][3], waves[2][4]]
    remove(run, removed)
    second = passes(run, 2)
    assert second["left_out"] == {"already_current": 2, "gone": 1}
    assert second["devices"] == len(waves[1]) - 3
    assert "2 left out (already current)" in second["summary"]
    assert passes(run, 3)["left_out"] == {"already_current": 1, "gone": 2}

    left = set(updated) | set(removed)
    assert sorted(run.confirmed) == sorted(set(run.devices) - left), "everybody else, each once"
    found = run.reconcile(run.outcome(3))
    assert (found["running"], found["counts"]["left_out"]) == (400 - len(left), len(left))
    assert sorted(run.xcoms["reconcile", "left_out"]) == sorted(left)


def test_they_are_left_out_also_where_the_wave_could_not_be_written_down_at_once(
    rollout: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = rollout(switches=OFTEN)
    run.plan(WAVES)
    updated = run.wave(1)[:3]
    update(run, updated)
    really_write, failures = ReleaseFiles.write, iter(range(3))

    def write(self: ReleaseFiles, key: str, value: Any) -> None:
        if key == "begun_1" and next(failures, None) is not None:
            raise OSError("Airflow is down")
        really_write(self, key, value)

    monkeypatch.setattr(ReleaseFiles, "write", write)
    assert passes(run, 1)["left_out"] == {"already_current": 3}
    before = calls(run, "list_devices", "show_device")
    assert passes(run, 2)["left_out"] == {}
    assert calls(run, "list_devices", "show_device") == before + 1, "it was told of the three"


def test_where_nothing_has_changed_it_takes_two_calls_a_wave(rollout: Any) -> None:
    run = rollout(switches=OFTEN)
    run.plan(WAVES)
    before = calls(run, "search_devices"), calls(run, "list_devices", "show_device")
    for wave in (1, 2, 3):
        assert passes(run, wave)["left_out"] == {}
    assert calls(run, "search_devices") - before[0] == 3
    assert calls(run, "list_devices", "show_device") - before[1] == 3
    assert sorted(run.confirmed) == sorted(run.devices)


@pytest.mark.parametrize("why", ["no right to search", "no search in this edition"])
def test_without_a_search_each_waves_devices_are_read(rollout: Any, why: str) -> None:
    run = rollout()
    status = 403 if why == "no right to search" else 404
    body = {"error_code": "IOTDA.000001"}
    run.emulator.add_fault("status", call="search_devices", status=status, body=body)
    run.plan(WAVES)
    waves = [run.wave(number) for number in (1, 2, 3)]
    assert passes(run, 1)["left_out"] == {}
    update(run, waves[1][:2])
    assert passes(run, 2)["left_out"] == {"already_current": 2}
    # The product has eight pages, whatever the wave.
    assert calls(run, "list_devices", "show_device") <= 2 * (8 + 1)


@pytest.mark.parametrize("fault", [DOWN, PROXY], ids=["503", "a proxy's 404"])
def test_a_platform_that_is_down_for_a_while_is_waited_for(
    rollout: Any, fault: dict[str, Any]
) -> None:
    run = rollout(devices=160)
    run.plan(WAVES)
    assert passes(run, 1)["left_out"] == {}
    gone = run.wave(2)[:1]
    remove(run, gone)
    run.emulator.add_fault(call="list_devices", count=4, **fault)
    run.emulator.add_fault(call="show_device", count=120, **fault)
    assert passes(run, 2)["left_out"] == {"gone": 1}
    assert not set(gone) & set(run.confirmed)


@pytest.mark.parametrize("fault", [DOWN, PROXY], ids=["503", "a proxy's 404"])
def test_before_the_first_wave_it_is_waited_for_too(rollout: Any, fault: dict[str, Any]) -> None:
    run = rollout(devices=160)
    run.plan(WAVES)
    gone = run.wave(1)[:1]
    remove(run, gone)
    run.emulator.add_fault(call="list_devices", count=4, **fault)
    run.emulator.add_fault(call="show_device", count=120, **fault)
    run.emulator.add_fault(call="create_batch_task", count=9, **fault)
    assert run.create(1)["left_out"] == {"gone": 1}


def test_a_device_that_was_held_and_runs_the_version_by_the_last_wave_is_left_out(
    rollout: Any,
) -> None:
    run = rollout()
    run.plan("50%, 100%")
    held = run.wave(1)[:3]
    with IoTDAHook() as hook:
        other = hook.create_batch_task(
            task_name="other",
            task_type="firmwareUpgrade",
            targets=held,
            document=DOCUMENT,
            need_confirm=True,
        )
        run.emulator.advance(1)
        assert passes(run, 1)["left_out"] == {"held_elsewhere": 3}
        hook.confirm_batch_task(other.task_id, held)
    run.emulator.advance(120)
    assert passes(run, 2)["left_out"] == {"already_current": 3}
    assert sorted(run.confirmed) == sorted(run.devices), "by whichever release, each once"
    found = run.reconcile(run.outcome(2))
    assert (found["running"], found["counts"]["left_out"]) == (397, 3)


def test_a_first_wave_that_has_no_device_left_lets_nobody_follow(rollout: Any) -> None:
    """It would have been the canary of all others."""
    run = rollout()
    run.plan("1, 2, 100%")
    update(run, run.wave(1))
    remove(run, run.wave(2))
    for wave, why in ((1, "already_current"), (2, "gone")):
        run.confirm(wave)
        assert run.xcoms[f"create_{wave}", "return_value"]["left_out"] == {why: 1}
        found = run.watch(wave)
        assert (found["verdict"], found["is_last"], found["gate"]) == ("unproven", False, None)
        assert f"Wave {wave} is unproven: all devices of this wave" in found["summary"]
    assert not run.confirmed


def test_a_release_of_which_nobody_is_left_announces_nothing(rollout: Any) -> None:
    run = rollout(devices=20)
    run.plan("100%")
    remove(run, run.devices)
    run.confirm(1)
    found = run.watch(1)
    assert (found["verdict"], found["is_last"]) == ("unproven", True)
    ended = run.outcome(1)
    assert (ended["verdict"], ended["exposed"]) == ("unproven", 0)


@pytest.mark.parametrize(("first", "verdict"), [(10, "unproven"), (100, "passed")])
def test_a_later_wave_that_has_no_device_left_needs_enough_from_those_before(
    rollout: Any, first: int, verdict: str
) -> None:
    run = rollout()
    run.plan(f"{first}, {first + 3}, 100%")
    remove(run, run.wave(2))
    run.confirm(1)
    assert run.watch(1)["verdict"] == verdict
    # A person may have let the small wave be followed, and is asked again: nothing new is shown.
    run.confirm(2)
    before = run.time.time()
    found = run.watch(2, bake_time=3600, wave_timeout=7200)
    assert (found["verdict"], found["gate"]["devices"]) == (verdict, first)
    assert run.time.time() < before + 60, "there is nothing to wait for"
    assert sorted(run.confirmed) == sorted(run.wave(1))
