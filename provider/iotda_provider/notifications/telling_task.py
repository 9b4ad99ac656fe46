"""The parameters ``notifiers`` and ``on_alert`` of operators and sensors."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any

from airflow.providers.common.compat.sdk import Context

from iotda_provider.airflow_support.task_notes import owner_of
from iotda_provider.models.times import utc_text
from iotda_provider.notifications import in_worker
from iotda_provider.notifications.audience import About, Audience
from iotda_provider.notifications.on_alert import OnAlert
from iotda_provider.notifications.recorded import RecordedNotifier, record
from iotda_provider.notifications.rendering import rendered
from iotda_provider.task_io.dag_parameters import function_or_path, importable_path


class TellingTask:
    """A mixin for operators and sensors that tell people; name it before the base class."""

    notifiers: tuple[RecordedNotifier, ...] = ()
    on_alert: OnAlert | None = None

    def _tell_to(
        self, notifiers: Iterable[Any] | None, on_alert: Any = None, *, deferrable: bool
    ) -> None:
        """Check and store the parameters.

        :param deferrable: whether a triggerer may have to make the notifiers
        :raises ValueError: a notifier or ``on_alert`` is invalid; the message names it
        """
        self.notifiers = record(notifiers, importable=deferrable)
        self.on_alert = function_or_path(on_alert, "on_alert")
        if deferrable:
            importable_path(self.on_alert, "on_alert")

    def audience(self, context: Context) -> Audience:
        """Whom a running task tells of events; nothing is rendered before the first one."""
        render = partial(self._rendered, context)
        return Audience(self.notifiers, self.on_alert, self._about(context), render=render)

    def told(self, context: Context) -> dict[str, Any]:
        """The arguments of a trigger that tells the same people."""
        return {
            "on_alert": importable_path(self.on_alert, "on_alert"),
            "notifiers": [self._rendered(context, one).to_json() for one in self.notifiers],
            "try_number": self._about(context).try_number,
        }

    def tell(
        self,
        context: Context,
        kind: str,
        sentence: str,
        *,
        batch_task_ids: Iterable[str] | None = None,
        progress: Mapping[str, Any] | None = None,
    ) -> None:
        """Tell people of an event from a worker; returns when each notifier was called.

        :param kind: the event's kind; the message begins with it
        :param sentence: what happened
        :param batch_task_ids: the batch tasks that it is about
        :param progress: the counts of their devices
        """
        if not self.notifiers and self.on_alert is None:
            return
        event = self.event(context, kind, sentence, batch_task_ids, progress)
        task: Any = self
        in_worker.tell(self.audience(context), event, task.log)

    def event(
        self,
        context: Context,
        kind: str,
        sentence: str,
        batch_task_ids: Iterable[str] | None,
        progress: Mapping[str, Any] | None,
    ) -> dict[str, Any]:
        """The event as people are told of it; the parameters are those of :meth:`tell`."""
        facts = {
            "batch_task_ids": list(batch_task_ids or ()),
            "time": utc_text(time.time()),
            "progress": [dict(progress or {})],
        }
        return self.audience(context).event({"kind": kind, "sentence": sentence, **facts})

    def _about(self, context: Context) -> About:
        ti: Any = context["ti"]
        number = getattr(ti, "try_number", 1)
        return About(
            **owner_of(ti),
            try_number=number if isinstance(number, int) else 1,
            iotda_conn_id=getattr(self, "iotda_conn_id", ""),
        )

    def _rendered(self, context: Context, notifier: RecordedNotifier) -> RecordedNotifier:
        task: Any = self
        return rendered(notifier, lambda text: task.render_template(text, context), task.log)
