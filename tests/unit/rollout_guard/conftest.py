"""A watch over a scripted platform, with its answers, its requests and its clock."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest

from iotda_provider.exceptions import IoTDAError
from iotda_provider.guards import MaxFailures
from iotda_provider.models import BatchTask, Subtask, SubtaskStatus, TaskStatus
from iotda_provider.rollout_guard import Alert, GuardPlan, Memory, Outcome, Watch
from iotda_provider.transport.runner import run_blocking

TASK = "5c8f9e2d7a6b4c3d1e0f9a8b"
OTHER = "5c8f9e2d7a6b4c3d1e0f9a8c"
START = 1_790_000_000.0


class Platform:
    """The I/O object of a watch: it answers from a script, and records the requests.

    An answer may be an error, which is raised. The last answer is repeated.
    """

    def __init__(self) -> None:
        self.now = START
        self.shows: dict[str, list[Any]] = {}
        self.rows: list[Subtask | IoTDAError] = []
        self.retrying: dict[str, list[Subtask | IoTDAError]] = {}
        self.stops: list[Any] = [None]
        self.rehearsal: IoTDAError | None = None
        self.saving_works = True
        self.asked: list[str] = []
        self.saved: list[dict[str, Any]] = []
        self.told: list[Alert] = []

    task_id, other_id, start = TASK, OTHER, START

    @staticmethod
    def task(
        status: str = "Processing",
        task_id: str = TASK,
        task_type: str = "firmwareUpgrade",
        **counts: int,
    ) -> BatchTask:
        """A batch task; its counts add up unless ``total`` is given."""
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
        """The clock."""
        return self.now

    @staticmethod
    def draw() -> float:
        """Fixed, so that no routine save falls between a test's first looks."""
        return 0.0

    def show(self, *answers: Any, of: str = TASK) -> None:
        """Prepare the answers to reading a task, in order."""
        self.shows[of] = list(answers)

    async def read_tasks(self, batch_task_ids: Sequence[str]) -> list[BatchTask | IoTDAError]:
        """Answer from the script."""
        self.asked.append("read")
        return [_next(self.shows[key]) for key in batch_task_ids]

    async def read_failed(self, batch_task_id: str, tally: Any) -> None:
        """Pass the scripted rows on, and raise the error among them."""
        self.asked.append("rows")
        for row in self.rows:
            if isinstance(row, IoTDAError):
                raise row
            tally.add(row)

    async def read_retrying(
        self, batch_task_id: str, add: Callable[[Subtask], None], most: int
    ) -> None:
        """Pass the scripted rows of this task on, and raise the error among them."""
        self.asked.append("retrying rows")
        for row in self.retrying.get(batch_task_id, [])[:most]:
            if isinstance(row, IoTDAError):
                raise row
            add(row)

    async def stop_task(self, batch_task_id: str) -> None:
        """Answer a stop from the script."""
        self.asked.append(f"stop {batch_task_id}")
        answer = _next(self.stops)
        if isinstance(answer, IoTDAError):
            raise answer

    async def rehearse_stop(self, batch_task_id: str) -> None:
        """Answer a rehearsal from the script."""
        self.asked.append(f"rehearse {batch_task_id}")
        if self.rehearsal is not None:
            raise self.rehearsal

    async def save(self, memory: Mapping[str, Any], *, routine: bool = False) -> bool:
        """Keep it for the test."""
        self.asked.append("save")
        self.saved.append(dict(memory))
        return self.saving_works

    async def pause(self, seconds: float) -> None:
        """Let time pass."""
        self.asked.append("pause")
        self.now += seconds

    async def tell(self, alert: Alert) -> None:
        """Keep it for the test."""
        self.asked.append(f"tell {alert.kind}")
        self.told.append(alert)


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
        return run_blocking(self.watch.poll(self.platform))

    def give_up(self) -> Outcome:
        """End the guard's time."""
        return run_blocking(self.watch.give_up(self.platform, "Time is over."))

    def verify(self) -> Outcome | None:
        """Verify the stop."""
        return run_blocking(self.watch.verify(self.platform))

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
        made = GuardPlan.from_dict(made.to_dict())  # as the trigger gets the plan
        remembered = Memory.from_json(memory, ids, made.audit_limit)
        log = logging.getLogger("guard")
        watch = Watch(made, remembered, log, clock=platform.clock, draw=platform.draw)
        return Guard(platform, watch)

    return make
