"""Writes the XComs that people see of a guard, or of a stop, that runs in a worker."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from iotda_provider.rollout_guard import Outcome, Watch
from iotda_provider.rollout_guard.live_record import (
    HEADER_KEY,
    LIVE_KEY,
    Ended,
    LiveRecord,
    StopLiveState,
    header,
)
from iotda_provider.task_io.reports import push_xcom

if TYPE_CHECKING:
    from collections.abc import Mapping
    from concurrent.futures import Future

    from airflow.providers.common.compat.sdk import Context

    from iotda_provider.models import BatchTask
    from iotda_provider.rollout_guard import Log
    from iotda_provider.rollout_guard.worker import WorkerGuardIO


class LiveInWorker:
    """Writes the XComs ``rollout`` and ``live`` of a guard's running task instance.

    They are written in a thread, because Airflow's API may be slow, and no look and no stop waits
    for it. A record that can't be written is left out; the next one follows within a minute.

    :param watch: the guard
    :param io: the guard's I/O object, whose thread writes
    :param context: Airflow's context of the running task instance
    :param log: the task's log
    """

    def __init__(self, watch: Watch, io: WorkerGuardIO, context: Context, log: Log) -> None:
        self._watch = watch
        self._record = LiveRecord(watch)
        self._io = io
        self._context = context
        self._log = log
        self._writing: Future[None] | None = None
        self._is_introduced = False

    def introduce(self, connection: Mapping[str, Any]) -> None:
        """After the first look: write the XCom ``rollout``, once.

        :param connection: ``iotda_conn_id``, ``project_id`` and ``instance_id``
        """
        if self._is_introduced:
            return
        self._is_introduced = True
        plan = self._watch.plan
        rollout = header(
            "guard",
            plan.batch_task_ids,
            self._watch.tasks,
            rules=plan.rules,
            version=self._io.package_version(self._watch.tasks),
            poll_interval=plan.poll_interval,
            shadow=plan.shadow,
            stops=plan.stops,
            **connection,
        )
        self._push(HEADER_KEY, rollout)

    def show(self) -> None:
        """After a look: begin to write the record if it is due."""
        if self._writing is not None and not self._writing.done():
            return
        now = time.time()
        if self._record.wants_writing(now) is not None:
            self._writing = self._push(LIVE_KEY, self._record.compose(now))

    def settle(self, outcome: Outcome | Ended | None = None) -> None:
        """Begin to write the record before the task ends or is deferred.

        :param outcome: how the watch has ended; None: the triggerer goes on with it
        """
        self._push(LIVE_KEY, self._record.compose(time.time(), outcome=outcome))

    def _push(self, key: str, value: Any) -> Future[None]:
        return self._io.begin(push_xcom, self._context, key, value, self._log)


class LiveStop:
    """Writes the XCom ``live`` of a task that stops a batch task in a worker.

    :param context: Airflow's context of the running task instance
    :param state: the state of the stop
    :param log: the task's log
    """

    def __init__(self, context: Context, state: StopLiveState, log: Log) -> None:
        self._context = context
        self._state = state
        self._record = LiveRecord(state)
        self._log = log

    def show(self, task: BatchTask) -> None:
        """After a look: write the record if it is due."""
        self._state.saw(task)
        now = time.time()
        if self._record.wants_writing(now) is not None:
            push_xcom(self._context, LIVE_KEY, self._record.compose(now), self._log)

    def settle(self, outcome: str, task: BatchTask | None) -> None:
        """Write the last record."""
        if task is not None:
            self._state.saw(task)
        now = time.time()
        self._record.wants_writing(now)
        seen = "" if task is None else f": {task.progress}"
        ended = Ended(outcome, f"{outcome.replace('_', ' ').upper()}{seen}.")
        push_xcom(self._context, LIVE_KEY, self._record.compose(now, outcome=ended), self._log)
