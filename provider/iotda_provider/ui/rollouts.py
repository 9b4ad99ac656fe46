"""All rollouts as JSON: one row for each, with all its guards in it, the most urgent first."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from iotda_provider.rollout_guard.alerts import ALERT_KEY
from iotda_provider.rollout_guard.live_record import LIVE_KEY
from iotda_provider.ui.reading import REASONS_KEY, Question, Record, Seen, SeenXCom
from iotda_provider.ui.states import NEED, Entry, leading_entry, state_of, with_shadow
from iotda_provider.ui.xcom_shapes import (
    Live,
    counts_of,
    live_of,
    mappings,
    reason_of,
    text,
    to_text,
)

#: What the shipped DAGs name a second try for the devices that failed by their environment.
_AGAIN = re.compile(r"^again_([a-f0-9]{1,24})")


def list_of(seen: Seen, now: datetime, *, only_open: bool) -> dict[str, Any]:
    """The answer of ``api/rollouts``.

    ``{"now", "rollouts": [...]}``; each rollout as :func:`row_of` makes it, second tries directly
    below their first.

    :param only_open: leave out what is over
    """
    rows = [row_of(entries) for entries in grouped(entries_of(seen, now))]
    if only_open:
        rows = [row for row in rows if row["need"] < NEED["lost"]]
    rows.sort(key=lambda row: row["changed_at"] or "", reverse=True)
    rows.sort(key=lambda row: row["need"])
    return {"now": to_text(now), "rollouts": _tries_below(rows)}


def entries_of(seen: Seen, now: datetime) -> list[Entry]:
    """The entry of each guard, stop and release at a time."""
    return [_entry(record, seen, now) for record in _one_for_each_release(seen.records)]


def _one_for_each_release(records: Sequence[Record]) -> list[Record]:
    """The records, with one for each release: it tells of its batch tasks as it creates them."""
    releases: dict[tuple[str, str], Record] = {}
    others = []
    for record in sorted(records, key=lambda record: record.at):
        if record.header.kind != "release":
            others.append(record)
            continue
        before = releases.get(record.run)
        header = record.header
        if before is not None:
            known = before.header
            header = replace(
                header,
                batch_task_ids=_joined([known.batch_task_ids, header.batch_task_ids]),
                names=_joined([known.names, header.names]),
                devices=header.devices or known.devices,
            )
        releases[record.run] = replace(record, header=header, at=(before or record).at)
    return [*releases.values(), *others]


def _entry(record: Record, seen: Seen, now: datetime) -> Entry:
    question: Question | None = None
    kind = record.header.kind
    if kind == "release":
        question = next(iter(seen.questions.get(record.run, ())), None)
    newest: tuple[Live, SeenXCom] | None = None
    for xcom in seen.xcoms.get(record.run, ()):
        if xcom.key != LIVE_KEY or not _is_of(record, xcom):
            continue
        live = live_of(xcom.value)
        if live is not None:
            newest = live, xcom
    live, source = newest or (None, None)
    state = with_shadow(
        state_of(record, live, source, question, now), is_shadow=record.header.shadow
    )
    return Entry(record, live, source, question, state)


def _is_of(record: Record, xcom: SeenXCom) -> bool:
    """Whether an XCom of the same run belongs to a record; a release's are of many tasks."""
    if record.header.kind == "release":
        return True
    return (xcom.task_id, xcom.map_index) == (record.task_id, record.map_index)


def grouped(entries: Iterable[Entry]) -> list[list[Entry]]:
    """Those that are about a common batch task together."""
    groups: list[tuple[set[str], list[Entry]]] = []
    for one in entries:
        ids = set(one.record.header.batch_task_ids) or {"/".join(one.record.run)}
        if one.live is not None:
            ids |= set(one.live.batch_task_ids)
        mine, members = ids, [one]
        rest = []
        for others, group in groups:
            if others & mine:
                mine, members = mine | others, group + members
            else:
                rest.append((others, group))
        groups = [*rest, (mine, members)]
    return [members for _, members in groups]


