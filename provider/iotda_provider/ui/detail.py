"""One rollout as JSON: its row, and the waves, the curves, the reasons and what has happened."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from iotda_provider.rollout_guard.live_record import LIVE_KEY
from iotda_provider.ui.reading import ANSWER_KEY, RESULT_KEY, Seen
from iotda_provider.ui.rollouts import alerts_of, entries_of, reasons_of, row_of
from iotda_provider.ui.states import Entry
from iotda_provider.ui.stop_line import drawn_to, stop_line
from iotda_provider.ui.xcom_shapes import count, live_of, mappings, text, to_text


def detail_of(seen: Seen, dag_id: str, run_id: str, now: datetime) -> dict[str, Any]:
    """The answer of ``api/rollouts/{dag_id}/{run_id}``.

    A row of the list, and ``curve`` (started, failed, value of the first rule), ``drawn_to`` (how
    many started devices the curves have room for), ``stop_line``, ``waves``, ``reasons`` and
    ``events``.
    """
    entries = entries_of(seen, now)
    row = row_of(entries)
    progress = row["progress"] or {}
    total = count(progress.get("total"))
    newest_first = sorted(entries, key=lambda one: one.record.at, reverse=True)
    curve = next((one.live.curve for one in newest_first if one.live and one.live.curve), [])
    started = count(curve[-1][0] if curve else progress.get("started"))
    return {
        "now": to_text(now),
        **row,
        "asked_for": {"dag_id": dag_id, "run_id": run_id},
        "curve": curve,
        "drawn_to": drawn_to(started, total),
        "stop_line": stop_line(row["rules"], started, total),
        "waves": _waves(entries, seen),
        "reasons": reasons_of(entries, seen),
        "events": _events(entries, seen),
    }


def _waves(entries: Sequence[Entry], seen: Seen) -> list[dict[str, Any]]:
    """The waves of a release: how many devices, what it takes to pass, and how each stands."""
    release = next((one for one in entries if one.record.header.kind == "release"), None)
    if release is None:
        return []
    xcoms = seen.xcoms.get(release.record.run, ())
    results = [x.value for x in xcoms if x.key == RESULT_KEY and isinstance(x.value, Mapping)]
    waves = next((mappings(result["waves"]) for result in results if "waves" in result), [])
    found = []
    for place, wave in enumerate(waves, start=1):
        verdict, began, ended, status = None, None, None, "waiting"
        names = {f"wave_{place}_{step}" for step in ("create", "confirm", "watch")}
        for xcom in xcoms:
            name = xcom.task_id.rsplit(".", 1)[-1]
            if xcom.key != LIVE_KEY or name not in names:
                continue
            live = live_of(xcom.value)
            if live is None:
                continue
            status, began = "running", began or xcom.task_began
            if live.verdict is not None and name.endswith("_watch"):
                verdict, ended, status = live.verdict, xcom.task_ended, live.verdict
        question = release.question
        if question is not None and question.task_id.endswith(f"wave_{place}_ask"):
            status = "asks"
        found.append(
            {
                "place": place,
                "label": text(wave.get("label")) or "",
                "devices": count(wave.get("devices")),
                "cumulative": count(wave.get("cumulative")),
                # So many of all devices so far must succeed; None: too few to pass by themselves.
                "to_pass": count(wave.get("cumulative")) - count(wave.get("may_fail"))
                if wave.get("can_pass") is True
                else None,
                "status": status,
                "verdict": verdict,
                "began_at": to_text(began),
                "ended_at": to_text(ended),
            }
        )
    begun = [place for place, wave in enumerate(found) if wave["status"] != "waiting"]
    for wave in found[: max(begun, default=0)]:
        if wave["status"] == "unproven":  # and the next one has begun
            wave["status"] = "approved"
    return found


def _events(entries: Sequence[Entry], seen: Seen) -> list[dict[str, Any]]:
    """What has happened, the earliest first: ``{"at", "what", ...}``."""
    events: list[dict[str, Any]] = []

    def add(at: str | None, what: str, **more: Any) -> None:
        if at:
            events.append({"at": at, "what": what, **more})

    for one in entries:
        record, live = one.record, one.live
        where = {"dag_id": record.dag_id, "run_id": record.run_id}
        began = to_text(record.run_began or record.at)
        add(began, f"{record.header.kind}_began", by=record.run_by, **where)
        if live is not None:
            if live.stop is not None:
                add(live.stop["sent_at"], "stop_sent", **where)
                add(live.stop["accepted_at"], "stop_accepted", **where)
            add(live.blind_since, "blind", **where)
            last = "ended" if live.verdict else "looked"
            add(live.looked_at, last, state=one.state, verdict=live.verdict, **where)
        for xcom in seen.xcoms.get(record.run, ()):
            if xcom.key == ANSWER_KEY and isinstance(xcom.value, Mapping):
                add(
                    to_text(xcom.at),
                    "answered",
                    option=text(xcom.value.get("option")),
                    by=text(xcom.value.get("by")),
                    **where,
                )
        if one.question is not None:
            add(to_text(one.question.asked_at), "asked", **where)
    for alert in alerts_of(entries, seen):
        add(alert["at"], "alert", kind=alert["kind"], sentence=alert["sentence"])
    return sorted(events, key=lambda event: event["at"])
