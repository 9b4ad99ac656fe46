"""The operator that holds devices for a second try, in one batch task or in several."""

from __future__ import annotations

from typing import Any

from airflow.providers.common.compat.sdk import AirflowFailException, Context

from iotda_provider.operators.batch_task.create import CreateBatchTaskOperator
from iotda_provider.release.device_ids import read_devices


class TryAgainOperator(CreateBatchTaskOperator):
    """Create a batch task for a second try, and several where there are more than 30,000 devices.

    Each is created once, and held until somebody confirms it: pass ``need_confirm=True``. Their
    names end with ``_part_1``, ``_part_2`` and so on where there are several, and with a stamp.

    XComs: the return value is that of ``CreateBatchTaskOperator`` for the first one, with
    ``batch_task_ids`` and ``devices``, how many there are in all.

    :param targets: device ids, in any form of the release's ``devices`` (templated)
    """

    def execute(self, context: Context) -> dict[str, Any]:
        from iotda_provider.api import MAX_TARGETS_PER_TASK

        devices = read_devices(self.targets, "targets")
        if not devices:
            raise AirflowFailException("targets is an empty list: there is nobody to try again.")
        blocks = [
            devices[start : start + MAX_TARGETS_PER_TASK]
            for start in range(0, len(devices), MAX_TARGETS_PER_TASK)
        ]
        made = []
        for part, block in enumerate(blocks):
            wanted = self._wanted(block)
            if len(blocks) > 1:
                wanted["task_name"] += f"_part_{part + 1}"
            made.append(self._create_once(context, wanted, part))
        ids = [one["batch_task_id"] for one in made]
        context["ti"].xcom_push(key="batch_task_id", value=ids[0])
        return {
            **made[0],
            "ended": all(one["ended"] for one in made),
            "batch_task_ids": ids,
            "devices": len(devices),
        }
