"""The audit trail of a guard: one plain-JSON record a look, bounded, and read back for a replay.

A file of it has one JSON object a line. The first may be a header (:func:`audit_header`); every
other is a look (:func:`audit_record`):

======================= ==========================================================================
``time``                when it was, ISO 8601 in UTC
``until``, ``looks``    the last of ``looks`` looks that saw the same and decided the same
``omitted``             looks after this one that were left out to bound the trail
``progress``            the platform's counts
``status``              the status of the task, or of each task
``deficit``, ``surplus``  devices that the counts may lack, or have too many of, where not 0
``being_stopped``       true where somebody was stopping the task; left out otherwise
``failures_by_class``   where it was known; likewise ``clusters`` and ``already_current``
``decision``            ``continue``, ``hold`` or ``breach``
``undecided``           why it could not be decided, where it could not
``rule``, ``sentence``  which rule said so, and in words
``rules``               for each rule: ``rule``, ``decision``, ``measure``, ``value``, ``bound``
======================= ==========================================================================
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from typing import Any

from iotda_provider.guards import validation
from iotda_provider.guards.look import Look
from iotda_provider.guards.rule import Rule
from iotda_provider.guards.serialization import rules_to_json
from iotda_provider.guards.verdict import Decision, Verdict
from iotda_provider.models import TaskProgress

VERSION = 1
_MARK = "iotda-guard"


def audit_header(rules: Iterable[Rule], **facts: Any) -> dict[str, Any]:
    """The first line of a file: the rules in force, and facts such as ``batch_task_id``."""
    return {"audit": _MARK, "version": VERSION, "rules": rules_to_json(rules), **facts}


def audit_record(
    look: Look, verdict: Verdict, *, status: str | Sequence[str] | None = None
) -> dict[str, Any]:
    """One look and what was decided on it, as plain JSON."""
    progress = look.progress
    record: dict[str, Any] = {
        "time": _to_text(look.time),
        "progress": {name: getattr(progress, name) for name in TaskProgress.__dataclass_fields__},
    }
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
    record["decision"] = str(verdict.decision)
    if verdict.undecided:
        record["undecided"] = str(verdict.undecided)
    record["rule"] = verdict.rule
    record["sentence"] = verdict.sentence
    record["rules"] = [_brief(part) for part in verdict.parts or (verdict,)]
    return record


def _brief(verdict: Verdict) -> dict[str, Any]:
    brief: dict[str, Any] = {"rule": verdict.rule, "decision": str(verdict.decision)}
    for name in ("measure", "value", "bound"):
        if name in verdict.evidence:
            value = verdict.evidence[name]
            brief[name] = round(value, 6) if isinstance(value, float) else value
    return brief


def look_of(record: Mapping[str, Any]) -> Look:
    """The look that a record tells of.

    :raises ValueError: it is not a record of a look
    """
    try:
        clusters = record.get("clusters")
        return Look(
            time=_from_text(record["time"]),
            progress=TaskProgress(
                **{
                    name: validation.whole(f"progress.{name}", record["progress"].get(name, 0))
                    for name in TaskProgress.__dataclass_fields__
                }
            ),
            being_stopped=record.get("being_stopped", False),
            failures_by_class=record.get("failures_by_class"),
            clusters=clusters and {name: tuple(pair) for name, pair in clusters.items()},
            already_current=record.get("already_current", 0),
            deficit=record.get("deficit", 0),
            surplus=record.get("surplus", 0),
        )
    except (AttributeError, KeyError, TypeError, OverflowError) as error:
        raise ValueError(f"not a record of a look: {error!r}") from error


def looks_of(records: Iterable[Mapping[str, Any]]) -> Iterator[Look]:
    """Every look of a trail; those that were written as one are spread evenly over their time."""
    for record in records:
        look = look_of(record)
        yield look
        count = validation.whole("looks", record.get("looks", 1), least=1)
        if count > _MOST_LOOKS:
            validation.refuse("looks", f"at most {_MOST_LOOKS}", count)
        span = _from_text(record.get("until", look.time)) - look.time if count > 1 else 0.0
        for index in range(1, count):
            yield replace(look, time=look.time + span * index / (count - 1))


_MOST_LOOKS = 100_000


@dataclass
class AuditTrail:
    """A trail that never grows beyond ``limit`` records.

    Looks that saw the same and decided the same become one record. Where that is not enough, every
    second look that decided nothing new is left out (its predecessor says how many were); the
    first, the last and those where the decision changed stay as long as they can. To carry it over
    a restart, pass ``records`` on.

    :param limit: records, at least 10; one takes some 500 bytes
    """

    limit: int = 500
    records: list[dict[str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        validation.whole("limit", self.limit, least=10)

    def add(self, record: Mapping[str, Any]) -> None:
        """Add one look."""
        new = dict(record)
        if self.records and _gist(self.records[-1]) == _gist(new):
            last = self.records[-1]
            new.update(time=last["time"], until=new["time"], looks=last.get("looks", 1) + 1)
            self.records[-1] = new
            return
        self.records.append(new)
        if len(self.records) > self.limit:
            self._thin()

    def _thin(self) -> None:
        decisions = [(record["decision"], record.get("undecided")) for record in self.records]
        inner = range(1, len(self.records) - 1)
        dull = [index for index in inner if decisions[index] == decisions[index - 1]]
        if len(dull) < len(self.records) // 4:
            dull = list(inner)
        kept: list[dict[str, Any]] = []
        left_out = set(dull[::2])
        for index, record in enumerate(self.records):
            if index in left_out:
                gone = record.get("looks", 1) + record.get("omitted", 0)
                kept[-1] = {**kept[-1], "omitted": kept[-1].get("omitted", 0) + gone}
            else:
                kept.append(record)
        self.records = kept

    def to_lines(self, header: Mapping[str, Any] | None = None) -> Iterator[str]:
        """The lines of a file, each with its newline."""
        for item in (*([header] if header else []), *self.records):
            yield json.dumps(item, ensure_ascii=False, separators=(",", ":")) + "\n"


def _gist(record: Mapping[str, Any]) -> dict[str, Any]:
    changing = ("time", "until", "looks", "sentence", "rules")
    gist = {name: value for name, value in record.items() if name not in changing}
    # A record after which looks were left out must not grow over the gap.
    return {**gist, "said": [part.get("decision") for part in record.get("rules", ())]}


@dataclass(frozen=True)
class Audit:
    """What an audit file holds.

    :param header: its first line, where there is one
    :param records: its looks
    :param cut_off: whether the last line broke off, as when the guard was killed while writing it
    """

    header: Mapping[str, Any]
    records: tuple[dict[str, Any], ...]
    cut_off: bool = False


def lines_of(text: str) -> list[str]:
    """The lines of an audit: a file's, or those that the list in an XCom would have.

    :raises ValueError: it begins as a list and is none
    """
    if text.lstrip().startswith("["):
        try:
            return [json.dumps(item) for item in json.loads(text)]
        except RecursionError:
            raise ValueError("the list is nested too deeply") from None
    return text.split("\n")


def read_audit(lines: Iterable[str]) -> Audit:
    """Read the lines of an audit file; a last line that broke off is left out.

    :raises ValueError: another line is not a record, or the version is not known
    """
    header: Mapping[str, Any] = {}
    records: list[dict[str, Any]] = []
    broken: tuple[int, str] | None = None
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        if broken:
            raise ValueError(f"line {broken[0]} is not a record: {broken[1]}")
        try:
            item = json.loads(line)
            if isinstance(item, dict) and "audit" in item:
                header = _checked_header(item, number)
                continue
            look_of(item)
            Decision(item["decision"])
        except _UnknownVersion:
            raise
        except (ValueError, KeyError, RecursionError, AttributeError, TypeError) as error:
            broken = (number, str(error) or repr(error))
            continue
        records.append(item)
    if broken and not records:
        raise ValueError(f"line {broken[0]} is not a record: {broken[1]}")
    return Audit(header, tuple(records), cut_off=broken is not None)


class _UnknownVersion(ValueError):
    pass


def _checked_header(item: dict[str, Any], number: int) -> dict[str, Any]:
    if item.get("version") != VERSION:
        raise _UnknownVersion(
            f"line {number}: version {item.get('version')!r} of the audit format is not known"
        )
    return item


def _to_text(time: float) -> str:
    when = datetime.fromtimestamp(time, timezone.utc)
    return when.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _from_text(time: object) -> float:
    if isinstance(time, (int, float)) and not isinstance(time, bool) and math.isfinite(time):
        return float(time)
    if not isinstance(time, str):
        raise ValueError(f"not a time: {time!r}")
    when = datetime.fromisoformat(time.replace("Z", "+00:00"))
    return (when if when.tzinfo else when.replace(tzinfo=timezone.utc)).timestamp()
