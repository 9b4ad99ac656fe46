"""The operator that emits the asset event of a broken rule."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from airflow.providers.common.compat.sdk import AirflowSkipException, Context

from iotda_provider.airflow_support.mapped_xcoms import MappedXComsAsLists
from iotda_provider.rollout_guard.outcome import BREACHED
from iotda_provider.task_io.parameters import as_mapping, none_if_blank

_FACTS = ("batch_task_id", "batch_task_ids", "summary")


class AnnounceBreachOperator(MappedXComsAsLists):
    """Emit an asset event, on which other DAGs can start, if a guard has found a rule broken.

    The event is that of the assets in ``outlets``. Its ``extra`` has the ``summary``, and the
    ``batch_task_id`` or ``batch_task_ids``, of the result. Without a breach the task is skipped.

    :param result: what ``RolloutGuardSensor`` or a rollout's ``outcome`` has returned; None, if it
        has left none (templated)
    """

    template_fields: Sequence[str] = ("result",)

    def __init__(self, *, result: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.result = result

    def execute(self, context: Context) -> None:
        given = none_if_blank(self.result)
        result = {} if given is None else as_mapping(given, "result")
        if result.get("verdict") != BREACHED:
            raise AirflowSkipException("No rule was broken.")
        for asset in self.outlets:
            events: Any = context["outlet_events"]
            events[asset].extra = {name: result[name] for name in _FACTS if name in result}
