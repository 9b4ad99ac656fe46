"""Tells people from a task of one's own DAG, as guards do."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from typing import Any

from airflow.providers.common.compat.sdk import Context

from iotda_provider.exceptions import IoTDAParameterError
from iotda_provider.models.text import what_is
from iotda_provider.notifications.in_worker import tell
from iotda_provider.notifications.telling_task import TellingTask

log = logging.getLogger("airflow.task")


def tell_people(
    notifiers: Iterable[Any],
    context: Context,
    kind: str,
    sentence: str,
    *,
    batch_task_ids: Iterable[str] = (),
    progress: Mapping[str, Any] | None = None,
    iotda_conn_id: str = "",
) -> None:
    """Tell people of an event, by the notifiers of a guard; the message is logged, too.

    Each notifier has ten seconds, and an error in one is logged and fails nothing.

    :param notifiers: Airflow's notifiers
    :param context: Airflow's context of the running task
    :param kind: the event's kind, such as ``released``; the message begins with it
    :param sentence: what happened
    :param batch_task_ids: the batch tasks that it is about
    :param progress: the counts of their devices
    :param iotda_conn_id: the connection
    :raises ValueError: ``kind`` or ``sentence`` is no text, or a notifier is none
    """
    texts: dict[str, Any] = {"kind": kind, "sentence": sentence}
    for name, value in texts.items():
        if not isinstance(value, str) or not value:
            raise IoTDAParameterError(f"{name} must be text, got {what_is(value)}")
    teller = _Teller(context, iotda_conn_id)
    teller._tell_to(notifiers, deferrable=False)
    event = teller.event(context, kind, sentence, batch_task_ids, progress)
    log.warning("%s", event["message"])
    tell(teller.audience(context), event, log)


class _Teller(TellingTask):
    """The running task, as far as notifiers need it."""

    def __init__(self, context: Context, iotda_conn_id: str) -> None:
        task: Any = context.get("task")
        self.iotda_conn_id = iotda_conn_id
        self.log = log
        if task is not None:
            self.render_template = task.render_template
