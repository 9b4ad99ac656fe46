"""What a task can find out of a DAG, by what its Airflow tells it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from iotda_provider.airflow_support.dags import MISSING, PAUSED, READY, UNKNOWN, find_dag


class Refused(Exception):
    """An answer of Airflow's API: to a real task, or to one of ``dag.test()``."""

    def __init__(self, status: int, *, in_process: bool) -> None:
        super().__init__(status)
        if in_process:
            self.response = SimpleNamespace(status_code=status)
        else:
            self.error = SimpleNamespace(detail={"status_code": status})


class TaskInstance:
    """One of Airflow 3.2 and later.

    :param answer: what Airflow says of the DAG
    """

    def __init__(self, answer: Any) -> None:
        self._answer = answer

    def get_dr_count(self, **_: Any) -> int:
        raise AssertionError("a DAG need not have run")

    def get_dag(self, dag_id: str) -> Any:
        assert dag_id == "roll_back_release"
        if isinstance(self._answer, Exception):
            raise self._answer
        return SimpleNamespace(is_paused=self._answer)


@pytest.mark.parametrize(
    ("answer", "found"),
    [
        (False, READY),
        (True, PAUSED),
        (Refused(404, in_process=False), MISSING),
        (Refused(404, in_process=True), MISSING),
    ],
)
def test_a_dag_is_ready_paused_or_missing(answer: Any, found: str) -> None:
    assert find_dag(TaskInstance(answer), "roll_back_release") == found


@pytest.mark.parametrize("error", [Refused(500, in_process=False), OSError("down")])
def test_an_airflow_that_is_down_is_asked_again_by_the_next_try(error: Exception) -> None:
    with pytest.raises(type(error)):
        find_dag(TaskInstance(error), "roll_back_release")


@pytest.mark.parametrize(("runs", "found"), [(0, UNKNOWN), (3, READY)])
def test_airflow_3_1_knows_a_dag_by_its_runs(runs: int, found: str) -> None:
    ti = SimpleNamespace(get_dr_count=lambda dag_id: runs)
    assert find_dag(ti, "roll_back_release") == found
