"""Devices that somebody confirms at the console: what they hide, and what they are counted as."""

from __future__ import annotations

from typing import Any

import pytest

from iotda_provider.exceptions import IoTDAServerError
from iotda_provider.hooks.iotda import IoTDAHook
from iotda_provider.hooks.iotda_async import IoTDAAsyncHook

TASK_ID = "5c8fb9d0e2f14a5b9c0d1e2f"


def waiting() -> list[str]:
    """The devices that wait at the platform."""
    with IoTDAHook() as hook:
        return [row.target for row in hook.iter_subtasks(TASK_ID, status="Waitting")]


def at_the_console(*devices: str) -> None:
    """Somebody confirms these devices; none: all of them."""
    with IoTDAHook() as hook:
        hook.confirm_batch_task(TASK_ID, list(devices) or None)


@pytest.mark.parametrize("others", ["fewer than are stuck", "more than are stuck"])
def test_others_that_succeed_do_not_stand_for_a_waves_own_that_are_stuck(
    rollout: Any, others: str
) -> None:
    run = rollout(offline_share=0.4)
    run.plan("25%, 50%, 100%")
    first = set(run.wave(1))
    run.confirm(1)
    run.emulator.advance(400)
    stuck = first & set(waiting())
    assert 20 < len(stuck) < 60
    gate = 0.1 if "more" in others else 0.2
    wanted = 100 if "more" in others else 92
    for device in [device for device in waiting() if device not in first]:
        with IoTDAHook() as hook:
            if hook.get_batch_task(TASK_ID).progress.success >= wanted:
                break
        at_the_console(device)
        run.emulator.advance(120)
    result = run.watch(1, gate=gate, wave_timeout=5)
    succeeded = result["progress"]["success"]
    assert succeeded >= wanted
    assert result["verdict"] == "unproven"
    assert (result["gate"]["succeeded"], result["gate"]["devices"]) == (
        succeeded,
        succeeded + len(stuck),
    )


def test_a_wave_passes_once_those_that_were_stuck_have_come_too(rollout: Any) -> None:
    run = rollout(offline_share=0.3, online_after=1000)
    run.plan("25%, 100%")
    run.confirm(1)
    others = [device for device in waiting() if device not in set(run.wave(1))][:100]
    at_the_console(*others)
    result = run.watch(1)
    assert result["verdict"] == "passed"
    assert result["gate"]["devices"] > 180


def test_trouble_with_the_list_of_who_waits_opens_nothing_and_the_guard_goes_on(
    rollout: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = rollout()
    run.plan("25%, 100%")
    run.confirm(1)

    def refuse(*args: Any, **kwargs: Any) -> Any:
        raise IoTDAServerError(500, "IOTDA.000001", "internal")

    for hook in (IoTDAHook, IoTDAAsyncHook):
        monkeypatch.setattr(hook, "iter_subtasks", refuse)
    result = run.watch(1, wave_timeout=5)
    assert result["verdict"] == "unproven"
    assert "who waits can't be read" in result["summary"]
    monkeypatch.undo()


@pytest.mark.parametrize("guard", ["while it watches", "while it confirms"])
def test_everything_confirmed_at_the_console_was_let_start(
    rollout: Any, around_confirmations: Any, guard: str
) -> None:
    run = rollout(failure_rate=0.3, success_after=600)
    run.plan("10%, 50%, 100%")
    if "confirms" in guard:
        around_confirmations(
            lambda number: None, lambda number: at_the_console() if number == 2 else None
        )
    given = {"chunk": 10, "max_in_flight": 20} if "confirms" in guard else {}
    run.confirm(1, **given)
    if "watches" in guard:
        at_the_console()
    assert run.watch(1)["verdict"] == "breached"
    for _ in range(2):
        outcome = run.outcome(3)
        found = run.reconcile(outcome)
        assert (outcome["exposed"], found["exposed"]) == (400, 400)
        assert found["counts"]["never_started"] == 0
        assert found["counts"]["interrupted"] > 0
        # The whole run is cleared, and finds it stopped.
        run.plan("10%, 50%, 100%")
        assert run.confirm(1)["verdict"] == "stopped_elsewhere"
        run.watch(1)
