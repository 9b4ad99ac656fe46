"""The emulated platform: tasks, devices, groups, packages, and the commands that change them.

No HTTP and no real time here. The same scenario, seed and commands at the same virtual times give
the same world, so that a restarted emulator can continue.
"""

from __future__ import annotations

from array import array
from bisect import insort
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from iotda_provider.emulator.common import errors
from iotda_provider.emulator.common.clock import MICRO, basic, to_micro
from iotda_provider.emulator.common.errors import ApiError, ScenarioError
from iotda_provider.emulator.common.paging import Page, below, described
from iotda_provider.emulator.common.randomness import Draws
from iotda_provider.emulator.scenario.scenario import DEFAULT_APP_ID, Scenario, SeedTask
from iotda_provider.emulator.service import status_rules
from iotda_provider.emulator.service.batch_task import NONE, Task
from iotda_provider.emulator.service.device_queries import Devices
from iotda_provider.emulator.service.engine import Engine
from iotda_provider.emulator.service.event_queue import EventQueue
from iotda_provider.emulator.service.fleet import Fleet
from iotda_provider.emulator.service.groups import Groups
from iotda_provider.emulator.service.packages import Library
from iotda_provider.emulator.service.task_requests import TaskRequest, read_task_request
from iotda_provider.models import TaskStatus

# The result of a call for each target.
Results = list[dict[str, str]]

_ROWS_IN_TURN = {
    "stop": status_rules.STOPPABLE,
    "retry": status_rules.RETRYABLE,
    "confirm": frozenset({status_rules.WAITING}),
}


