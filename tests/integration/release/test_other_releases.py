"""Devices that another upgrade holds when a wave begins: left out, told, and taken up later."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from tests.integration.release.conftest import DOCUMENT

from iotda_provider.hooks.iotda import IoTDAHook
from iotda_provider.release.device_ids import read_devices
from iotda_provider.release.wave_step import WaveStep


def hold(run: Any, targets: list[str], name: str = "by_hand") -> str:
    """Somebody else creates an upgrade of these devices, in which they wait."""
    with IoTDAHook() as hook:
        made = hook.create_batch_task(
            task_name=name,
            task_type="firmwareUpgrade",
            targets=targets,
            document=DOCUMENT,
            need_confirm=True,
        )
    run.emulator.advance(1)
    return str(made.task_id)


@pytest.mark.parametrize("where", ["XComs", "files"])
def test_devices_of_another_upgrade_are_left_out_and_come_again_with_the_last_wave(
    rollout: Any, where: str, tmp_path: Any
) -> None:
    run = rollout()
    path = (tmp_path / "m.json").as_uri() if where == "files" else None
    run.plan("25%, 50%, 100%", manifest_path=path)
    held = sorted(f"device-{n:05}" for n in range(0, 400, 8))
    other = hold(run, held)

    first = run.confirm(1)
    created = run.xcoms["create_1", "return_value"]
    left_out = created["left_out"]["held_elsewhere"]
    assert 0 < left_out < 30
    assert (created["devices"], first["confirmed"]) == (100 - left_out, 100 - left_out)
    assert f"{left_out} left out (held elsewhere)" in created["summary"]
    assert not set(run.confirmed) & set(held)
    assert run.watch(1)["verdict"] == "passed"

    # The other one ends before the last wave begins, and after the second.
    run.confirm(2)
    assert run.watch(2)["verdict"] == "passed"
    with IoTDAHook() as hook:
        hook.stop_batch_task(other)
    run.emulator.advance(60)
    run.confirm(3)
    assert run.watch(3)["verdict"] == "passed"
    assert sorted(run.confirmed) == sorted(run.devices), "everybody, each once"
    found = run.reconcile(run.outcome(3))
    assert (found["running"], found["counts"]["left_out"]) == (400, 0)


def test_what_was_read_before_a_wait_is_read_again_after_it(
    rollout: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The platform is down while the devices are looked at; meanwhile another upgrade begins."""
    run = rollout(devices=100)
    run.plan("50%, 100%", gate=0.2)
    others = iter(run.wave(1)[:2])
    held: list[str] = []
    really = WaveStep.say

    def say(step: WaveStep, why: str) -> None:
        really(step, why)
        if (device := next(others, None)) is not None:
            held.append(device)
            elsewhere = threading.Thread(target=hold, args=(run, [device], f"by_hand_{len(held)}"))
            elsewhere.start()
            elsewhere.join()

    monkeypatch.setattr(WaveStep, "say", say)
    run.emulator.add_fault("status", call="search_devices", status=403, body={})
    for call in ("list_devices", "show_device"):
        run.emulator.add_fault("status", call=call, status=503, count=200)
    created = run.create(1)
    assert len(held) == 2
    assert created["left_out"] == {"held_elsewhere": 2}


def test_whoever_is_still_held_at_the_end_is_named(rollout: Any) -> None:
    run = rollout()
    run.plan("50%, 100%", gate=0.2)
    held = [run.wave(1)[0], run.wave(2)[0]]
    hold(run, held)
    for wave in (1, 2):
        run.confirm(wave)
        assert run.watch(wave)["verdict"] == "passed"
    found = run.reconcile(run.outcome(2))
    assert found["counts"]["left_out"] == 2
    assert sorted(read_devices(run.xcoms["reconcile", "left_out"])) == sorted(held)
    assert found["exposed"] == 398


def test_no_more_rows_of_others_are_read_than_the_release_has_pages(
    rollout: Any, logged: Any
) -> None:
    run = rollout()
    run.plan("25%, 100%", gate=0.2)
    oldest = hold(run, run.devices[:300], "oldest")
    hold(run, run.devices[100:], "newest")
    before = len(run.emulator.journal("show_batch_task"))
    created = run.create(1)
    read = len(run.emulator.journal("show_batch_task")) - before
    # Eight pages of rows for 400 devices; statuses that nobody has, and a look at its own task.
    assert read <= 8 + 4
    assert created["left_out"]["held_elsewhere"] > 50
    lines = logged()
    assert "were not read to their end" in lines
    assert oldest in lines


def test_a_refusal_to_say_what_others_do_does_not_end_the_guard_of_the_waves_before(
    rollout: Any,
) -> None:
    """Somebody takes the right to list batch tasks away for a while."""
    run = rollout()
    run.plan("50%, 100%", gate=0.2)
    run.confirm(1)
    looks = len(run.emulator.journal("show_batch_task"))
    run.emulator.add_fault("status", call="list_batch_tasks", status=403, body={}, count=3)
    assert run.create(2)["verdict"] == "created"
    assert run.xcoms["create_2", "alert"]["kind"] == "create_refused"
    assert len(run.emulator.journal("show_batch_task")) > looks + 3, "the guard has looked"
