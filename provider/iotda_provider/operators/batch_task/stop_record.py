"""The record of one stop, which survives a deferral and a crash."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from airflow.providers.common.compat.sdk import Context

from iotda_provider.airflow_support.task_notes import VariableNotes, notes_of
from iotda_provider.models import BatchTask, TaskStatus
from iotda_provider.operators.batch_task.targets import TargetCounts

_log = logging.getLogger(__name__)

_NOTE = "iotda_stop"
#: The XCom with the record of a deferred task, for a task that is resumed without an event.
_XCOM = "deferred_stop"


@dataclass(frozen=True)
class StopRecord:
    """One stop of one task instance: the counts before it, the request, and the answer.

    The same plain JSON is written to three places: to the task instance's notes before the stop is
    sent, for a later try; and to the trigger's memo and an XCom, for the task that is resumed.

    :param batch_task_id: the batch task to stop
    :param requested: the number of targets to stop
    :param stopped_before: targets of the batch task that were stopped before this stop
    :param whole: whether the whole batch task is being stopped, so that its end can be waited for
    :param joined: whether this stop is for some targets while somebody else stops the whole task
    :param again: whether an earlier try of this task instance has sent the stop
    :param began: when this task instance began to work, in seconds since 1970
    :param sent_at: when this task instance sent the stop, or joined one; None: not yet
    :param counts: the platform's answer, counted; None: it has not accepted the stop
    """

    batch_task_id: str
    requested: int
    stopped_before: int
    whole: bool
    joined: bool
    again: bool = False
    began: float = 0.0
    sent_at: float | None = None
    counts: TargetCounts | None = None

    @classmethod
    def of(
        cls, context: Context, task: BatchTask, targets: Sequence[str] | None, *, began: float
    ) -> StopRecord:
        """The record of a stop that is about to be sent, or that an earlier try has sent.

        :param task: the batch task as the platform shows it now
        :param targets: None for the whole task
        """
        earlier = _sent_earlier(context, task)
        if earlier is not None:
            whole = earlier.whole or task.status.is_stop
            requested = earlier.requested if targets is None else len(targets)
            joined = whole and targets is not None
            return replace(earlier, requested=requested, whole=whole, joined=joined, began=began)
        seen = task.progress
        # The platform's counts may not add up: they are not read in one moment.
        unfinished = seen.total - seen.finished - seen.stopped - seen.removed
        stopped = seen.stopped
        if task.status is TaskStatus.STOPPING and targets is None:
            # This stop joins the one that is under way: what that has stopped counts.
            unfinished, stopped = unfinished + stopped, 0
        return cls(
            batch_task_id=task.task_id,
            requested=max(0, unfinished) if targets is None else len(targets),
            stopped_before=stopped,
            whole=targets is None or task.status.is_stop,
            joined=targets is not None and task.status.is_stop,
            began=began,
        )

    @property
    def outcome(self) -> str:
        """The operator's outcome until the batch task has ended."""
        return "stopping" if self.whole else "stopped"

    def keep(self, context: Context) -> None:
        """Write the note before the stop is sent, so that the next try knows whose stop it was."""
        try:
            notes_of(context).set(_NOTE, {"batch_task_id": self.batch_task_id, **self._sent()})
        # Airflow's database or API may fail in many ways, and a stop must not wait for it.
        except Exception:  # noqa: BLE001
            _log.exception("The stop could not be noted; a retry would not know it as its own.")

    @staticmethod
    def forget(context: Context) -> None:
        """Delete the note if it is an Airflow Variable, as the stop is complete.

        In a task state store it stays, so that a task that is cleared knows its stop.
        """
        notes = notes_of(context)
        if isinstance(notes, VariableNotes):
            try:
                notes.delete(_NOTE)
            except Exception:  # noqa: BLE001 - the same
                _log.exception("An Airflow Variable that is not needed could not be deleted.")

    def memo(self, context: Context) -> dict[str, Any]:
        """The record as plain JSON for a trigger's memo; it is pushed as an XCom, too."""
        counts = None if self.counts is None else asdict(self.counts)
        memo = {"sent": self._sent(), "told": counts, "began": self.began, "sent_at": self.sent_at}
        context["ti"].xcom_push(key=_XCOM, value=memo)
        return memo

    @classmethod
    def from_memo(cls, memo: Mapping[str, Any], batch_task_id: str) -> StopRecord:
        """The inverse of :meth:`memo`.

        :raises KeyError, TypeError, ValueError: it is no record
        """
        counts = memo["told"]
        return cls(
            batch_task_id=batch_task_id,
            **memo["sent"],
            began=float(memo.get("began", 0.0)),
            sent_at=memo.get("sent_at"),
            counts=None if counts is None else TargetCounts(**counts),
        )

    @staticmethod
    def memo_in_xcom(context: Context) -> Any:
        """The memo that :meth:`memo` has pushed as an XCom of this task instance."""
        ti: Any = context["ti"]
        return ti.xcom_pull(task_ids=ti.task_id, key=_XCOM, map_indexes=ti.map_index)

    def _sent(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in (*_SENT, "again")}


#: The fields that are known before the stop is sent.
_SENT = ("requested", "stopped_before", "whole", "joined")


def _sent_earlier(context: Context, task: BatchTask) -> StopRecord | None:
    """The stop that an earlier try of this task instance has noted; None: there is none."""
    try:
        noted = notes_of(context).get(_NOTE)
        if not isinstance(noted, dict) or noted.get("batch_task_id") != task.task_id:
            return None
        sent = {name: noted[name] for name in _SENT}
    except Exception:  # noqa: BLE001 - the same
        _log.exception("The note of an earlier try's stop can't be read; going on without it.")
        return None
    # If the task is not being stopped, the earlier try has noted the stop and not sent it.
    return StopRecord(task.task_id, **sent, again=True) if task.status.is_stop else None