class World:
    """Everything the platform knows at one moment of virtual time.

    :param start_time: when the emulator starts, in seconds since 1970; tasks that the scenario
        has created before then have virtual time before it
    """

    def __init__(self, scenario: Scenario, seed: int, start_time: float) -> None:
        self.scenario = scenario
        self.switches = scenario.switches
        history = max((task.created_ago for task in scenario.batch_tasks), default=0.0)
        self.origin = start_time - history
        self.now = 0
        self.start = to_micro(history)
        self._draws = Draws(seed)
        self._queue = EventQueue()
        self.fleet = Fleet(scenario, self._draws, self.start)
        self.groups = Groups(scenario, self._draws, self.fleet, self.moment)
        self.groups.matching = lambda test: self.devices().matching(test)
        self.library = Library(scenario, self.fleet.versions, self.moment)
        self.fleet.settle_versions(_current_versions(scenario))
        self.engine = Engine(scenario, self.fleet, self._draws, self._queue, self._forget)
        self._made = 0
        self._tasks: dict[str, Task] = {}
        self._ids: list[str] = []
        self._by_number: dict[int, Task] = {}
        self._instance = self._draws.hex(10, "task ids")
        self.commands: Mapping[str, Callable[..., Any]] = {
            "create_task": self.create_task,
            **{action: partial(self.act, action) for action in _ROWS_IN_TURN},
            "delete_task": self.delete_task,
            "remove_device": self.remove_device,
            **self.groups.commands,
            **self.library.commands,
        }
        places = sorted(enumerate(scenario.batch_tasks), key=lambda item: -item[1].created_ago)
        for place, seed_task in places:
            self.advance(self.start - to_micro(seed_task.created_ago))
            self._seed(seed_task, f"batch_tasks[{place}]")
        self.advance(self.start)

    def moment(self) -> float:
        """The present in seconds since 1970."""
        return self.origin + self.now / MICRO

    def advance(self, now: int) -> None:
        """Do everything that is due by ``now``, in its order."""
        pop, fire, tasks = self._queue.pop_until, self.engine.fire, self._by_number
        while (event := pop(now)) is not None:
            due, number, row = event
            task = tasks.get(number)
            if task is not None:
                self.now = due
                fire(task, row, due)
        self.now = max(self.now, now)

    # Reading

    def devices(self) -> Devices:
        """The devices as they are at present."""
        return Devices(self.fleet, self.groups, self.origin, self.now)

    def task(self, task_id: str) -> Task:
        """A task by its id.

        :raises ApiError: no task has this id
        """
        task = self._tasks.get(task_id)
        if task is None:
            raise self.refusal("task_not_found", f"The batch task {task_id} does not exist.")
        return task

    def tasks(
        self, page: Page, app_id: str | None, task_type: str | None, status: str | None
    ) -> tuple[int, list[Task]]:
        """How many tasks there are of this kind, and one page of them."""

        def wanted(task: Task) -> bool:
            return (
                (app_id is None or task.fields["app_id"] == app_id)
                and (task_type is None or task.task_type == task_type)
                and (status is None or task.status == status)
            )

        every = (self._tasks[task_id] for task_id in below(self._ids, page.marker))
        if app_id is None and task_type is None and status is None:
            return len(self._ids), page.cut(every)
        count = sum(1 for task in self._tasks.values() if wanted(task))
        return count, page.cut(task for task in every if wanted(task))

    def rows(
        self, task: Task, page: Page, status: str | None, target: str | None
    ) -> tuple[int, list[int]]:
        """How many subtasks of a task are of this kind, and the rows of one page of them."""
        code = None
        if status is not None:
            code = status_rules.CODES.get(status)
            if code is None:
                return 0, []  # a documented word that no subtask here ever has
        start = task.row_below(page.marker)
        if target is not None:
            device = self.fleet.find(target)
            found = [] if device is None else list(task.rows_of([device]).values())
            found = [row for row in found if code is None or task.statuses[row] == code]
            return len(found), page.cut(row for row in found if row < start)
        count = len(task) if code is None else task.counts[code]
        return count, page.cut(task.newest_first(start, code))

    def describe(self, task: Task) -> dict[str, Any]:
        """A task as the API shows it."""
        shown: dict[str, Any] = {"task_id": task.task_id}
        shown.update((key, value) for key, value in task.fields.items() if key != "app_id")
        shown["status"] = str(task.status)
        if task.status_desc is not None:
            shown["status_desc"] = task.status_desc
        shown["task_progress"] = task.progress()
        shown["create_time"] = basic(self.origin + task.created / MICRO)
        return shown

    def describe_row(self, task: Task, row: int) -> dict[str, Any]:
        """A subtask as the API shows it."""
        code = task.statuses[row]
        shown: dict[str, Any] = {
            "target": self.fleet.id_of(task.devices[row]),
            "status": str(status_rules.SUBTASK_STATUSES[code]),
        }
        if code in (status_rules.FAIL, status_rules.FAIL_WAIT_RETRY):
            error_code, message = self.engine.errors[task.errors[row]]
            shown["output"] = message
            shown["error"] = {"error_code": error_code, "error_msg": message}
        elif code == status_rules.SUCCESS:
            shown["output"] = "success"
        return shown

    def page_of_rows(self, task: Task, count: int, rows: Sequence[int]) -> dict[str, object]:
        """The ``page`` of an answer with these rows."""
        return described(count, rows, task.record_id)

    def refusal(self, name: str, message: str) -> ApiError:
        """A refusal whose status and code the scenario chooses."""
        return self.switches.error_codes.refusal(name, message)

    # Commands

    def create_task(self, body: object) -> Task:
        """Create a batch task from the body of the call."""
        request = read_task_request(body, self.moment())
        # All checks come first: a refused call must change nothing.
        versions = self.library.target_versions(request.task_type, request.package_ids)
        return self._add(request, self._devices_of(request), versions, None)

    def _devices_of(self, request: TaskRequest) -> Sequence[int]:
        if request.group_ids is not None:
            return self.groups.devices_of(request.group_ids)
        return array("I", map(self.fleet.intern, request.targets or ()))

    def _add(
        self,
        request: TaskRequest,
        devices: Sequence[int],
        versions: Mapping[str, int],
        task_id: str | None,
    ) -> Task:
        number = self._made = self._made + 1
        if task_id is None:
            task_id = f"{int(self.moment()):08x}{self._instance}{number:06x}"
        fields = dict(request.fields)
        if len(fields.get("targets", ())) > self.switches.echo_targets:
            # Answers never show these ids, and they would be most of a large task's memory.
            del fields["targets"]
        fields["app_id"] = request.app_id or DEFAULT_APP_ID
        task = Task(number, task_id, request.task_type, fields, devices, self.now)
        task.need_confirm = request.need_confirm
        task.versions = versions
        task.retry_count = request.retry_count
        task.retry_interval = to_micro(request.retry_interval * 60)
        task.retries_left = bytearray([request.retry_count]) * len(devices)
        task.start_at = self.now + to_micro(self.switches.initializing)
        if request.start_at is not None:
            task.start_at = max(task.start_at, to_micro(request.start_at - self.origin))
        self._tasks[task_id] = task
        self._by_number[number] = task
        insort(self._ids, task_id)
        if devices:
            self.engine.add(task)
        else:
            task.status_desc = "No device matches the targets."
            task.become(TaskStatus.FAIL)
        return task

    def _seed(self, seed: SeedTask, name: str) -> None:
        if seed.task_id in self._tasks:
            raise ScenarioError(f"{name}.task_id is taken: {seed.task_id}")
        devices: Sequence[int] | None = None
        if seed.all_devices:
            devices = range(self.fleet.made)
        elif seed.first_devices is not None:
            devices = range(seed.first_devices)
        body = seed.body
        if seed.task_type.is_confirmable:
            package_id = self.library.any_package(seed.task_type)
            body.setdefault("document", {"package_ids": [package_id]})
        try:
            request = read_task_request(body, self.moment(), targets_known=devices is not None)
            versions = self.library.target_versions(request.task_type, request.package_ids)
            if devices is None:
                devices = self._devices_of(request)
            self._add(request, devices, versions, seed.task_id)
        except ApiError as error:
            raise ScenarioError(f"{name} is refused: {error}") from None

    def act(
        self, action: str, task_id: str, targets: Sequence[str] | None = None
    ) -> Results | None:
        """Stop, retry or confirm a task, or these targets of it; a result for each target."""
        task = self.task(task_id)
        self._permit(action, status_rules.blocked_because(action, task.task_type, task.status))
        rows, results = self._choose(action, task, targets)
        if action == "stop":
            self.engine.stop(task, rows, self.now, whole=results is None)
        elif action == "retry":
            self.engine.retry(task, rows, self.now)
        else:
            self.engine.confirm(task, rows, self.now)
        return self._results(task, rows) if results is None else results

    def delete_task(self, task_id: str) -> None:
        """Delete a task that has ended."""
        task = self.task(task_id)
        self._permit("delete", status_rules.delete_blocked_because(task.status))
        del self._tasks[task_id]
        self._ids.remove(task_id)
        if not task.installing:
            del self._by_number[task.number]

    def remove_device(self, device_id: str) -> None:
        """Delete a device from the platform; running subtasks for it become Removed."""
        self._forget(self.groups.device(device_id))

    def _forget(self, device: int) -> None:
        self.groups.forget(device)
        for task in self._tasks.values():
            if not task.status.is_terminal:
                self.engine.remove_device(task, device)

    def _permit(self, action: str, reason: str | None) -> None:
        if reason is not None:
            raise self.refusal(
                f"{action}_refused", f"Operation not allowed. Can't {action}: {reason}."
            )

    def _choose(
        self, action: str, task: Task, targets: Sequence[str] | None
    ) -> tuple[list[int], Results | None]:
        """The rows that a call is about, and the results for its targets (None: all rows)."""
        statuses = _ROWS_IN_TURN[action]
        if targets is not None:
            ids = list(dict.fromkeys(targets))
            if not ids and self.switches.empty_targets == "refuse":
                raise errors.invalid("targets must not be empty.")
            if ids or self.switches.empty_targets == "none":
                return self._choose_targets(action, task, ids)
        rows = task.rows_in(statuses)
        if action == "confirm":
            rows = [row for row in rows if self._waits(task, row)]
        return rows, None

    def _choose_targets(
        self, action: str, task: Task, ids: Sequence[str]
    ) -> tuple[list[int], Results]:
        statuses = _ROWS_IN_TURN[action]
        devices = {target: self.fleet.find(target) for target in ids}
        places = task.rows_of([d for d in devices.values() if d is not None])
        rows, results = [], []
        for target, device in devices.items():
            row = None if device is None else places.get(device)
            if row is None:
                message = "Invalid input. The target is not in the task"
                results.append(_failure(target, "IOTDA.014219", message))
                continue
            status = task.statuses[row]
            if status not in statuses or (action == "confirm" and not self._waits(task, row)):
                code = self.switches.error_codes.target_refused.code
                message = (
                    f"Operation not allowed. The target is {status_rules.SUBTASK_STATUSES[status]}"
                )
                results.append(_failure(target, code, message))
                continue
            rows.append(row)
            results.append({"target": target, "status": "success"})
        return rows, results

    def _waits(self, task: Task, row: int) -> bool:
        """Whether this Waitting subtask waits for a confirmation, and not for its device."""
        return task.need_confirm and task.steps[row] == NONE

    def _results(self, task: Task, rows: Sequence[int]) -> Results | None:
        answer = self.switches.all_answer
        if answer == "results":
            ids = self.fleet.id_of
            return [{"target": ids(task.devices[row]), "status": "success"} for row in rows]
        return [] if answer == "empty" else None


def _current_versions(scenario: Scenario) -> dict[str, str]:
    """The version that devices which are already current run, by product; "" is for any."""
    current: dict[str, str] = {}
    for package in scenario.packages:
        if package.package_type == "firmwarePackage":
            current.setdefault(package.product_id or "", package.version)
    return current


def _failure(target: str, code: str, message: str) -> dict[str, str]:
    return {"target": target, "status": "failure", "error_code": code, "error_msg": message}
