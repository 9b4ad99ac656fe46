"""What a stop found and asked for: kept over a deferral, and over a crash."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from iotda_provider.durable import VariableNotes, notes_of
from iotda_provider.models import BatchTask, TaskStatus

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

_log = logging.getLogger(__name__)

_KEY = "iotda_stop"


@dataclass(frozen=True)
class Sent:
    """A stop, in numbers.

    :param requested: how many targets it was for
    :param stopped_before: how many of the task's targets were stopped before it
    :param whole: the whole task comes to an end, so that there is something to wait for
    :param joined: some targets are asked for, and somebody else stops the whole task
    :param again: an earlier try of this task instance has sent it
    """

    requested: int
    stopped_before: int
    whole: bool
    joined: bool
    again: bool = False

    @classmethod
    def before(cls, task: BatchTask, targets: Sequence[str] | None, earlier: Sent | None) -> Sent:
        """What a stop will do to a task as it stands.

        :param targets: None for the whole task
        :param earlier: what an earlier try of this task instance has noted
        """
        if earlier is not None:
            whole = earlier.whole or task.status.is_stop
            requested = earlier.requested if targets is None else len(targets)
            joined = whole and targets is not None
            return replace(earlier, requested=requested, whole=whole, joined=joined)
        counts = task.progress
        # By the platform's counts, which may be a torn read.
        unfinished = counts.total - counts.finished - counts.stopped - counts.removed
        stopped = counts.stopped
        if task.status is TaskStatus.STOPPING and targets is None:
            # It was as good as sent by us: what it has stopped so far counts.
            unfinished, stopped = unfinished + stopped, 0
        return cls(
            requested=max(0, unfinished) if targets is None else len(targets),
            stopped_before=stopped,
            whole=targets is None or task.status.is_stop,
            joined=targets is not None and task.status.is_stop,
        )

    @property
    def outcome(self) -> str:
        """The operator's outcome as long as nothing more is known."""
        return "stopping" if self.whole else "stopped"

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def remember(context: Context, task: BatchTask, sent: Sent) -> None:
    """Note a stop before it is sent, so that the next try knows it was this task's own."""
    try:
        notes_of(context).set(_KEY, {"batch_task_id": task.task_id, **sent.to_json()})
    # Airflow's database or API may be down, in many ways, which must not keep a stop back.
    except Exception:  # noqa: BLE001
        _log.exception("The stop could not be noted; a retry would not know it as its own.")


def sent_before(context: Context, task: BatchTask) -> Sent | None:
    """The stop that an earlier try of this task instance has sent, or may have sent."""
    try:
        noted = notes_of(context).get(_KEY)
        if not isinstance(noted, dict) or noted.get("batch_task_id") != task.task_id:
            return None
        counts = {name: noted[name] for name in ("requested", "stopped_before", "whole", "joined")}
    except Exception:  # noqa: BLE001 - the same
        _log.exception("What an earlier try has sent can't be read; going on without it.")
        return None
    # One that never left is sent now, and what has completed was not stopped by anybody.
    return Sent(**counts, again=True) if task.status.is_stop else None


def forget(context: Context) -> None:
    """The stop has come to its end: leave no Airflow Variable behind.

    A task state store keeps the note, so that there a task that is cleared knows its stop as well.
    """
    notes = notes_of(context)
    if isinstance(notes, VariableNotes):
        try:
            notes.delete(_KEY)
        except Exception:  # noqa: BLE001 - the same
            _log.exception("An Airflow Variable that nobody needs could not be deleted.")
