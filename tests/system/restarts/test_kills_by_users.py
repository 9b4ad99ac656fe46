"""A user's kill of a waiting sensor stops its batch task; a restart of the triggerer does not.

Airflow 3.3 tells the trigger; before, the trigger reads the state of its task instance.
"""

from __future__ import annotations

import itertools
import signal
from collections.abc import Callable
from typing import Any

import pytest

from iotda_provider.hooks.iotda import IoTDAHook

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

DAG = """
from airflow.providers.common.compat.sdk import DAG

from iotda_provider.guards import MaxFailures
from iotda_provider.sensors.batch_task import BatchTaskSensor, RolloutGuardSensor

with DAG({dag_id!r}, schedule=None):
    BatchTaskSensor(
        task_id="wait",
        batch_task_id={wait!r},
        target_statuses=["Stopped"],
        poke_interval=1,
        deferrable=True,
        stop_on_kill=True,
    )
    RolloutGuardSensor(
        rehearse_stop=False,
        task_id="guard",
        batch_task_id={guard!r},
        rules=MaxFailures(3),
        poke_interval=1,
        deferrable=True,
        stop_on_kill=True,
    )
"""
TASKS = ("wait", "guard")
_numbers = itertools.count(1)


class Rollouts:
    """Two batch tasks, and a DAG with a deferred sensor on the one and a guard on the other."""

    def __init__(self, airflow: Any, emulator: Any) -> None:
        self.airflow, self.emulator = airflow, emulator
        self.dag_id = f"killed_{next(_numbers)}"
        self.batch_tasks = {
            task: emulator.new_upgrade(f"{self.dag_id}_{task}", 5) for task in TASKS
        }
        text = DAG.format(dag_id=self.dag_id, **self.batch_tasks)
        (airflow.dags / f"{self.dag_id}.py").write_text(text)
        airflow.run(self.dag_id)
        airflow.wait_for_states(self.dag_id, **dict.fromkeys(TASKS, "deferred"))
        # The first look is the worker's, and a trigger that has not begun hears of no kill.
        self.go_on(self.count("show_batch_task"))

    def count(self, call: str) -> dict[str, int]:
        """How often a call was made about the batch task of each sensor."""
        paths = [entry["path"] for entry in self.emulator.journal(call) if entry["status"] == 200]
        return {
            task: sum(batch_task in path for path in paths)
            for task, batch_task in self.batch_tasks.items()
        }

    def waiting_tries(self) -> list[int]:
        """The number of the try of each task that waits in the triggerer."""
        text = "select try_number from task_instance where dag_id = ? and state = 'deferred'"
        return [number for (number,) in self.airflow.query(text, self.dag_id)]

    def wait_for_stops(self) -> None:
        self.airflow.wait_for("a stop of each", lambda: all(self.count("stop_batch_task").values()))

    def go_on(self, looks: dict[str, int]) -> None:
        """See both sensors look again, and nothing stopped."""
        self.airflow.wait_for(
            "another look by each",
            lambda: all(self.count("show_batch_task")[task] > looks[task] for task in TASKS),
        )
        assert self.count("stop_batch_task") == {"wait": 0, "guard": 0}
        assert self.airflow.states(self.dag_id) == dict.fromkeys(TASKS, "deferred")

    def end(self) -> None:
        """Stop what is still under way, and let both sensors see the end of it."""
        with IoTDAHook() as hook:
            for batch_task in self.batch_tasks.values():
                if not hook.get_batch_task(batch_task).status.is_stop:
                    hook.stop_batch_task(batch_task)
        self.emulator.advance(2000)
        self.airflow.wait_for_states(self.dag_id, **dict.fromkeys(TASKS, "success"))


@pytest.fixture
def rollouts(airflow: Any, emulator: Any) -> Callable[[], Rollouts]:
    return lambda: Rollouts(airflow, emulator)


@pytest.mark.parametrize("state", ["failed", "success"])
def test_a_user_marks_them(airflow: Any, rollouts: Any, state: str) -> None:
    watched = rollouts()

    for task in TASKS:
        airflow.mark(watched.dag_id, task, state)

    watched.wait_for_stops()
    assert watched.count("stop_batch_task") == {"wait": 1, "guard": 1}
    assert airflow.states(watched.dag_id) == dict.fromkeys(TASKS, state)


@pytest.mark.parametrize("busy", [False, True])
def test_a_user_clears_them(airflow: Any, rollouts: Any, busy: bool) -> None:
    """A busy triggerer hears of the clear when both tasks wait again already."""
    watched = rollouts()

    if busy:
        airflow.pause("triggerer")
    for task in TASKS:
        airflow.clear(watched.dag_id, task)
    if busy:
        airflow.wait_for("a second wait of both", lambda: watched.waiting_tries() == [2, 2])
        airflow.send("triggerer", signal.SIGCONT)

    watched.wait_for_stops()
    watched.end()
    assert watched.count("stop_batch_task") == {"wait": 1, "guard": 1}
    assert airflow.xcom(watched.dag_id, "guard")["verdict"] == "stopped_elsewhere"


def test_the_triggerer_is_restarted(airflow: Any, rollouts: Any) -> None:
    watched = rollouts()

    airflow.stop("triggerer")
    looks = watched.count("show_batch_task")
    airflow.start("triggerer")

    watched.go_on(looks)
    watched.end()


def test_another_triggerer_takes_over_and_the_first_wakes_up(airflow: Any, rollouts: Any) -> None:
    """The first one finds its triggers gone, as it does where a user has killed them."""
    watched = rollouts()

    airflow.pause("triggerer")
    looks = watched.count("show_batch_task")
    airflow.start("triggerer 2")
    watched.go_on(looks)
    airflow.send("triggerer", signal.SIGCONT)
    airflow.wait_for_heartbeats("triggerer", 5)

    watched.go_on(watched.count("show_batch_task"))
    watched.end()
    airflow.kill("triggerer 2")
