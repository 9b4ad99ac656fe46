"""The audit trail of a guard: one plain-JSON record for each look, at most ``limit`` of them.

An audit file has one JSON object on each line. The first line may be a header
(:func:`audit_header`), with the rules, the verdict, the batch tasks' ``retries`` and the ``delays``
of failures, from which ``iotda-guard fit`` learns. Each other line is a look
(:func:`audit_record`):

======================= ==========================================================================
``time``                time of the look, ISO 8601 in UTC
``took``                seconds from the request to ``time``, the most of these looks; not if 0
``until``, ``looks``    the record stands for ``looks`` equal looks, the last of them at ``until``
``omitted``             number of looks after this one that were dropped to limit the size
``progress``            the platform's counts
``status``              the status of the task, or a list with the status of each task
``deficit``, ``surplus``  devices that the counts may lack, or count too many; left out if 0
``being_stopped``       true if somebody was stopping the task; left out otherwise
``attempted``           devices of which an attempt has failed; left out if no rule counts them
``failures_by_class``   left out if not read; likewise ``clusters`` and ``already_current``
``decision``            ``continue``, ``hold`` or ``breach``
``undecided``           why the look could not be judged; left out if it could
``rule``, ``sentence``  the rule that decided, and its verdict in words
``rules``               for each rule: ``rule``, ``decision``, ``measure``, ``value``, ``bound``
======================= ==========================================================================
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from iotda_provider.guards.look import WHOLE, Look
from iotda_provider.guards.rule import Rule
from iotda_provider.guards.serialization import rules_to_json
from iotda_provider.guards.verdict import Verdict
from iotda_provider.models import TaskProgress, checks
from iotda_provider.models.times import read_time, utc_text

VERSION = 1
_MARK = "iotda-guard"


def audit_header(rules: Iterable[Rule], **facts: Any) -> dict[str, Any]:
    """The first line of an audit file: the rules, and facts such as ``batch_task_id``."""
    return {"audit": _MARK, "version": VERSION, "rules": rules_to_json(rules), **facts}


def audit_record(
    look: Look, verdict: Verdict, *, status: str | Sequence[str] | None = None
) -> dict[str, Any]:
    """One look and its verdict, as plain JSON.

    :param status: the status of the task, or the status of each task; None: left out
    """
    progress = look.progress
    record: dict[str, Any] = {
        "time": utc_text(look.time),
        "progress": {name: getattr(progress, name) for name in TaskProgress.__dataclass_fields__},
    }
    if took := math.ceil(1000 * (look.time - look.asked_at)) / 1000:
        record["took"] = took
    if status is not None:
        record["status"] = status if isinstance(status, str) else [str(item) for item in status]
    for name in ("deficit", "surplus"):
        if count := getattr(look, name):
            record[name] = count
    if look.being_stopped:
        record["being_stopped"] = True
    if look.failures_by_class is not None:
        record["failures_by_class"] = dict(look.failures_by_class)
    if look.clusters is not None:
        record["clusters"] = {name: list(pair) for name, pair in look.clusters.items()}
    if look.already_current:
        record["already_current"] = look.already_current
    parts = verdict.parts or (verdict,)
    found = [part.evidence["attempted"] for part in parts if "attempted" in part.evidence]
    if found:
        record["attempted"] = max(found)
    record["decision"] = str(verdict.decision)
    if verdict.undecided:
        record["undecided"] = str(verdict.undecided)
    record["rule"] = verdict.rule
    record["sentence"] = verdict.sentence
    record["rules"] = [_brief(part) for part in parts]
    return record


def _brief(verdict: Verdict) -> dict[str, Any]:
    brief: dict[str, Any] = {"rule": verdict.rule, "decision": str(verdict.decision)}
    for name in ("measure", "value", "bound"):
        if name in verdict.evidence:
            value = verdict.evidence[name]
            brief[name] = round(value, 6) if isinstance(value, float) else value
    return brief


def look_of(record: Mapping[str, Any]) -> Look:
    """The look that a record holds, the inverse of :func:`audit_record`.

    :raises ValueError: it is not a record of a look
    """
    try:
        clusters, attempted = record.get("clusters"), record.get("attempted")
        time = seconds_of(record["time"])
        took = checks.real("took", record.get("took", 0), "seconds, at least 0", _is_positive)
        return Look(
            time=time,
            requested=max(0.0, time - took) if took else None,
            progress=TaskProgress(
                **{
                    name: checks.whole(f"progress.{name}", record["progress"].get(name, 0))
                    for name in TaskProgress.__dataclass_fields__
                }
            ),
            being_stopped=record.get("being_stopped", False),
            failures_by_class=record.get("failures_by_class"),
            clusters=clusters and {name: tuple(pair) for name, pair in clusters.items()},
            already_current=record.get("already_current", 0),
            deficit=record.get("deficit", 0),
            surplus=record.get("surplus", 0),
            attempted=None if attempted is None else {WHOLE: attempted},
        )
    except (AttributeError, KeyError, TypeError, OverflowError) as error:
        raise ValueError(f"not a record of a look: {error!r}") from error


def _is_positive(seconds: float) -> bool:
    return seconds >= 0


@dataclass
class AuditTrail:
    """An audit trail of at most ``limit`` records.

    Consecutive looks with the same counts and the same decision become one record. If the trail is
    still too long, every second look without a new decision is dropped, and the record before it
    counts it as ``omitted``. The first and the last look always stay. Looks at which the decision
    changed are dropped only when few other records are left. To continue a trail after a restart,
    pass its ``records``.

    :param limit: the largest number of records, at least 10; a record takes about 500 bytes
    """

    limit: int = 500
    records: list[dict[str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        checks.whole("limit", self.limit, least=10)

    def add(self, record: Mapping[str, Any]) -> None:
        """Add one look, as :func:`audit_record` made it."""
        new = dict(record)
        if self.records and _without_times(self.records[-1]) == _without_times(new):
            last = self.records[-1]
            new.update(time=last["time"], until=new["time"], looks=last.get("looks", 1) + 1)
            if took := max(last.get("took", 0), new.get("took", 0)):
                new["took"] = took
            self.records[-1] = new
            return
        self.records.append(new)
        if len(self.records) > self.limit:
            self.thin()

    def thin(self) -> None:
        """Drop half of the looks without a new decision, or of all if few are such looks."""
        decisions = [(record["decision"], record.get("undecided")) for record in self.records]
        inner = range(1, len(self.records) - 1)
        unchanged = [index for index in inner if decisions[index] == decisions[index - 1]]
        if len(unchanged) < len(self.records) // 4:
            unchanged = list(inner)
        kept: list[dict[str, Any]] = []
        dropped = set(unchanged[::2])
        for index, record in enumerate(self.records):
            if index in dropped:
                gone = record.get("looks", 1) + record.get("omitted", 0)
                kept[-1] = {**kept[-1], "omitted": kept[-1].get("omitted", 0) + gone}
            else:
                kept.append(record)
        self.records = kept


def _without_times(record: Mapping[str, Any]) -> dict[str, Any]:
    changing = ("time", "took", "until", "looks", "sentence", "rules")
    same = {name: value for name, value in record.items() if name not in changing}
    # "omitted" stays in: no look may be added to a record that is followed by dropped looks.
    return {**same, "said": [part.get("decision") for part in record.get("rules", ())]}


def seconds_of(time: object) -> float:
    """Seconds since the epoch, from a number of them or from ISO 8601 (UTC if it names no zone).

    :raises ValueError: it is neither
    """
    if isinstance(time, (int, float)) and not isinstance(time, bool) and math.isfinite(time):
        return float(time)
    if not isinstance(time, str):
        raise ValueError(f"not a time: {time!r}")
    return read_time(time).timestamp()
