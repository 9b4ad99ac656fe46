"""Tells people that an operator has stopped a batch task, or could not stop it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any

from airflow.providers.common.compat.sdk import AirflowFailException, AirflowTaskTimeout, Context

from iotda_provider.airflow_support.task_notes import notes_of
from iotda_provider.exceptions import IoTDAError
from iotda_provider.models.text import one_line
from iotda_provider.notifications.telling_task import TellingTask

#: The note that people were told that the stop failed, for the next try.
_NOTE = "iotda_stop_told"
_LONGEST_ERROR = 500


class StopNotices:
    """The messages of one task instance that stops a batch task.

    :param task: tells people; if there is nobody, nothing is done
    :param context: Airflow's context of the running task instance
    """

    def __init__(self, task: TellingTask, context: Context) -> None:
        self._tells = bool(task.audience(context).members)
        self._tell = partial(task.tell, context)
        self._context = context

    @contextmanager
    def of_failures(self, batch_task_id: str) -> Iterator[None]:
        """Tell people of an error in this context, unless an earlier try has told them."""
        try:
            yield
        except (IoTDAError, AirflowFailException, AirflowTaskTimeout) as error:
            if self._tells and not self._were_told():
                reason = one_line(error, _LONGEST_ERROR)
                sentence = f"Batch task {batch_task_id} was not stopped as asked. {reason}"
                self._tell("stop_failed", sentence, batch_task_ids=[batch_task_id])
            raise

    def stopped(self, result: Mapping[str, Any]) -> None:
        """Tell people of a stop.

        :param result: the operator's return value
        """
        if not self._tells or result["outcome"] not in ("stopped", "stopping"):
            return
        failed = f", {result['failed']} could not be stopped" if result["failed"] else ""
        said = (
            f"{result['succeeded']} of {result['requested']} devices were stopped{failed}. Batch "
            f"task {result['batch_task_id']} is {result['status']}."
        )
        about = [result["batch_task_id"]]
        self._tell("stopped", said, batch_task_ids=about, progress=result["progress"])
        with suppress(Exception):  # a note too many does no harm
            notes_of(self._context).delete(_NOTE)

    def _were_told(self) -> bool:
        """Whether an earlier try has told people that it failed; note that this try does."""
        notes = notes_of(self._context)
        ti: Any = self._context["ti"]
        with suppress(Exception):  # while Airflow is down, people are told once more
            if notes.get(_NOTE) is not None:
                return True
            if getattr(ti, "try_number", 1) <= getattr(ti, "max_tries", 0):
                notes.set(_NOTE, {"told": ["stop_failed"]})
        return False
