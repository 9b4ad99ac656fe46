"""Writes what people see of a guard that watches in a worker."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from iotda_provider.guarding import Outcome, Watch
from iotda_provider.guarding.live import HEADER_KEY, LIVE_KEY, LiveRecord, header
from iotda_provider.reporting import push_xcom

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from iotda_provider.guarding.steps import Log

#: Seconds that the end of a guard waits for a record that is being written.
_PATIENCE = 5.0


class LiveInWorker:
    """The XCom ``live`` of the running task instance.

    While the guard watches, a thread writes it: Airflow's API may take its time, and no look and no
    stop waits for that. One that can't be written is left out; the next one follows in a minute.

    :param watch: whose record it is
    :param context: Airflow's context of the running task instance
    :param log: where its lines go
    """

    def __init__(self, watch: Watch, context: Context, log: Log) -> None:
        self._watch = watch
        self._record = LiveRecord(watch)
        self._context = context
        self._log = log
        self._thread: threading.Thread | None = None
        self._is_introduced = False

    def introduce(self, iotda_conn_id: str) -> None:
        """After the first look: say once, in the XCom ``rollout``, what this is about."""
        if self._is_introduced:
            return
        self._is_introduced = True
        plan = self._watch.plan
        about = header(
            "guard",
            plan.batch_task_ids,
            self._watch.tasks,
            rules=plan.rules,
            iotda_conn_id=iotda_conn_id,
            poll_interval=plan.poll_interval,
        )
        push_xcom(self._context, HEADER_KEY, about, self._log)

    def show(self) -> None:
        """After a look: begin to write the record, where it is due."""
        if self._thread is not None and self._thread.is_alive():
            return
        now = time.time()
        if self._record.wants_writing(now) is not None:
            value = self._record.compose(now)
            self._thread = threading.Thread(
                target=push_xcom, args=(self._context, LIVE_KEY, value, self._log), daemon=True
            )
            self._thread.start()

    def settle(self, outcome: Outcome | None = None) -> None:
        """Write the record before the task ends or is deferred.

        :param outcome: how the watch has ended, where it has
        """
        if self._thread is not None:
            self._thread.join(_PATIENCE)
        value = self._record.compose(time.time(), outcome=outcome)
        push_xcom(self._context, LIVE_KEY, value, self._log)
