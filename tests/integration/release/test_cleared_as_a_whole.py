"""A run that is cleared as a whole in the middle of its release goes on with that release."""

from __future__ import annotations

from typing import Any

import pytest

from iotda_provider.exceptions import BatchTaskDiffersError, IoTDAConfigError
from iotda_provider.hooks.iotda import IoTDAHook
from iotda_provider.release.device_ids import read_devices

OFFLINE: dict[str, Any] = {"offline_share": 0.4}


def offline(run: Any) -> list[str]:
    """The devices that are not online now."""
    with IoTDAHook() as hook:
        return [device.device_id for device in hook.list_devices() if device.status != "ONLINE"]


# --- who is in which wave -------------------------------------------------------------------------


@pytest.mark.parametrize("lost", ["plan", "plan, and then outcome"])
def test_devices_that_are_stuck_stay_in_their_wave_and_count_as_failed(
    rollout: Any, lost: str
) -> None:
    """They are offline by now, so that a plan of today would have them come last."""
    run = rollout(**OFFLINE)
    run.plan("25%, 50%, 100%")
    waves = [run.wave(n) for n in (1, 2, 3)]
    run.confirm(1)
    first = run.watch(1, wave_timeout=3)
    assert (first["verdict"], first["gate"]["devices"]) == ("unproven", 100)
    if "outcome" in lost:
        run.said("unproven")
        run.outcome()
    run.plan("25%, 50%, 100%", late=offline(run))
    assert [run.wave(n) for n in (1, 2, 3)] == waves
    again = run.confirm(1)
    assert (again["verdict"], again["confirmed"], again["let_start"]) == ("confirmed", 0, 100)
    second = run.watch(1, wave_timeout=3)
    assert (second["verdict"], second["gate"]["devices"]) == ("unproven", 100)
    assert second["gate"]["succeeded"] == first["gate"]["succeeded"] < 80
    assert set(run.confirmed) == set(waves[0])


def test_a_wave_does_not_grow_with_the_devices_that_are_online_again(rollout: Any) -> None:
    run = rollout()
    everybody = [f"device-{n:05}" for n in range(400)]
    run.plan("25%, 50%, 100%", late=everybody[:240])
    first = run.wave(1)
    assert len(first) == 40
    run.confirm(1)
    assert run.watch(1, gate=0.03, wave_timeout=1)["verdict"] == "unproven"
    run.plan("25%, 50%, 100%", late=[])
    run.confirm(1)
    assert run.wave(1) == first
    assert set(run.confirmed) == set(first)


def test_waves_and_seed_that_were_changed_since_come_too_late_and_that_is_said(
    rollout: Any, logged: Any
) -> None:
    run = rollout()
    first = run.plan("10%, 100%")
    run.confirm(1)
    again = run.plan("50%, 100%", seed="another")
    assert (again["digest"], again["seed"]) == (first["digest"], first["seed"])
    assert [wave["devices"] for wave in again["waves"]] == [40, 360]
    assert "as they were planned" in logged()
    assert run.confirm(1)["confirmed"] == 0


def test_no_device_is_confirmed_where_the_planned_waves_are_gone(rollout: Any) -> None:
    """Somebody has deleted what both had of them; the batch task is still there."""
    run = rollout()
    run.plan("10%, 100%")
    run.confirm(1)
    run.xcoms.forget("outcome")
    with pytest.raises(IoTDAConfigError, match="the plan of its waves is lost"):
        run.plan("50%, 100%")


@pytest.mark.parametrize("wave", [1, 2])
def test_a_wave_does_not_go_on_with_batch_tasks_that_are_for_something_else(
    rollout: Any, wave: int
) -> None:
    """Its batch tasks are known by their ids; what they bring is compared all the same."""
    run = rollout()
    run.plan("10%, 100%")
    for number in range(1, wave + 1):
        run.create(number)
    made = run.task_ids
    others = (
        ({"document": {"package_ids": ["b1b2c3d4e5f60718293a4b5c"]}}, "document is"),
        ({"task_policy": {"retry_count": 1, "retry_interval": 5}}, "task_policy is"),
        ({"task_type": "softwareUpgrade"}, "task_type is"),
    )
    for given, said in others:
        with pytest.raises(BatchTaskDiffersError, match=said) as refusal:
            run.run(run.creating(wave, **given))
        assert made[wave - 1] in str(refusal.value)
    assert run.create(wave)["verdict"] == "created"
    assert run.task_ids == made
    assert run.stops == 0


# --- what came of it ------------------------------------------------------------------------------


def found(run: Any, outcome: Any) -> dict[str, Any]:
    """How many were confirmed by each account, and what reconciling counts."""
    result = run.reconcile(outcome)
    kinds = ("never_started", "interrupted", "wave_not_begun")
    return {
        "exposed": (outcome["exposed"], result["exposed"]),
        **{kind: result["counts"][kind] for kind in kinds},
        "to_retry": set(read_devices(run.xcoms["reconcile", "to_retry"])),
    }


@pytest.mark.parametrize("manifest", ["xcom", "file"])
def test_who_was_confirmed_by_a_later_wave_stays_known_when_the_first_one_finds_it_stopped(
    rollout: Any, around_confirmations: Any, manifest: str, tmp_path: Any
) -> None:
    path = (tmp_path / "releases" / "manifest.json").as_uri()
    where = {"manifest_path": path} if manifest == "file" else {}
    run = rollout()
    run.plan("10%, 100%", gate=0.1, **where)
    run.confirm(1)
    assert run.watch(1)["verdict"] == "passed"

    def console(number: int) -> None:
        if number == 2:  # after those of the first wave
            emulator = run.emulator
            emulator._on_loop(lambda: emulator.instance.run("stop", task_id=run.task_of(2)))

    around_confirmations(lambda number: None, console)
    assert run.confirm(2, max_in_flight=60)["verdict"] == "stopped_elsewhere"
    assert run.watch(2)["verdict"] == "stopped_elsewhere"
    confirmed = len(set(run.confirmed))
    assert 40 < confirmed < 400
    first = found(run, run.outcome(2))
    assert first["exposed"] == (confirmed, confirmed)
    assert (first["never_started"], first["to_retry"]) == (400 - confirmed, set())
    assert first["interrupted"] > 0
    run.plan("10%, 100%", gate=0.1, **where)
    run.create(1)
    assert run.confirm(1)["verdict"] == "stopped_elsewhere"
    assert run.watch(1)["verdict"] == "stopped_elsewhere"
    assert found(run, run.outcome(2)) == first
