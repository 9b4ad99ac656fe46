"""The XCom ``live`` of a guard in a worker: no look waits for it."""

from __future__ import annotations

import logging
import threading
import time
from typing import Any

from iotda_provider.guards import MaxFailures
from iotda_provider.rollout_guard import GuardPlan, Memory, Watch
from iotda_provider.rollout_guard.live_in_worker import LiveInWorker
from iotda_provider.rollout_guard.worker import WorkerGuardIO

IDS = ("0123456789abcdef01234567",)


class TaskInstance:
    """An Airflow that does not answer until the test lets it."""

    def __init__(self) -> None:
        self.answers, self.pushed = threading.Event(), []

    def xcom_push(self, *, key: str, value: Any) -> None:
        assert self.answers.wait(60)
        self.pushed.append(key)


def test_no_look_waits_for_an_airflow_that_does_not_answer() -> None:
    plan = GuardPlan(batch_task_ids=IDS, rules=(MaxFailures(5),))
    watch = Watch(plan, Memory(IDS), logging.getLogger("guard"), clock=time.time)
    ti = TaskInstance()
    context: Any = {"ti": ti}
    hook: Any = None
    log = logging.getLogger("guard")

    with WorkerGuardIO(hook, context, log) as io:
        live = LiveInWorker(watch, io, context, log)
        for _ in range(5):
            live.show()  # otherwise the test would hang
        assert not ti.pushed
        ti.answers.set()
        live.settle()

    assert ti.pushed == ["live", "live"], "what was under way, and the last one"


def test_a_memory_that_a_stop_waits_for_is_written_before_what_is_queued() -> None:
    order: list[str] = []
    begun, goes_on = threading.Event(), threading.Event()
    hook: Any = None
    context: Any = {}

    def under_way() -> None:
        begun.set()
        goes_on.wait(60)
        order.append("under way")

    with WorkerGuardIO(hook, context, logging.getLogger("guard")) as io:
        io.begin(under_way)
        assert begun.wait(60)
        for number in range(3):
            io.begin(order.append, f"live {number}")
        saved = io.begin(order.append, "memory", first=True)
        goes_on.set()
        saved.result(60)

    assert order == ["under way", "memory", "live 0", "live 1", "live 2"]


def test_an_airflow_that_fails_costs_one_line(caplog: Any) -> None:
    plan = GuardPlan(batch_task_ids=IDS, rules=(MaxFailures(5),))
    log = logging.getLogger("guard")
    context: Any = {"ti": None}
    hook: Any = None

    with WorkerGuardIO(hook, context, log) as io:
        watch = Watch(plan, Memory(IDS), log, clock=time.time)
        LiveInWorker(watch, io, context, log).settle()

    assert [record.levelname for record in caplog.records] == ["WARNING"]
