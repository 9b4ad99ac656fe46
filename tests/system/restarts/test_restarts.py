"""A deferred stop and a deferred sensor end right, whatever dies while they wait.

That is a part of Airflow, or the platform itself. Every test leaves all parts running again. One
stop is sent in effect, and none by what dies.
"""

from __future__ import annotations

import itertools
import signal
from collections.abc import Callable
from typing import Any

import pytest
from tests.system.restarts.parts import VERSION

from iotda_provider.hooks.iotda import IoTDAHook
from iotda_provider.models import BatchTask

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

DAG = """
import datetime

from airflow.providers.common.compat.sdk import DAG

from iotda_provider.operators.batch_task.stop import StopBatchTaskOperator
from iotda_provider.sensors.batch_task import BatchTaskSensor

with DAG({dag_id!r}, schedule=None):
    StopBatchTaskOperator(
        task_id="stop",
        batch_task_id={task_id!r},
        poll_interval=1,
        deferrable=True,
        retries=10,
        retry_delay=datetime.timedelta(seconds=1),
    )
    BatchTaskSensor(
        task_id="wait",
        batch_task_id={task_id!r},
        target_statuses=["Stopped"],
        poke_interval=1,
        deferrable=True,
        stop_on_kill=True,
    )
"""
_numbers = itertools.count(1)


class Rollout:
    """A batch task and a DAG with a stop of it and a sensor on it."""

    def __init__(self, airflow: Any, emulator: Any) -> None:
        self.airflow, self.emulator = airflow, emulator
        self.dag_id = f"rollout_{next(_numbers)}"
        self.task_id = emulator.new_upgrade(self.dag_id, 5)
        text = DAG.format(dag_id=self.dag_id, task_id=self.task_id)
        (airflow.dags / f"{self.dag_id}.py").write_text(text)

    def begin(self) -> None:
        self.airflow.run(self.dag_id)

    def wait_until_deferred(self) -> None:
        self.airflow.wait_for_states(self.dag_id, stop="deferred", wait="deferred")
        assert self.stops == 1

    def come_to_rest(self) -> None:
        """The platform has stopped the last device."""
        self.emulator.advance(2000)
        assert str(self.task.status) == "Stopped"

    def ends_right(self) -> None:
        self.ends()
        assert self.stops == 1

    def ends(self) -> None:
        self.airflow.wait_for_states(self.dag_id, stop="success", wait="success")
        result = self.airflow.xcom(self.dag_id, "stop")
        assert (result["outcome"], result["requested"], result["succeeded"]) == ("stopped", 5, 5)

    @property
    def task(self) -> BatchTask:
        with IoTDAHook() as hook:
            return hook.get_batch_task(self.task_id)

    @property
    def stops(self) -> int:
        """How often a stop of this task was accepted."""
        return sum(
            entry["status"] == 200 and self.task_id in entry["path"]
            for entry in self.emulator.journal("stop_batch_task")
        )


@pytest.fixture
def rollout(airflow: Any, emulator: Any) -> Callable[[], Rollout]:
    return lambda: Rollout(airflow, emulator)


def test_the_triggerer_dies(airflow: Any, rollout: Any) -> None:
    watched = rollout()
    watched.begin()
    watched.wait_until_deferred()

    airflow.kill("triggerer")
    watched.come_to_rest()
    airflow.start("triggerer")

    watched.ends_right()


def test_the_scheduler_dies(airflow: Any, rollout: Any) -> None:
    watched = rollout()
    watched.begin()
    watched.wait_until_deferred()

    airflow.kill("scheduler")
    watched.come_to_rest()
    airflow.start("scheduler")

    watched.ends_right()


def test_the_worker_dies_while_it_stops(airflow: Any, emulator: Any, rollout: Any) -> None:
    """The platform has acted, the answer is on its way, and nobody is there any more."""
    watched = rollout()
    fault = emulator.add_fault("latency", call="stop_batch_task", seconds=20, acted=True, count=1)
    watched.begin()
    airflow.wait_for("the stop", lambda: watched.task.status.is_stop)

    airflow.kill_worker()
    emulator.remove_fault(fault)
    airflow.wait_for_states(watched.dag_id, stop="deferred")
    watched.come_to_rest()

    watched.ends_right()