def row_of(entries: Sequence[Entry]) -> dict[str, Any]:
    """One rollout as plain JSON, from all that is known of it."""
    one = leading_entry(entries)
    # A stop's header knows less than a guard's.
    main = max(entries, key=lambda other: (len(other.record.header.rules) > 0, other is one))
    header, record, live = main.record.header, one.record, one.live
    counts = live.progress if live is not None else None
    if counts is None:
        counts = next((t.live.progress for t in entries if t.live and t.live.progress), None)
    if counts is not None and header.devices:  # also those that are in no batch task yet
        counts = {**counts, "total": max(counts["total"], header.devices)}
    if counts is not None:  # the platform's own count falls at a stop
        seen = (t.live.progress["started"] for t in entries if t.live and t.live.progress)
        counts = {**counts, "started": max(counts["started"], *seen)}
    question = one.question
    again = _AGAIN.match(header.names[0]) if header.names else None
    return {
        **{name: value for name, value in vars(header).items() if name != "devices"},
        "dag_id": record.dag_id,
        "run_id": record.run_id,
        "task_id": record.task_id if one.source is None else one.source.task_id,
        "map_index": record.map_index if one.source is None else one.source.map_index,
        "run_state": record.run_state,
        "kind": record.header.kind,
        "state": one.state,
        "need": one.need,
        "batch_task_ids": _joined(t.record.header.batch_task_ids for t in entries),
        "unfinished_ids": _unfinished(entries),
        "progress": counts,
        "status": live.status if live else [],
        "decision": live.decision if live else None,
        "judged": (live and live.rules) or (main.live.rules if main.live else []),
        "attempted": live.attempted if live else None,
        # Started and failed devices at the last judged look: what a stop was decided on.
        "decided": live.curve[-1][:2] if live and live.curve else None,
        "stop": live.stop if live else None,
        "verdict": live.verdict if live else None,
        "sentence": live.sentence if live else "",
        "blind_since": live.blind_since if live else None,
        "looked_at": live.looked_at if live else None,
        "due": to_text(live.due) if live else None,
        "changed_at": to_text(one.source.at if one.source else record.at),
        "question": None
        if question is None
        else {
            "task_id": question.task_id,
            "subject": question.subject[:300],
            "asked_at": to_text(question.asked_at),
        },
        "again_of": again[1] if again else None,
        "guards": [
            {
                "dag_id": other.record.dag_id,
                "run_id": other.record.run_id,
                "task_id": other.record.task_id,
                "kind": other.record.header.kind,
                "state": other.state,
                "by": other.record.run_by,
                "began_at": to_text(other.record.at),
                "shadow": other.record.header.shadow,
            }
            for other in sorted(entries, key=lambda other: other.record.at)
        ],
    }


def _unfinished(entries: Sequence[Entry]) -> list[str]:
    """The batch tasks that nobody has seen at their end: those that a stop is sent to."""
    over: set[str] = set()
    for one in entries:
        if one.live is not None:
            ended = zip(one.live.batch_task_ids, one.live.status, strict=False)
            over |= {
                task_id
                for task_id, status in ended
                if status in ("Success", "Fail", "PartialSuccess", "Stopped", "Stopping")
            }
    ids = _joined(one.record.header.batch_task_ids for one in entries)
    ids += [i for one in entries if one.live for i in one.live.batch_task_ids if i not in ids]
    return [task_id for task_id in dict.fromkeys(ids) if task_id not in over]


def reasons_of(entries: Sequence[Entry], seen: Seen) -> dict[str, Any]:
    """Why devices failed, from the task that has collected all of it, else from the guard.

    ``{"by_class", "reasons", "failed", "report_path", "task"}``; ``task``: whose XComs hold more
    """
    for one in entries:
        for xcom in seen.xcoms.get(one.record.run, ()):
            if xcom.key == REASONS_KEY and isinstance(xcom.value, Mapping):
                rows = [reason_of(reason) for reason in mappings(xcom.value.get("reasons"))]
                return {
                    "by_class": counts_of(xcom.value.get("by_class")),
                    "reasons": rows,
                    "report_path": text(xcom.value.get("report_path")),
                    "task": {
                        "dag_id": one.record.dag_id,
                        "run_id": one.record.run_id,
                        "task_id": xcom.task_id,
                    },
                }
    live = next((one.live for one in entries if one.live and one.live.first_reasons), None)
    live = live or next((one.live for one in entries if one.live), None)
    return {
        "by_class": live.failures_by_class if live else None,
        "reasons": live.first_reasons if live else [],
        "report_path": None,
        "task": None,
    }


def alerts_of(entries: Sequence[Entry], seen: Seen) -> list[dict[str, Any]]:
    """The last alert of each guard to a person."""
    return [
        {
            "at": text(xcom.value.get("time")) or to_text(xcom.at),
            "kind": text(xcom.value.get("kind")) or "alert",
            "sentence": text(xcom.value.get("sentence")) or "",
        }
        for one in entries
        for xcom in seen.xcoms.get(one.record.run, ())
        if xcom.key == ALERT_KEY and isinstance(xcom.value, Mapping) and _is_of(one.record, xcom)
    ]


def _tries_below(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows with each second try directly below its first, where that is shown too."""
    shown = {task_id for row in rows for task_id in row["batch_task_ids"]}
    below: dict[str, list[dict[str, Any]]] = {}
    above = []
    for row in rows:
        if row["again_of"] in shown:
            below.setdefault(row["again_of"], []).append(row)
        else:
            above.append(row)
    ordered: list[dict[str, Any]] = []

    def put(row: dict[str, Any]) -> None:
        if row in ordered:
            return
        ordered.append(row)
        for task_id in row["batch_task_ids"]:
            for second in below.pop(task_id, ()):
                put(second)

    for row in above:
        put(row)
    for rest in list(below.values()):  # a circle of names
        for row in rest:
            put(row)
    return ordered


def _joined(lists: Iterable[Sequence[str]]) -> list[str]:
    return list(dict.fromkeys(item for items in lists for item in items))
