"""How long an outage has lasted, for a sensor whose looks are processes of their own."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Any

from iotda_provider.durable import notes_of
from iotda_provider.exceptions import IoTDAError
from iotda_provider.waiting import Outage

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

_log = logging.getLogger(__name__)

_KEY = "outage"


class RescheduledOutage:
    """Trouble at the API that may go on from one look to the next (``mode="reschedule"``).

    When it began is kept among the task instance's notes for as long as it lasts, and counts for
    this try alone. Where Airflow can't keep it, each look begins anew.

    :param max_outage: seconds of trouble without one good answer, after which the wait gives up
    :param context: Airflow's context of the running task instance
    """

    def __init__(self, max_outage: float, context: Context) -> None:
        self._max_outage = max_outage
        self._notes = notes_of(context)
        ti: Any = context["ti"]
        self._try = {"try_number": getattr(ti, "try_number", None)}

    def trouble(self, error: IoTDAError) -> str | None:
        """Note a failed call; the line to log.

        :raises IoTDAError: as :meth:`iotda_provider.waiting.Outage.trouble`
        """
        noted = self._read()
        outage = Outage(self._max_outage, self._since(noted))
        try:
            line = outage.trouble(error, time.time())
        except IoTDAError:
            self._forget(noted)
            raise
        if self._since(noted) is None:
            self._write({**self._try, "since": outage.since})
        return line

    def over(self) -> str | None:
        """Note a good answer; the line to log where there was trouble before."""
        noted = self._read()
        self._forget(noted)
        return Outage(self._max_outage, self._since(noted)).over(time.time())

    def _since(self, noted: Any) -> float | None:
        if not isinstance(noted, dict) or noted.get("try_number") != self._try["try_number"]:
            return None
        since = noted.get("since")
        return float(since) if isinstance(since, (int, float)) else None

    # Airflow's database or API may be down, in many ways, which must not end a wait.

    def _read(self) -> Any:
        try:
            return self._notes.get(_KEY)
        except Exception:  # noqa: BLE001
            _log.exception("How long the trouble has lasted can't be read.")
            return None

    def _write(self, note: dict[str, Any]) -> None:
        try:
            self._notes.set(_KEY, note)
        except Exception:  # noqa: BLE001
            _log.exception("Since when there is trouble could not be kept.")

    def _forget(self, noted: Any) -> None:
        try:
            if noted is not None:
                self._notes.delete(_KEY)
        except Exception:  # noqa: BLE001
            _log.exception("That there was trouble could not be forgotten.")
