"""The sensor that waits for a maintenance window, without a worker slot."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import conf

from iotda_provider.parameters import given
from iotda_provider.release.window import MaintenanceWindow
from iotda_provider.sensors.base import DeferringSensor
from iotda_provider.waiting import Deadline

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context


class MaintenanceWindowSensor(DeferringSensor):
    """Wait until a maintenance window is open; it succeeds at once where there is none.

    :param window: a ``MaintenanceWindow``, or text such as ``mon-fri 22:00-05:00``; None or empty:
        at any time (templated)
    :param timezone: the timezone of a window that is given as text (templated)
    :param wave: with ``plan_task_id``: whose window it is; a wave that was not planned waits for
        nothing
    :param plan_task_id: the task that has planned the waves
    :param timeout: seconds after which it gives up; 30 days, unless given
    :param deferrable: sleep in the triggerer until it opens, instead of looking at the clock every
        ``poke_interval`` seconds in a new worker
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
        timeout: float = 30 * 86400,
        mode: str = "reschedule",
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        **kwargs: Any,
    ) -> None:
        super().__init__(poke_interval=poke_interval, timeout=timeout, mode=mode, **kwargs)
        self.window = window
        self.timezone = timezone
        self.wave = wave
        self.plan_task_id = plan_task_id
        self.deferrable = deferrable
        if not any("{{" in str(value) or hasattr(value, "resolve") for value in (window, timezone)):
            MaintenanceWindow.of(window, timezone)

    def execute(self, context: Context) -> Any:
        if not self.deferrable:
            return super().execute(context)
        began = time.time()
        return self.as_in_a_worker(lambda: self._wait(context, self.deadline(began)))

    def _wait(self, context: Context, deadline: Deadline) -> None:
        """Sleep in the triggerer until the window opens.

        :raises AirflowSensorTimeout: it does not open in time
        """
        from iotda_provider.triggers.moment import MomentTrigger

        opens, now = self._opens(context), time.time()
        if opens is None:
            return
        if now >= deadline.at:
            raise self.time_is_over(deadline.limit)
        self.defer(
            trigger=MomentTrigger(
                moment=min(opens, deadline.at),
                memo={"deadline": deadline.at, "limit": deadline.limit},
            ),
            method_name="execute_complete",
            timeout=deadline.for_airflow(self.poke_interval, now=now),
        )

    def execute_complete(self, context: Context, event: Any = None) -> None:
        """Look at the clock again, as clocks may have been changed meanwhile."""
        deadline = Deadline(float(event["deadline"]), str(event["limit"]))
        self._wait(context, deadline)

    def poke(self, context: Context) -> bool:
        return self._opens(context) is None

    def _opens(self, context: Context) -> float | None:
        """When it opens, in seconds since 1970; None: it is open, or nobody waits for it."""
        if self.plan_task_id is not None:
            ti: Any = context["ti"]
            if self.wave > len((ti.xcom_pull(task_ids=self.plan_task_id) or {}).get("waves", ())):
                return None
        window = MaintenanceWindow.of(given(self.window), str(given(self.timezone) or "UTC"))
        now = datetime.now(timezone.utc)
        if window is None or window.is_open(now):
            return None
        opens = window.opens(now)
        self.log.info("The window %s is closed; it opens at %s.", window, opens)
        return opens.timestamp()
