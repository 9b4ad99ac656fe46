"""A watch over a scripted platform: what it is shown, what it asks for, and what time it is."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pytest

from iotda_provider.exceptions import IoTDAError
from iotda_provider.guarding import (
    GuardPlan,
    Memory,
    Outcome,
    ReadFailed,
    ReadTasks,
    RehearseStop,
    Save,
    StopTask,
    Tell,
    Watch,
)
from iotda_provider.guards import MaxFailures
from iotda_provider.models import BatchTask, Subtask, SubtaskStatus, TaskStatus

TASK = "5c8f9e2d7a6b4c3d1e0f9a8b"
OTHER = "5c8f9e2d7a6b4c3d1e0f9a8c"
START = 1_790_000_000.0


class Platform:
    """Answers a watch's steps from a script, and writes down what was asked for.

    An answer may be an error, which is raised. The last answer of a script is given for ever.
    """

    def __init__(self) -> None:
        self.now = START
        self.shows: dict[str, list[Any]] = {}
        self.rows: list[Subtask | IoTDAError] = []
        self.stops: list[Any] = [None]
        self.rehearsal: IoTDAError | None = None
        self.saving_works = True
        self.asked: list[str] = []
        self.saved: list[dict[str, Any]] = []
        self.told: list[Tell] = []

    task_id, other_id, start = TASK, OTHER, START

    @staticmethod
    def task(
        status: str = "Processing",
        task_id: str = TASK,
        task_type: str = "firmwareUpgrade",
        **counts: int,
    ) -> BatchTask:
        """A task as it may be shown; its counts add up unless ``total`` is given."""
        return BatchTask.from_wire(
            {
                "task_id": task_id,
                "task_type": task_type,
                "status": str(TaskStatus(status)),
                "task_progress": {"total": sum(counts.values()), **counts},
            }
        )

    @staticmethod
    def row(target: str, code: str | None, message: str | None = None) -> Subtask:
        """A failed device."""
        return Subtask(target, SubtaskStatus.FAIL, error_code=code, error_msg=message)

    def clock(self) -> float:
        """The time."""
        return self.now

    @staticmethod
    def draw() -> float:
        """Not by chance: no routine save falls between a test's first looks."""
        return 0.0

    def show(self, *answers: Any, of: str = TASK) -> None:
        """Prepare the answers to reading a task, in turn."""
        self.shows[of] = list(answers)

    def run(self, procedure: Any) -> Any:
        """Carry out a procedure."""
        answer: Any = None
        error: IoTDAError | None = None
        while True:
            try:
                step = procedure.throw(error) if error else procedure.send(answer)
            except StopIteration as end:
                return end.value
            answer, error = None, None
            try:
                answer = self._do(step)
            except IoTDAError as caught:
                error = caught

    def _do(self, step: Any) -> Any:
        if isinstance(step, ReadTasks):
            self.asked.append("read")
            return [_next(self.shows[key]) for key in step.batch_task_ids]
        if isinstance(step, ReadFailed):
            self.asked.append("rows")
            for row in self.rows:
                if isinstance(row, IoTDAError):
                    raise row
                step.tally.add(row)
            return None
        if isinstance(step, StopTask):
            self.asked.append(f"stop {step.batch_task_id}")
            answer = _next(self.stops)
            if isinstance(answer, IoTDAError):
                raise answer
            return answer
        if isinstance(step, RehearseStop):
            self.asked.append(f"rehearse {step.batch_task_id}")
            if isinstance(self.rehearsal, IoTDAError):
                raise self.rehearsal
            return None
        if isinstance(step, Save):
            self.asked.append("save")
            self.saved.append(dict(step.memory))
            return self.saving_works
        self.asked.append(f"tell {step.kind}")
        self.told.append(step)
        return None


def _next(answers: list[Any]) -> Any:
    return answers.pop(0) if len(answers) > 1 else answers[0]


class Guard:
    """A watch with its platform."""

    def __init__(self, platform: Platform, watch: Watch) -> None:
        self.platform = platform
        self.watch = watch

    def poll(self, after: float = 0.0) -> Outcome | None:
        """Look once, so many seconds later."""
        self.platform.now += after
        return self.platform.run(self.watch.poll())

    def give_up(self) -> Outcome:
        """Let the guard's time be over."""
        return self.platform.run(self.watch.give_up("Time is over."))

    def verify(self) -> Outcome | None:
        """Look at what became of the stop."""
        return self.platform.run(self.watch.verify())

    def until_over(self, every: float = 10.0, at_most: int = 10_000) -> Outcome:
        """Look until there is an outcome."""
        for _ in range(at_most):
            if (outcome := self.poll(every)) is not None:
                return outcome
        raise AssertionError("the guard goes on and on")


@pytest.fixture
def platform() -> Platform:
    """The scripted platform."""
    return Platform()


@pytest.fixture
def guard(platform: Platform) -> Callable[..., Guard]:
    """Makes a guard: ``guard(rules=..., memory=..., **plan)``."""

    def make(rules: Any = None, *, memory: Any = None, **plan: Any) -> Guard:
        rules = rules or MaxFailures(5)
        ids = plan.pop("batch_task_ids", (TASK,))
        made = GuardPlan(
            batch_task_ids=ids, rules=rules if isinstance(rules, tuple) else (rules,), **plan
        )
        made = GuardPlan.from_dict(made.to_dict())  # as a trigger gets it
        remembered = Memory.from_json(memory, ids, made.audit_limit)
        log = logging.getLogger("guard")
        watch = Watch(made, remembered, log, clock=platform.clock, draw=platform.draw)
        return Guard(platform, watch)

    return make
