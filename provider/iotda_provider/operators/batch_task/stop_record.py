"""What is known of one stop: kept over a deferral, and over a crash."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from iotda_provider.airflow_support.task_notes import VariableNotes, notes_of
from iotda_provider.models import BatchTask, TaskStatus
from iotda_provider.operators.batch_task.targets import TargetCounts

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

_log = logging.getLogger(__name__)

_NOTE = "iotda_stop"
#: The XCom with the record of a deferred task: no event brings it back where no triggerer comes.
_XCOM = "deferred_stop"


@dataclass(frozen=True)
class StopRecord:
    """One stop of one task instance: what it found, what it asked for, and what was answered.

    The same plain JSON is kept in three places: in the task instance's notes, before the stop is
    sent, for a later try; in the trigger's memo and in an XCom, for the task that is resumed.

    :param batch_task_id: the batch task to stop
    :param requested: how many targets the stop is for
    :param stopped_before: how many of the task's targets were stopped before it
    :param whole: the whole task comes to an end, so that there is something to wait for
    :param joined: some targets are asked for, and somebody else stops the whole task
    :param again: an earlier try of this task instance has sent it
    :param began: when this task instance began to work, in seconds since 1970
    :param sent_at: when this task instance sent it, or joined it; None: not yet
    :param counts: what the platform answered; None: it has not taken the stop
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
        """What a stop will do to a task as it stands, gone on with where an earlier try sent it.

        :param targets: None for the whole task
        """
        earlier = _kept(context, task)
        if earlier is not None:
            whole = earlier.whole or task.status.is_stop
            requested = earlier.requested if targets is None else len(targets)
            joined = whole and targets is not None
            return replace(earlier, requested=requested, whole=whole, joined=joined, began=began)
        seen = task.progress
        # By the platform's counts, which may be a torn read.
        unfinished = seen.total - seen.finished - seen.stopped - seen.removed
        stopped = seen.stopped
        if task.status is TaskStatus.STOPPING and targets is None:
            # It was as good as sent by us: what it has stopped so far counts.
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
        """The operator's outcome as long as nothing more is known."""
        return "stopping" if self.whole else "stopped"

    def keep(self, context: Context) -> None:
        """Note the stop before it is sent, so that the next try knows it was this task's own."""
        try:
            notes_of(context).set(_NOTE, {"batch_task_id": self.batch_task_id, **self._sent()})
        # Airflow's database or API may be down, in many ways, which must not keep a stop back.
        except Exception:  # noqa: BLE001
            _log.exception("The stop could not be noted; a retry would not know it as its own.")

    @staticmethod
    def forget(context: Context) -> None:
        """Leave no Airflow Variable behind, now that the stop has come to its end.

        A task state store keeps the note, so that there a task that is cleared knows its stop too.
        """
        notes = notes_of(context)
        if isinstance(notes, VariableNotes):
            try:
                notes.delete(_NOTE)
            except Exception:  # noqa: BLE001 - the same
                _log.exception("An Airflow Variable that nobody needs could not be deleted.")

    def memo(self, context: Context) -> dict[str, Any]:
        """The record as plain JSON for a trigger; it is kept as an XCom, too."""
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
        """What :meth:`memo` has kept in this task instance's XCom."""
        ti: Any = context["ti"]
        return ti.xcom_pull(task_ids=ti.task_id, key=_XCOM, map_indexes=ti.map_index)

    def _sent(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in (*_SENT, "again")}


#: What is known before the stop is sent.
_SENT = ("requested", "stopped_before", "whole", "joined")


def _kept(context: Context, task: BatchTask) -> StopRecord | None:
    """The stop that an earlier try of this task instance has sent, or may have sent."""
    try:
        noted = notes_of(context).get(_NOTE)
        if not isinstance(noted, dict) or noted.get("batch_task_id") != task.task_id:
            return None
        sent = {name: noted[name] for name in _SENT}
    except Exception:  # noqa: BLE001 - the same
        _log.exception("What an earlier try has sent can't be read; going on without it.")
        return None
    # One that never left is sent now, and what has completed was not stopped by anybody.
    return StopRecord(task.task_id, **sent, again=True) if task.status.is_stop else None
