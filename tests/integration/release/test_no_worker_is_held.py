"""A deferrable wave waits in the triggerer: no worker is held, and its guard stops from there."""

from __future__ import annotations

import contextlib
import json
import time
from datetime import datetime, timedelta, timezone
from itertools import pairwise
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowTaskTimeout, TaskDeferred
from airflow.providers.common.compat.sdk import timeout as airflow_timeout
from tests.airflow_values import TIMED_OUT
from tests.integration.release.conftest import remade

from iotda_provider.airflow_support.trigger_events import ASK
from iotda_provider.exceptions import BatchTaskTimeoutError, IoTDAError
from iotda_provider.hooks.iotda import IoTDAHook
from iotda_provider.operators.release.at_rest import WaitUntilAtRestOperator
from iotda_provider.operators.release.confirm import ConfirmWaveOperator
from iotda_provider.operators.release.watch import WatchWaveOperator
from iotda_provider.triggers.release import AtRestTrigger, WaveTrigger


def closed() -> str:
    """A window that opens in two hours."""
    now = datetime.now(timezone.utc)
    return f"{now + timedelta(hours=2):%H:%M}-{now + timedelta(hours=3):%H:%M}"


class Stays:
    """The seconds of each stay of a task in a worker."""

    def __init__(self, passing: Any) -> None:
        self._time = passing
        self.seconds: list[float] = []

    def around(self, real: Any) -> Any:
        """The method, timed."""

        def timed(*args: Any, **kwargs: Any) -> Any:
            began = self._time.monotonic()
            try:
                return real(*args, **kwargs)
            finally:
                self.seconds.append(self._time.monotonic() - began)

        return timed


@pytest.fixture
def stays(monkeypatch: pytest.MonkeyPatch, passing: Any) -> Stays:
    made = Stays(passing)
    for kind in (ConfirmWaveOperator, WatchWaveOperator):
        for name in ("execute", "resume_execution"):
            monkeypatch.setattr(kind, name, made.around(getattr(kind, name)))
    return made


@pytest.fixture
def no_stop_from_a_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: Any, **kwargs: Any) -> None:
        raise AssertionError("a worker has sent a stop")

    monkeypatch.setattr(IoTDAHook, "stop_batch_task", refuse)


triggerer = pytest.mark.parametrize("deferrable", [True])


@triggerer
def test_nobody_stays_in_a_worker_while_a_wave_bakes(rollout: Any, stays: Stays) -> None:
    run = rollout(success_after=1)
    run.plan()
    run.confirm(1)
    before = run.time.monotonic()
    stays.seconds.clear()
    assert run.watch(1, bake_time=4)["verdict"] == "passed"
    assert run.time.monotonic() - before > 2
    assert len(run.deferrals) == 1
    assert len(stays.seconds) == 2
    assert sum(stays.seconds) < 1


@triggerer
def test_nor_while_it_waits_for_places(rollout: Any, stays: Stays) -> None:
    run = rollout(speed=100)
    run.plan("100%")
    assert run.confirm(1, max_in_flight=60)["confirmed"] == 400
    assert len(run.deferrals) == 1  # one trigger confirms all the rest
    assert sum(stays.seconds) < 1


@triggerer
def test_the_trigger_sends_the_stop_where_the_window_is_closed(
    rollout: Any, no_stop_from_a_worker: None
) -> None:
    run = rollout(failure_rate=0.5, speed=60)
    run.plan("50%, 100%")
    run.confirm(1)
    run.create(2)
    result = run.confirm(2, window=closed())
    assert result["verdict"] == "breached"
    assert result["stop"]["outcome"] == "stopped"
    assert set(run.confirmed) == set(run.wave(1))
    assert set(run.xcoms["confirm_2", "unconfirmed"]) == set(run.wave(2))
    assert len(run.deferrals) == 1


@triggerer
def test_the_trigger_sends_the_stop_while_a_wave_is_watched(
    rollout: Any, no_stop_from_a_worker: None
) -> None:
    run = rollout(failure_rate=0.5, speed=60)
    run.plan("50%, 100%")
    run.confirm(1)
    result = run.watch(1)
    assert (result["verdict"], result["stop"]["outcome"], run.stops) == ("breached", "stopped", 1)


