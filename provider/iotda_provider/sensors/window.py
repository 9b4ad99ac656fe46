"""The sensor that waits for a maintenance window, without a worker slot."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import BaseSensorOperator

from iotda_provider.parameters import given
from iotda_provider.release.window import MaintenanceWindow

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context


class MaintenanceWindowSensor(BaseSensorOperator):
    """Wait until a maintenance window is open; it succeeds at once where there is none.

    :param window: a ``MaintenanceWindow``, or text such as ``mon-fri 22:00-05:00``; None or empty:
        at any time (templated)
    :param timezone: the timezone of a window that is given as text (templated)
    :param wave: with ``plan_task_id``: whose window it is; a wave that was not planned waits for
        nothing
    :param plan_task_id: the task that has planned the waves
    :raises ValueError: the window makes no sense
    """

    template_fields: Sequence[str] = ("window", "timezone")
    ui_color = "#eeeeee"

    def __init__(
        self,
        *,
        window: Any = None,
        timezone: str = "UTC",
        wave: int = 0,
        plan_task_id: str | None = None,
        poke_interval: float = 60,
        timeout: float = 8 * 86400,
        mode: str = "reschedule",
        **kwargs: Any,
    ) -> None:
        super().__init__(poke_interval=poke_interval, timeout=timeout, mode=mode, **kwargs)
        self.window = window
        self.timezone = timezone
        self.wave = wave
        self.plan_task_id = plan_task_id
        if not any("{{" in str(value) or hasattr(value, "resolve") for value in (window, timezone)):
            MaintenanceWindow.of(window, timezone)

    def poke(self, context: Context) -> bool:
        if self.plan_task_id is not None:
            ti: Any = context["ti"]
            if self.wave > len((ti.xcom_pull(task_ids=self.plan_task_id) or {}).get("waves", ())):
                return True
        window = MaintenanceWindow.of(given(self.window), str(given(self.timezone) or "UTC"))
        now = datetime.now(timezone.utc)
        if window is None or window.is_open(now):
            return True
        self.log.info("The window %s is closed; it opens at %s.", window, window.opens(now))
        return False
