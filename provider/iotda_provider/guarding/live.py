"""What people see of a guard while it watches: a header once, and a small record of how it stands.

Pure: what is in them, and when the record is due. Who writes them down is the driver's business.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from iotda_provider.guarding.outcome import Outcome, to_text
from iotda_provider.guarding.watch import Watch
from iotda_provider.guards import Rule, rules_to_json, total_progress
from iotda_provider.models import BatchTask

#: The XComs that hold them.
HEADER_KEY, LIVE_KEY = "rollout", "live"
#: Records that one process writes in a second at most, where nothing but counts has changed.
WRITES_PER_SECOND = 5.0
#: Seconds past the time at which a record was due after which it is stale.
STALE_SECONDS = 60.0
_LEAST_SECONDS, _HEARTBEAT_SECONDS = 15.0, 60.0
_MOST_RULES, _MOST_CHARACTERS = 4, 240


def header(
    kind: str,
    batch_task_ids: Iterable[str],
    tasks: Sequence[BatchTask] = (),
    *,
    rules: Sequence[Rule] = (),
    iotda_conn_id: str,
    poll_interval: float,
    version: str | None = None,
) -> dict[str, Any]:
    """What a guard, a stop or a release is about, as plain JSON: the XCom ``rollout``.

    ``{"kind", "batch_task_ids", "batch_task_names", "package_ids", "version", "group_ids", "rules",
    "iotda_conn_id", "poll_interval"}``; what nobody has read by then is empty or None.

    :param kind: ``guard``, ``stop`` or ``release``
    :param tasks: the batch tasks, as far as they could be read
    :param version: the package's, where it is known
    """
    documents = [_inner(task.raw, "document") for task in tasks]
    filters = [_inner(task.raw, "targets_filter") for task in tasks]
    return {
        "kind": kind,
        "batch_task_ids": list(batch_task_ids),
        "batch_task_names": [task.task_name for task in tasks],
        "package_ids": _texts(
            item
            for document in documents
            for item in (*_listed(document.get("package_ids")), document.get("package_id"))
        ),
        "version": version,
        "group_ids": _texts(item for group in filters for item in _listed(group.get("group_ids"))),
        "rules": rules_to_json(rules),
        "iotda_conn_id": iotda_conn_id,
        "poll_interval": poll_interval,
    }


class LiveRecord:
    """How a guard stands, as plain JSON of about 1 kB: the XCom ``live``; and when it is due.

    It is written at once when something happens (a hold, a breach, a stop, blindness, the end),
    where only counts have changed at most every 15 s, and where nothing has changed every 60 s. In
    a process with many guards both are longer, so that all of them together write at most five
    records a second. ``due`` in the record is when the next one is to be there; 60 s past it this
    one is stale.

    :param watch: whose record it is
    """

    def __init__(self, watch: Watch) -> None:
        self._watch = watch
        self._looked_at: float | None = None
        self._written_at: float | None = None
        self._shown: tuple[Any, ...] = ()
        self._counts: Any = None

    def wants_writing(self, now: float, guards: int = 1) -> str | None:
        """After a look: ``at once``, ``routine``, or None where there is no need yet.

        :param guards: how many guards this process has
        """
        if self._watch.blind_since is None:
            self._looked_at = now
        if self._written_at is None:
            return "routine"
        if self._what_happened() != self._shown:
            return "at once"
        since = now - self._written_at
        share = guards / WRITES_PER_SECOND
        if self._progress() != self._counts and since >= max(_LEAST_SECONDS, share):
            return "routine"
        # Not at the look after it, which would be late.
        heartbeat = max(_HEARTBEAT_SECONDS, share)
        return "routine" if since + self._watch.interval > heartbeat else None

    def compose(
        self, now: float, guards: int = 1, outcome: Outcome | None = None
    ) -> dict[str, Any]:
        """The record as it is now; from then on it counts as written.

        :param outcome: how the watch has ended; then no further record is due
        """
        watch = self._watch
        self._written_at, self._counts = now, self._progress()
        self._shown = self._what_happened()
        last: Mapping[str, Any] = watch.memory.trail.records[-1] if self._has_looked() else {}
        heartbeat = max(_HEARTBEAT_SECONDS, guards / WRITES_PER_SECOND, watch.interval)
        intent = watch.memory.intent
        return {
            "batch_task_ids": list(watch.plan.batch_task_ids),
            "status": [str(task.status) for task in watch.tasks],
            "progress": self._counts,
            "decision": last.get("decision"),
            "sentence": (outcome.summary if outcome else last.get("sentence", ""))[
                :_MOST_CHARACTERS
            ],
            "rules": list(last.get("rules", ()))[:_MOST_RULES],
            "failures_by_class": last.get("failures_by_class"),
            "stop": None
            if intent is None
            else {
                "sent_at": to_text(intent.get("sent")),
                "accepted_at": to_text(intent.get("accepted")),
                "attempts": intent.get("attempts", 0),
                "error": (intent.get("error") or "")[:_MOST_CHARACTERS] or None,
            },
            "blind_since": to_text(watch.blind_since),
            "verdict": None if outcome is None else outcome.verdict,
            "looked_at": to_text(self._looked_at),
            "next_look": None if outcome else to_text(now + watch.interval),
            "due": None if outcome else to_text(now + heartbeat),
        }

    def _has_looked(self) -> bool:
        return bool(self._watch.memory.trail.records)

    def _progress(self) -> Any:
        tasks = self._watch.tasks
        return total_progress(task.progress for task in tasks).to_dict() if tasks else None

    def _what_happened(self) -> tuple[Any, ...]:
        """What people want to know at once when it changes."""
        watch = self._watch
        intent = watch.memory.intent
        records = watch.memory.trail.records
        return (
            records[-1].get("decision") if records else None,
            watch.blind_since is not None,
            intent is not None,
            bool(intent and intent.get("accepted")),
            bool(intent and intent.get("error")),
        )


def _inner(data: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = data.get(name)
    return found if isinstance(found, Mapping) else {}


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _texts(values: Iterable[Any]) -> list[str]:
    return list(dict.fromkeys(value for value in values if isinstance(value, str)))
