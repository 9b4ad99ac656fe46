"""What happens to subtasks over virtual time, and what a stop, retry or confirmation does."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from iotda_provider.emulator.common.clock import to_micro
from iotda_provider.emulator.common.randomness import Draws, Mix
from iotda_provider.emulator.scenario.distributions import Constant
from iotda_provider.emulator.scenario.scenario import Behaviour, Scenario
from iotda_provider.emulator.service import status_rules
from iotda_provider.emulator.service.batch_task import (
    BREAK,
    INSTALL,
    NONE,
    START,
    STOP,
    SUCCEED,
    Task,
)
from iotda_provider.emulator.service.event_queue import WHOLE_TASK, EventQueue
from iotda_provider.emulator.service.fleet import Fleet
from iotda_provider.models import TaskStatus, TaskType

# Errors that the platform itself gives, by number; what devices report comes after them.
NO_ERROR, NOT_REGISTERED, OFFLINE, TIMEOUT, CONFLICT = range(5)
_PLATFORM_ERRORS = (
    ("", ""),
    ("IOTDA.014000", "The device does not exist"),
    ("IOTDA.014016", "Operation not allowed. The device is not online."),
    ("IOTDA.005020", "The device did not report the upgrade result in time"),
    ("IOTDA.005021", "The device has another upgrade task in progress"),
)

_MAX_ATTEMPTS = 255
_QUICK = to_micro(1.0)


class Engine:
    """Moves subtasks from status to status; every time is in virtual microseconds.

    :param forget: removes a device that a task has deleted from the whole platform
    """

    def __init__(
        self,
        scenario: Scenario,
        fleet: Fleet,
        draws: Draws,
        queue: EventQueue,
        forget: Callable[[int], None],
    ) -> None:
        self.errors: list[tuple[str, str]] = list(_PLATFORM_ERRORS)
        self._fleet = fleet
        self._forget = forget
        self._draws = draws
        self._queue = queue
        self._switches = scenario.switches
        self._dispatch_rate = scenario.dispatch_rate
        self._mixes = [self._mix(behaviour) for behaviour in fleet.behaviours]
        # Packages that fail at a rate of their own, by the number of their version.
        self._package_rates = {
            fleet.versions.number(package.version): package.failure_rate
            for package in scenario.packages
            if package.failure_rate is not None
        }
        self._outbox: list[tuple[int, int, int]] = []
        # The task that upgrades a device now, by device; read only when a second task begins.
        self._holders: dict[int, tuple[Task, int]] = {}

    def _mix(self, behaviour: Behaviour) -> Mix:
        numbers = []
        for code, message, _ in behaviour.failures:
            if (code, message) not in self.errors:
                self.errors.append((code, message))
            numbers.append(self.errors.index((code, message)))
        return Mix.of(numbers, [weight for _, _, weight in behaviour.failures])

    # From creation to the end

    def add(self, task: Task) -> None:
        """Take up a new task."""
        self._queue.push(
            task.created + to_micro(self._switches.initializing), task.number, WHOLE_TASK
        )

    def fire(self, task: Task, row: int, due: int) -> None:
        """Do what was due for a row, unless the row has changed meanwhile."""
        if row == WHOLE_TASK:
            self._begin_task(task, due)
        elif task.due[row] == due and task.steps[row] != NONE:
            step, task.steps[row] = task.steps[row], NONE
            self._act(task, row, step, due)
        else:
            return
        self.settle(task)
        self._flush()

    def _begin_task(self, task: Task, now: int) -> None:
        if task.status not in (TaskStatus.INITIALIZING, TaskStatus.WAITING) or task.opened:
            return
        if task.start_at > now:
            task.become(TaskStatus.WAITING)
            self._queue.push(task.start_at, task.number, WHOLE_TASK)
            return
        task.opened = True
        if not task.need_confirm:
            task.become(TaskStatus.PROCESSING)
            self._start(task, task.rows_in(frozenset({status_rules.WAITING})), now)

    def _start(self, task: Task, rows: Iterable[int], now: int) -> None:
        """Start rows that are Waitting and have nothing planned."""
        fleet, rate = self._fleet, self._dispatch_rate
        draw = self._draws.stream("start", task.number)
        sent = 0
        for row in rows:
            if task.steps[row] != NONE:
                continue
            device = task.devices[row]
            delay = fleet.behaviour(device).start_after
            due = now
            if not isinstance(delay, Constant) or delay.value:
                due += to_micro(delay.at(draw(fleet.id_of(device))[0]))
            if rate is not None:
                due += to_micro(sent / rate)
                sent += 1
            if due > now:
                self._plan(task, row, START, due)
            else:
                self._attempt(task, row, now)

    def _act(self, task: Task, row: int, step: int, now: int) -> None:
        if step == START:
            self._attempt(task, row, now)
        elif step == SUCCEED:
            self._succeed(task, row, now)
        elif step == BREAK:
            self._break(task, row, now)
        elif step == STOP:
            task.errors[row] = NO_ERROR
            task.move(row, status_rules.STOPPED)
            if row in task.installing:
                self._plan(task, row, INSTALL, task.installing[row])
        elif step == INSTALL:
            del task.installing[row]
            self._install(task, row, now)

    def _attempt(self, task: Task, row: int, now: int) -> None:
        if task.statuses[row] == status_rules.FAIL_WAIT_RETRY:
            task.move(row, status_rules.WAITING)
        fleet, device = self._fleet, task.devices[row]
        if not fleet.is_registered(device):
            task.errors[row] = NOT_REGISTERED
            task.move(row, status_rules.FAIL)
            return
        if not task.task_type.is_confirmable:
            task.move(row, status_rules.PROCESSING)
            self._plan(task, row, SUCCEED, now + _QUICK)
            return
        if self._waits_for_device(task, row, device, now):
            return
        if task.statuses[row] == status_rules.WAITING:
            task.move(row, status_rules.PROCESSING)
        if self._is_current(task, device):
            delay = to_micro(self._switches.version_query)
            if delay:
                task.began[row] = now
                self._plan(task, row, SUCCEED, now + delay)
            else:
                self._succeed(task, row, now)
            return
        if self._switches.task_conflict == "fail" and not self._take(task, row, device):
            task.errors[row] = CONFLICT
            task.retries_left[row] = 0
            self._break(task, row, now)
            return
        self._draw_fate(task, row, device, now)

    def _waits_for_device(self, task: Task, row: int, device: int, now: int) -> bool:
        online = self._fleet.connections.online_at(device, now)
        if online <= now:
            return False
        if self._switches.offline_status == "Processing" and (
            task.statuses[row] == status_rules.WAITING
        ):
            task.move(row, status_rules.PROCESSING)
        task.began[row] = now
        patience = now + to_micro(self._switches.offline_wait)
        if online <= patience:
            self._plan(task, row, START, online)
        else:
            task.errors[row] = OFFLINE
            self._plan(task, row, BREAK, patience)
        return True

    def _is_current(self, task: Task, device: int) -> bool:
        if task.task_type is TaskType.MODULE_UPGRADE:
            return False
        fleet = self._fleet
        software = task.task_type is TaskType.SOFTWARE_UPGRADE
        behaviour = fleet.behaviour(device)
        target = task.version_for(behaviour.product_id)
        runs = fleet.version(device, software=software)
        if runs == target:
            return True
        if not behaviour.already_current or software:
            return False
        # A scenario without packages does not know in advance which version is the current one.
        untouched = runs == fleet.versions.number(behaviour.fw_version)
        if untouched and fleet.was_current(device, behaviour):
            fleet.install(device, target, software=software)
            return True
        return False

    def _take(self, task: Task, row: int, device: int) -> bool:
        holder = self._holders.get(device)
        if holder is not None:
            other, place = holder
            if other is not task and other.statuses[place] == status_rules.PROCESSING:
                return False
        self._holders[device] = (task, row)
        return True

    def _draw_fate(self, task: Task, row: int, device: int, now: int) -> None:
        behaviour = self._fleet.behaviour(device)
        failed_before = task.errors[row] != NO_ERROR
        attempt = min(task.attempts[row] + 1, _MAX_ATTEMPTS)
        task.attempts[row] = attempt
        task.began[row] = now
        draw = task.streams.get(attempt)
        if draw is None:
            draw = self._draws.stream("fate", task.number, attempt)
            task.streams[attempt] = draw
        what, when, why, _ = draw(self._fleet.id_of(device))
        rate = behaviour.failure_rate
        if self._package_rates:
            version = task.version_for(behaviour.product_id)
            rate = self._package_rates.get(version, rate)
        if failed_before and behaviour.repeat_failure_rate is not None:
            rate = behaviour.repeat_failure_rate
        if what < rate:
            task.errors[row] = self._mixes[self._fleet.segment(device)].at(why)
            self._plan(task, row, BREAK, now + to_micro(behaviour.failure_after.at(when)))
        elif what < rate + behaviour.hang_rate:
            task.errors[row] = TIMEOUT
            self._plan(task, row, BREAK, now + to_micro(self._switches.report_timeout))
        else:
            self._plan(task, row, SUCCEED, now + to_micro(behaviour.success_after.at(when)))

    def _succeed(self, task: Task, row: int, now: int) -> None:
        task.errors[row] = NO_ERROR
        task.move(row, status_rules.SUCCESS)
        self._install(task, row, now)

    def _install(self, task: Task, row: int, now: int) -> None:
        """What a success changes in the device itself."""
        fleet, device, kind = self._fleet, task.devices[row], task.task_type
        if kind in (TaskType.FIRMWARE_UPGRADE, TaskType.SOFTWARE_UPGRADE):
            version = task.version_for(fleet.behaviour(device).product_id)
            fleet.install(device, version, software=kind is TaskType.SOFTWARE_UPGRADE)
            if kind is TaskType.FIRMWARE_UPGRADE:
                runs = fleet.firmware(device)
                fleet.connections.installed(device, runs, now)
        elif kind is TaskType.FREEZE_DEVICES or kind is TaskType.UNFREEZE_DEVICES:
            fleet.freeze(device, kind is TaskType.FREEZE_DEVICES)
        elif kind is TaskType.DELETE_DEVICES:
            self._forget(device)

    def _break(self, task: Task, row: int, now: int) -> None:
        if task.retries_left[row] and task.status is not TaskStatus.STOPPING:
            task.retries_left[row] -= 1
            task.move(row, status_rules.FAIL_WAIT_RETRY)
            self._plan(task, row, START, now + task.retry_interval)
        else:
            task.move(row, status_rules.FAIL)

    def settle(self, task: Task) -> None:
        """Set the task's status by its subtasks."""
        if task.status.is_terminal:
            return
        if not task.live:
            stopped = task.status is TaskStatus.STOPPING
            task.become(status_rules.ended_status(task.counts, stopped))
            task.streams.clear()
        elif task.opened and task.status is not TaskStatus.STOPPING:
            waits = task.need_confirm and not task.confirmed
            if waits and self._switches.unconfirmed_status == "Waitting":
                task.become(TaskStatus.WAITING)
            else:
                task.become(TaskStatus.PROCESSING)

    # Calls of the API

    def stop(self, task: Task, rows: Sequence[int], now: int, whole: bool) -> None:
        """Stop these live rows; ``whole`` stops the task with them."""
        fleet, switches = self._fleet, self._switches
        draw = self._draws.stream("stop", task.number)
        for row in rows:
            if task.steps[row] == STOP:
                continue
            task.retries_left[row] = 0
            due = now + to_micro(switches.stop_after.at(draw(fleet.id_of(task.devices[row]))[0]))
            if switches.stop_installing != "abort" and self._is_installing(task, row, now):
                outcome = task.due[row]
                patience = now + to_micro(switches.stopping_timeout)
                if switches.stop_installing == "finish":
                    if outcome <= patience:
                        continue
                    due = patience
                if task.steps[row] == SUCCEED:
                    task.installing[row] = outcome
            self._plan(task, row, STOP, due)
        if whole:
            task.become(TaskStatus.STOPPING)
        self.settle(task)
        self._flush()

    def _is_installing(self, task: Task, row: int, now: int) -> bool:
        if task.steps[row] not in (SUCCEED, BREAK) or task.errors[row] in (OFFLINE, TIMEOUT):
            return False
        if task.statuses[row] != status_rules.PROCESSING:
            return False
        left, whole = task.due[row] - now, task.due[row] - task.began[row]
        return left <= whole * self._switches.install_share

    def retry(self, task: Task, rows: Sequence[int], now: int) -> None:
        """Start these rows again: they have failed, wait for a retry or were stopped."""
        for row in rows:
            task.move(row, status_rules.WAITING)
            task.steps[row] = NONE
            task.retries_left[row] = task.retry_count
            task.installing.pop(row, None)
        if rows:
            task.become(TaskStatus.PROCESSING)
        self._start(task, rows, now)
        self.settle(task)
        self._flush()

    def confirm(self, task: Task, rows: Sequence[int], now: int) -> None:
        """Start these rows, which wait for a confirmation."""
        if rows:
            task.confirmed = True
        if task.opened:
            self._start(task, rows, now)
        else:
            for row in rows:
                self._plan(task, row, START, max(now, task.start_at))
        self.settle(task)
        self._flush()

    def remove_device(self, task: Task, device: int) -> None:
        """Take a device that no longer exists out of a running task."""
        for row in task.rows_of([device]).values():
            if task.statuses[row] in status_rules.LIVE:
                task.steps[row] = NONE
                task.move(row, status_rules.REMOVED)
        self.settle(task)

    def _plan(self, task: Task, row: int, step: int, due: int) -> None:
        task.steps[row] = step
        task.due[row] = due
        self._outbox.append((due, task.number, row))

    def _flush(self) -> None:
        if self._outbox:
            self._queue.push_many(self._outbox)
            self._outbox.clear()