def test_another_triggerer_takes_over_while_its_old_owner_is_paused(
    airflow: Any, rollout: Any
) -> None:
    watched = rollout()
    watched.begin()
    watched.wait_until_deferred()

    airflow.pause("triggerer")
    airflow.start("triggerer 2")
    watched.come_to_rest()
    watched.ends_right()
    airflow.send("triggerer", signal.SIGCONT)
    # It finds out that its triggers are not its own any more, and must not stop anything for that.
    another = rollout()
    another.begin()
    another.wait_until_deferred()
    another.come_to_rest()
    another.ends_right()

    assert watched.stops == 1
    airflow.kill("triggerer 2")


def test_the_platform_is_away_while_airflow_waits(
    airflow: Any, emulator: Any, rollout: Any
) -> None:
    watched = rollout()
    watched.begin()
    watched.wait_until_deferred()

    emulator.kill()
    airflow.wait_for("a look in vain", lambda: airflow.has_logged(watched.dag_id, "Waiting on"))
    emulator.start()
    watched.come_to_rest()

    watched.ends_right()


def test_the_platform_dies_with_a_stop_under_way(airflow: Any, emulator: Any, rollout: Any) -> None:
    """It has acted, its answer never comes, and nobody answers any more for a while."""
    watched = rollout()
    emulator.add_fault("latency", call="stop_batch_task", seconds=60, acted=True, count=1)
    watched.begin()
    airflow.wait_for("the stop", lambda: watched.task.status.is_stop)

    emulator.kill()
    airflow.wait_for("a look in vain", lambda: airflow.has_logged(watched.dag_id, "Waiting on"))
    emulator.start()
    airflow.wait_for_states(watched.dag_id, stop="deferred", wait="deferred")
    watched.come_to_rest()

    watched.ends()
    emulator.kill()
    assert emulator.stops_in_effect(watched.task_id) == 1
    emulator.start()


STARTS_THERE = """
from airflow.providers.common.compat.sdk import DAG, Param

from iotda_provider.sensors.batch_task import BatchTaskSensor

with DAG({dag_id!r}, schedule=None, params={{"task": Param({task_id!r}, type="string")}}):
    BatchTaskSensor(
        task_id="literal",
        batch_task_id={task_id!r},
        target_statuses=["Stopped"],
        poke_interval=1,
        start_from_trigger=True,
    )
    BatchTaskSensor(
        task_id="param",
        batch_task_id="{{{{ params.task }}}}",
        target_statuses=["Stopped"],
        poke_interval=1,
        start_from_trigger=True,
    )
    BatchTaskSensor(
        task_id="times_out",
        batch_task_id={task_id!r},
        target_statuses=["Stopping"],
        failure_statuses=[],
        poke_interval=1,
        timeout=1,
        soft_fail=True,
        start_from_trigger=True,
    )
"""


@pytest.mark.skipif(VERSION < (3, 3), reason="starts in the triggerer since 3.3")
def test_a_sensor_that_starts_in_the_triggerer_needs_no_worker(airflow: Any, rollout: Any) -> None:
    watched = rollout()
    text = STARTS_THERE.format(dag_id=watched.dag_id, task_id=watched.task_id)
    (airflow.dags / f"{watched.dag_id}.py").write_text(text)
    watched.begin()
    airflow.wait_for_states(
        watched.dag_id, literal="deferred", param="deferred", times_out="skipped"
    )
    with IoTDAHook() as hook:
        hook.stop_batch_task(watched.task_id)
    watched.come_to_rest()

    airflow.wait_for_states(watched.dag_id, literal="success", param="success")

    values = airflow.query(
        "select task_id, value from xcom where dag_id = ? and key = 'return_value'",
        watched.dag_id,
    )
    assert {task_id for task_id, _ in values} == {"literal", "param"}
    assert all("Stopped" in str(value) for _, value in values)
