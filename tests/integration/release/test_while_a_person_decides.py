"""Nobody guards while a person decides; so the guard looks before another device is confirmed."""

from __future__ import annotations

from typing import Any

from iotda_provider.guards import SequentialFailureTest
from iotda_provider.sensors.batch_task import RolloutGuardSensor


def test_a_breach_while_the_question_is_open_stops_the_release_before_anybody_else(
    rollout: Any,
) -> None:
    run = rollout(speed=0, failure_rate=0.6, failure_after=600, success_after=90_000)
    run.plan("50%, 100%")
    run.confirm(1)
    run.emulator.advance(1)
    # Its time is over before the first device has failed: unproven, so a person is asked.
    assert run.watch(1, wave_timeout=0.2)["verdict"] == "unproven"
    assert not run.stops
    run.emulator.advance(7200)
    # "Go on" is the answer.
    assert run.create(2)["verdict"] == "breached"
    assert run.stops == 1
    assert run.confirm(2)["verdict"] == "breached"
    assert run.watch(2)["verdict"] == "breached"
    assert set(run.confirmed) == set(run.wave(1))
    assert len(run.emulator.journal("create_batch_task")) == 1


def test_a_guard_beside_the_waves_stops_it_while_the_question_is_open(rollout: Any) -> None:
    run = rollout(speed=0, failure_rate=0.6, failure_after=600, success_after=90_000)
    run.plan("50%, 100%")
    run.confirm(1)
    run.emulator.advance(1)
    assert run.watch(1, wave_timeout=0.2)["verdict"] == "unproven"
    run.emulator.advance(7200)
    guard = RolloutGuardSensor(
        task_id="guard",
        batch_task_id=run.task_ids,
        rules=SequentialFailureTest(0.02),
        stop_on_breach=True,
        poke_interval=0.05,
    )
    assert run.run(guard)["verdict"] == "breached"
    # "Go on" comes too late: the waves see that it was stopped, and open nothing.
    assert run.create(2)["verdict"] == "stopped_elsewhere"
    assert set(run.confirmed) == set(run.wave(1))
    assert run.stops == 1
