"""The alert that a guard sends to people, and the user's function ``on_alert`` that gets it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING, Any

from iotda_provider.exceptions import IoTDAConfigError
from iotda_provider.models.text import one_line

if TYPE_CHECKING:
    from iotda_provider.models.log import Log

#: Key of the XCom with the last alert.
ALERT_KEY = "alert"
#: The user's function that gets an alert as plain JSON, or the function's dotted path.
OnAlert = str | Callable[[Mapping[str, Any]], Any]


@dataclass(frozen=True)
class Alert:
    """A message to a person.

    :param kind: ``hold``, ``blind``, ``stop_failed``, ``may_not_stop`` or ``on_alert_missing``. A
        release in waves also sends ``started_elsewhere``, ``confirm_failed``, ``unconfirmed`` and
        ``evidence_failed``
    :param sentence: what happened
    :param facts: the same as plain JSON
    """

    kind: str
    sentence: str
    facts: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """The alert as plain JSON: the XCom ``alert`` and the argument of ``on_alert``."""
        return {"kind": self.kind, "sentence": self.sentence, **self.facts}


def call_on_alert(on_alert: OnAlert, alert: Mapping[str, Any], log: Log) -> Any:
    """Call the user's function. An error in it is logged and never ends the watch."""
    try:
        function = load_function(on_alert) if isinstance(on_alert, str) else on_alert
        return function(alert)
    except Exception:
        log.exception("on_alert failed; the guard goes on.")
        return None


def missing_on_alert(on_alert: OnAlert | None, batch_task_ids: Sequence[str]) -> Alert | None:
    """The alert to send now if ``on_alert`` can't be called in this process; None if it can.

    This call blocks: it imports the function's module.
    """
    if not isinstance(on_alert, str):
        return None
    try:
        load_function(on_alert)
    except Exception as error:  # noqa: BLE001 - importing runs the user's code
        facts = {"batch_task_ids": list(batch_task_ids), "time": time.time(), "progress": {}}
        return Alert(
            "on_alert_missing",
            "ALERTS REACH NOBODY but this log and the XCom alert, as on_alert can't be called here "
            f"({one_line(error, 300)}). Put it into a package that is installed wherever "
            "triggerers and workers run: a module beside a DAG file is found by workers only. The "
            "guard goes on.",
            facts,
        )
    return None


def load_function(path: str) -> Callable[[Mapping[str, Any]], Any]:
    """The function at a dotted path.

    :raises IoTDAConfigError: there is no such function
    """
    module, _, name = path.rpartition(".")
    try:
        function = getattr(import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise IoTDAConfigError(f"on_alert: {path!r} can't be imported: {error}") from error
    if not callable(function):
        raise IoTDAConfigError(f"on_alert: {path!r} is not a function")
    return function  # type: ignore[no-any-return]
