"""The events of a rollout that people are told of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from iotda_provider.notifications.on_alert import OnAlert, load_function

__all__ = ["ALERT_KEY", "Alert", "OnAlert", "load_function"]

#: Key of the XCom with the last alert.
ALERT_KEY = "alert"
#: Events that the log and the task's result tell by themselves.
_NEWS = frozenset(
    {"breach", "stopped", "ended", "stopped_elsewhere", "lost", "guard_lost"}
    | {"wave_passed", "released", "rolled_back", "question_open"}
)


@dataclass(frozen=True)
class Alert:
    """A message to a person.

    :param kind: of a guard ``hold``, ``breach``, ``stopped``, ``stop_failed``, ``blind``,
        ``may_not_stop``, ``ended`` (before its stop reached it), ``stopped_elsewhere``, ``lost``,
        ``guard_lost``, ``on_alert_missing``, ``notifier_missing``. A release in waves also sends
        ``started_elsewhere``, ``confirm_failed``, ``unconfirmed`` and ``evidence_failed``
    :param sentence: what happened
    :param facts: the same as plain JSON
    """

    kind: str
    sentence: str
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def is_news(self) -> bool:
        """Whether the log and the task's result tell it by themselves."""
        return self.kind in _NEWS

    def to_json(self) -> dict[str, Any]:
        """The alert as plain JSON: the XCom ``alert``, and what ``on_alert`` and notifiers get."""
        return {"kind": self.kind, "sentence": self.sentence, **self.facts}


def missing(name: str, error: str, facts: Mapping[str, Any]) -> Alert:
    """The alert to send when a guard begins whose notifier, or ``on_alert``, can't be called.

    :param name: the notifier's class, or ``on_alert``
    :param error: why it can't be called, in one line
    """
    whom = "on_alert" if name == "on_alert" else f"the notifier {name}"
    return Alert(
        "on_alert_missing" if name == "on_alert" else "notifier_missing",
        f"ALERTS DO NOT REACH {whom}, which can't be called here ({error}). Put it into a "
        "package that is installed wherever triggerers and workers run: a module beside a DAG file "
        "is found by workers only. This log and the XCom alert still tell. The guard goes on.",
        facts,
    )
