"""A run that is cleared as a whole in the middle of its release goes on with that release."""

from __future__ import annotations

from typing import Any

import pytest

from iotda_provider.exceptions import IoTDAConfigError
from iotda_provider.hooks.iotda import IoTDAHook

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
        run.xcoms.put("watch_1", "return_value", {"verdict": "unproven", "summary": "It is."})
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


def test_nobody_is_let_start_where_the_planned_waves_are_gone(rollout: Any) -> None:
    """Somebody has deleted what the keeper had of them; the confirmations are still there."""
    run = rollout()
    run.plan("10%, 100%")
    run.confirm(1)
    for key in [key for key in run.xcoms if key[0] == "outcome" and key[1] != "confirmed_devices"]:
        del run.xcoms[key]
    with pytest.raises(IoTDAConfigError, match="who is in which wave"):
        run.plan("50%, 100%")