@triggerer
def test_evidence_is_asked_for_in_a_worker_and_the_guard_looks_meanwhile(rollout: Any) -> None:
    run = rollout()
    run.plan()
    run.confirm(1)
    asked: list[int] = []

    def evidence(facts: Any) -> str:
        asked.append(len(run.emulator.journal("show_batch_task")))
        return "wait" if len(asked) < 3 else "go"

    assert run.watch(1, evidence=evidence, evidence_interval=2)["verdict"] == "passed"
    assert len(asked) == 3
    assert len(run.deferrals) == 3
    # Several looks between two questions, without a worker.
    assert all(later - earlier > 4 for earlier, later in pairwise(asked))


def test_evidence_is_not_asked_for_at_every_look_of_a_task_that_has_ended(rollout: Any) -> None:
    run = rollout(success_after=1)
    run.plan("100%")
    run.confirm(1)
    asked: list[float] = []

    def evidence(facts: Any) -> bool:
        asked.append(run.time.monotonic())
        return len(asked) == 3

    assert run.watch(1, evidence=evidence, evidence_interval=0.5)["verdict"] == "passed"
    assert all(later - earlier >= 0.5 for earlier, later in pairwise(asked))
    assert len(run.deferrals) == (2 if run.deferrable else 0)


@triggerer
def test_what_goes_wrong_in_a_trigger_goes_wrong_in_the_task(rollout: Any) -> None:
    run = rollout()
    run.plan()
    with pytest.raises(BatchTaskTimeoutError, match=r"window .* is closed"):
        run.confirm(1, window=closed(), timeout=0.5)
    assert run.confirm(1)["confirmed"] == 40


@pytest.mark.parametrize("passing", [time], ids=["real time"])
def test_execution_timeout_ends_it_alike(rollout: Any) -> None:
    run = rollout()
    run.plan()
    limit = timedelta(seconds=0.5)

    def of_a_worker() -> Any:
        """What Airflow does around a stay in a worker, and does not around a trigger."""
        return contextlib.nullcontext() if run.deferrable else airflow_timeout(0.5)  # type: ignore[no-untyped-call]

    with pytest.raises(AirflowTaskTimeout), of_a_worker():
        run.confirm(1, window=closed(), execution_timeout=limit)
    assert not run.confirmations
    run.confirm(1)
    with pytest.raises(AirflowTaskTimeout), of_a_worker():
        run.watch(1, bake_time=60, wave_timeout=90, execution_timeout=limit)


@triggerer
def test_where_no_triggerer_comes_back_airflows_own_limit_ends_it(rollout: Any) -> None:
    run = rollout(success_after=1)
    run.plan()

    def abandoned(operator: Any) -> Any:
        context = run.context(operator)
        with pytest.raises(TaskDeferred):
            operator.execute(context)
        return operator.resume_execution("__fail__", TIMED_OUT, context)

    with pytest.raises(BatchTaskTimeoutError, match="no triggerer"):
        abandoned(run.creating(1, window=closed()))
    run.create(1)
    with pytest.raises(BatchTaskTimeoutError, match="no triggerer"):
        abandoned(run.confirming(1, window=closed()))
    with pytest.raises(AirflowTaskTimeout):
        abandoned(run.confirming(1, window=closed(), execution_timeout=timedelta(hours=1)))
    run.confirm(1)
    with pytest.raises(AirflowTaskTimeout):
        abandoned(run.watching(1, bake_time=3600, execution_timeout=timedelta(hours=1)))


@triggerer
def test_a_triggers_event_is_checked_before_it_is_believed(rollout: Any) -> None:
    run = rollout()
    run.plan()
    run.create(1)
    operator = run.confirming(1)
    context = run.context(operator)
    for event in (None, {}, {"batch_task_ids": ["other"]}, {"batch_task_ids": run.task_ids}):
        with pytest.raises(IoTDAError, match="event"):
            operator.execute_complete(context, event)


