"""The XComs ``rollout`` and ``live`` as the page trusts them: typed, bounded, and nothing else.

Any task may push XComs by these names, so whatever has another shape is left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

CLASSES = ("environment", "firmware", "unknown")
KINDS = ("guard", "stop", "release")
_MOST, _LONGEST, _LARGEST = 100, 300, 1e12
#: Of what the page hands on as it is: the knots of a reporting delay, and how deep rules are.
_MOST_INSIDE, _DEEPEST = 500, 8
_COUNTS = (
    *("total", "processing", "success", "fail", "waiting", "fail_wait_retry", "stopped"),
    *("removed", "started", "finished"),
)


@dataclass(frozen=True)
class Header:
    """What a guard, a stop or a release is about (XCom ``rollout``)."""

    kind: str
    batch_task_ids: list[str]
    names: list[str]
    package_ids: list[str]
    version: str | None
    group_ids: list[str]
    devices: int | None
    rules: list[dict[str, Any]]
    iotda_conn_id: str
    project_id: str | None
    instance_id: str | None
    poll_interval: float
    shadow: bool
    stops: bool


def header_of(value: Any) -> Header | None:
    """The header that an XCom holds; None: it holds none."""
    if not isinstance(value, Mapping) or value.get("kind") not in KINDS:
        return None
    return Header(
        kind=value["kind"],
        batch_task_ids=texts(value.get("batch_task_ids")),
        names=texts(value.get("batch_task_names")),
        package_ids=texts(value.get("package_ids")),
        version=text(value.get("version")),
        group_ids=texts(value.get("group_ids")),
        devices=count(value.get("devices")) or None,
        rules=[_bounded(rule) for rule in mappings(value.get("rules"))],
        iotda_conn_id=text(value.get("iotda_conn_id")) or "",
        project_id=text(value.get("project_id")),
        instance_id=text(value.get("instance_id")),
        poll_interval=number(value.get("poll_interval")) or 0.0,
        shadow=value.get("shadow") is True,
        stops=value.get("stops") is not False,
    )


@dataclass(frozen=True)
class Live:
    """How a rollout stands (XCom ``live``)."""

    batch_task_ids: list[str]
    status: list[str]
    progress: dict[str, int] | None
    decision: str | None
    sentence: str
    rules: list[dict[str, Any]]
    attempted: int | None
    curve: list[list[float]]
    failures_by_class: dict[str, int] | None
    first_reasons: list[dict[str, Any]]
    stop: dict[str, Any] | None
    blind_since: str | None
    verdict: str | None
    guard_lost: bool
    looked_at: str | None
    due: datetime | None

    @property
    def is_over(self) -> bool:
        """Whether the platform has said that no device is under way any more."""
        ended = {"Success", "Fail", "PartialSuccess", "Stopped"}
        return bool(self.status) and set(self.status) <= ended


def live_of(value: Any) -> Live | None:
    """The record that an XCom holds; None: it holds none."""
    if not isinstance(value, Mapping) or "looked_at" not in value:
        return None
    progress, by_class, stop = (
        value.get(name) for name in ("progress", "failures_by_class", "stop")
    )
    return Live(
        batch_task_ids=texts(value.get("batch_task_ids")),
        status=texts(value.get("status")),
        progress={name: count(progress.get(name)) for name in _COUNTS}
        if isinstance(progress, Mapping)
        else None,
        decision=text(value.get("decision")),
        sentence=text(value.get("sentence")) or "",
        rules=[_rule(rule) for rule in mappings(value.get("rules"))],
        attempted=None if value.get("attempted") is None else count(value["attempted"]),
        curve=_curve(value.get("curve")),
        failures_by_class=counts_of(by_class),
        first_reasons=[reason_of(reason) for reason in mappings(value.get("first_reasons"))],
        stop={
            "sent_at": text(stop.get("sent_at")),
            "accepted_at": text(stop.get("accepted_at")),
            "attempts": count(stop.get("attempts")),
            "error": text(stop.get("error")),
        }
        if isinstance(stop, Mapping)
        else None,
        blind_since=text(value.get("blind_since")),
        verdict=text(value.get("verdict")),
        guard_lost=value.get("guard_lost") is True,
        looked_at=text(value.get("looked_at")),
        due=moment(value.get("due")),
    )


def reason_of(reason: Mapping[str, Any]) -> dict[str, Any]:
    """A reason of failures, with its count and first devices where they are known."""
    return {
        "failure_class": text(reason.get("failure_class")) or "unknown",
        "error_code": text(reason.get("error_code")) or "",
        "error_msg": text(reason.get("error_msg")) or "",
        "count": count(reason["count"]) if "count" in reason else None,
        "targets": texts(reason.get("targets"))[:5],
    }


def text(value: Any) -> str | None:
    """Bounded text; None: it is no text, or empty."""
    return value[:_LONGEST] if isinstance(value, str) and value else None


def texts(value: Any) -> list[str]:
    """The texts of a list."""
    items = value[:_MOST] if isinstance(value, list) else []
    return [item[:_LONGEST] for item in items if isinstance(item, str)]


def mappings(value: Any) -> list[Mapping[str, Any]]:
    """The mappings of a list."""
    items = value[:_MOST] if isinstance(value, list) else []
    return [item for item in items if isinstance(item, Mapping)]


def number(value: Any) -> float | None:
    """A number that a rollout can have; None: it is none."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return value if abs(value) <= _LARGEST else None  # NaN is not


def count(value: Any) -> int:
    """A count; 0: it is none."""
    found = number(value)
    return max(0, int(found)) if found is not None else 0


def counts_of(value: Any) -> dict[str, int] | None:
    """The counts by class of failures; None: there are none."""
    if not isinstance(value, Mapping):
        return None
    return {name: count(value[name]) for name in CLASSES if count(value.get(name))}


def moment(value: Any) -> datetime | None:
    """A time in ISO 8601; None: it is none."""
    if not isinstance(value, str):
        return None
    try:
        when = datetime.fromisoformat(value.replace("Z", "+00:00"))
        return (when if when.tzinfo else when.replace(tzinfo=timezone.utc)).astimezone(timezone.utc)
    except (ValueError, OverflowError):
        return None


def to_text(when: datetime | None) -> str | None:
    """A time as ISO 8601 in UTC; None: there is none."""
    if when is None:
        return None
    return when.astimezone(timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _bounded(value: Any, depth: int = 0) -> Any:
    """Plain JSON without what is too long, too deep, too large or no JSON."""
    if isinstance(value, Mapping) and depth < _DEEPEST:
        items = [*value.items()][:_MOST_INSIDE]
        return {str(key)[:_LONGEST]: _bounded(item, depth + 1) for key, item in items}
    if isinstance(value, list) and depth < _DEEPEST:
        return [_bounded(item, depth + 1) for item in value[:_MOST_INSIDE]]
    return value if isinstance(value, bool) else text(value) or number(value)


def _rule(rule: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "rule": text(rule.get("rule")) or "",
        "decision": text(rule.get("decision")),
        "measure": text(rule.get("measure")),
        "value": number(rule.get("value")),
        "bound": number(rule.get("bound")),
        "failed": number(rule.get("failed")),
        "devices": number(rule.get("devices")),
    }


def _curve(value: Any) -> list[list[float]]:
    points = value[:_MOST] if isinstance(value, list) else []
    found = []
    for point in points:
        numbers = [number(item) for item in point[:3]] if isinstance(point, list) else []
        if len(numbers) == 3 and numbers[0] is not None and numbers[1] is not None:
            found.append(numbers)
    return found  # type: ignore[return-value]
