"""What the steps of a wave share that wait for a maintenance window."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from airflow.providers.common.compat.sdk import Context

from iotda_provider.exceptions import BatchTaskTimeoutError
from iotda_provider.operators.release.wave import WaveOperator
from iotda_provider.release.maintenance_window import MaintenanceWindow
from iotda_provider.task_io.dag_parameters import is_template
from iotda_provider.task_io.parameters import none_if_blank, optional_text, positive

#: The default of ``timeout`` in seconds: the time of open windows, an addition because a window may
#: open late, and the most of both together.
_TIMEOUT, _SLACK, _LONGEST = 7 * 86400.0, 16 * 86400.0, 366 * 86400.0


class WindowedOperator(WaveOperator):
    """A step of a wave that waits for its maintenance window.

    :param window: a ``MaintenanceWindow``, or text such as ``mon-fri 22:00-05:00``; None: at any
        time (templated)
    :param timezone: the timezone of a window that is given as text (templated)
    :param timeout: seconds after which it gives up waiting. None: a week; with a window, a
        week divided by the share of a week in which it is open, plus 16 days, at most 366 days
    """

    template_fields: Sequence[str] = (*WaveOperator.template_fields, "window", "timezone")

    def __init__(
        self,
        *,
        window: Any = None,
        timezone: str = "UTC",
        timeout: float | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.window = window
        self.timezone = timezone
        self.timeout = None if timeout is None else positive(timeout, "timeout")
        if not is_template(window) and not is_template(timezone):
            MaintenanceWindow.of(window, timezone)

    def open_window(self) -> MaintenanceWindow | None:
        """The window; None: there is none."""
        timezone = optional_text(self.timezone, "timezone") or "UTC"
        return MaintenanceWindow.of(none_if_blank(self.window), timezone)

    def seconds_to_wait(self) -> float:
        """Seconds after which it gives up waiting."""
        if self.timeout is not None:
            return self.timeout
        window = self.open_window()
        if window is None:
            return _TIMEOUT
        return min(_TIMEOUT / window.share + _SLACK, _LONGEST)

    def without_triggerer(self, context: Context) -> dict[str, Any]:
        timeout = self.seconds_to_wait()
        if self.earlier_limit(timeout) == "execution_timeout":
            raise self.execution_timeout_error()
        raise BatchTaskTimeoutError(
            f"Wave {self.wave} could not go on in {timeout:.0f} s, and no triggerer has been there "
            "to say why. Clear this task to go on."
        )