@triggerer
def test_triggers_are_plain_json_and_come_back_as_they_were(rollout: Any) -> None:
    run = rollout(hang_rate=0.3)
    run.plan()

    def deferred(operator: Any) -> Any:
        with pytest.raises(TaskDeferred) as deferral:
            operator.execute(run.context(operator))
        return deferral.value.trigger

    creating = deferred(run.creating(1, window=closed()))
    run.create(1)
    rest = WaitUntilAtRestOperator(task_id="rest", batch_task_id=run.task_ids, deferrable=True)
    confirming = deferred(run.confirming(1, window=closed(), max_in_flight=7))
    run.confirm(1)
    watching = deferred(run.watching(1, evidence=lambda facts: "go", bake_time=60))
    resting = deferred(rest)
    assert isinstance(creating, WaveTrigger)
    assert isinstance(confirming, WaveTrigger)
    assert isinstance(watching, WaveTrigger)
    assert isinstance(resting, AtRestTrigger)
    for trigger in (creating, confirming, watching, resting):
        assert json.loads(json.dumps(trigger.serialize()[1])) == trigger.serialize()[1]
        assert remade(trigger).serialize() == trigger.serialize()
        assert len(json.dumps(trigger.serialize())) < 4000


@triggerer
def test_evidence_is_never_called_by_a_trigger(rollout: Any) -> None:
    from tests.integration.release.conftest import fired

    run = rollout(success_after=1)
    run.plan()
    run.confirm(1)
    operator = run.watching(1, evidence=lambda facts: 1 / 0, bake_time=1)
    with pytest.raises(TaskDeferred) as deferral:
        operator.execute(run.context(operator))
    event = fired(deferral.value.trigger)
    assert event["status"] == ASK
    assert event["memo"]["job"]["wave"] == 1


def test_at_rest_both_ways(rollout: Any) -> None:
    run = rollout(speed=100)
    run.plan("50%, 100%")
    run.confirm(1)
    run.create(2)
    run.deferrals.clear()

    def rest(**given: Any) -> Any:
        return run.run(
            WaitUntilAtRestOperator(
                task_id="rest",
                batch_task_id=run.task_ids,
                poll_interval=0.05,
                deferrable=run.deferrable,
                **{"grace": 0, **given},
            )
        )

    assert rest(timeout=0.1)["under_way"] == 200
    found = rest()
    assert (found["at_rest"], found["progress"]["success"]) == (True, 200)
    with IoTDAHook() as hook:
        hook.stop_batch_task(run.task_of(2))
    before = run.time.monotonic()
    assert rest(grace=0.6)["status"] == "Success, Stopped"
    assert run.time.monotonic() - before > 0.6
    assert bool(run.deferrals) == run.deferrable
    # All 200 that were confirmed have an outcome, so nobody was installing.
    assert rest(grace=3600, exposed="200", timeout=7200)["status"] == "Success, Stopped"
    before = run.time.monotonic()
    rest(grace=0.6, exposed=201)
    assert run.time.monotonic() - before > 0.6


def test_at_rest_outlives_an_outage_and_no_longer_one(rollout: Any) -> None:
    run = rollout()
    run.plan("100%")
    run.create(1)
    run.emulator.add_fault("reset", call="show_batch_task", count=8)

    def rest(**given: Any) -> Any:
        return run.run(
            WaitUntilAtRestOperator(
                task_id="rest",
                batch_task_id=run.task_ids,
                poll_interval=0.05,
                deferrable=run.deferrable,
                **given,
            )
        )

    assert rest()["at_rest"]
    run.emulator.add_fault("reset", call="show_batch_task")
    with pytest.raises(IoTDAError, match="max_outage"):
        rest(max_outage=0.3)


def test_a_wave_waits_for_the_platform_both_ways(rollout: Any) -> None:
    run = rollout(speed=10, switches={"initializing": 25, "stop_after": 0})
    run.plan("100%")
    assert run.create(1)["verdict"] == "created"
    assert len(run.emulator.journal("create_batch_task")) == 1
    assert bool(run.deferrals) == run.deferrable


@pytest.mark.parametrize("has_store", [False])
def test_waves_that_end_well_leave_no_variable(rollout: Any, variables: Any) -> None:
    run = rollout(speed=100)
    run.plan()
    run.confirm(1, max_in_flight=20)
    run.watch(1)
    # But for the one that says which Airflow the release is of.
    assert {name.split(".")[1] for name in variables} <= {"installation"}
    assert "set" in variables.calls
