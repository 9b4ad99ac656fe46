"""When a wait ends, and which parameter says so."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

# A look may be under way when the time is over: the connection's timeout, with room.
_AIRFLOW_MARGIN = 60.0


@dataclass(frozen=True)
class Deadline:
    """When a wait ends, and which parameter says so.

    :param at: seconds since 1970, which hold in every process
    :param limit: the parameter: ``timeout`` or ``execution_timeout``
    """

    at: float
    limit: str = "timeout"

    @classmethod
    def of(
        cls, timeout: float, execution_timeout: timedelta | None, *, began: float, now: float
    ) -> Deadline:
        """The earlier of the two limits.

        :param timeout: seconds from ``now``
        :param execution_timeout: Airflow's limit, from ``began``
        """
        own = cls(now + timeout)
        if execution_timeout is None:
            return own
        whole = cls(began + execution_timeout.total_seconds(), "execution_timeout")
        return min(own, whole, key=lambda deadline: deadline.at)

    def for_airflow(self, poll_interval: float, *, now: float) -> timedelta:
        """Airflow's own timeout of a deferral; later than the trigger's, which reports first.

        Airflow's timeout serves where no triggerer runs: Airflow calls no method of the task then.

        :param poll_interval: seconds between two looks of the trigger
        """
        return timedelta(seconds=max(0.0, self.at - now) + 2 * poll_interval + _AIRFLOW_MARGIN)
