"""What people see of a guard, a wave or a stop: a header once, and a small record of how it stands.

Pure: what is in them, and when the record is due. ``LiveInWorker`` and ``LiveInTriggerer`` write
them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

from iotda_provider.guards import Rule, rules_to_json, total_progress
from iotda_provider.models import BatchTask
from iotda_provider.rollout_guard.outcome import Outcome, to_text
from iotda_provider.rollout_guard.watch import Watch

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
    filters = [_inner(task.raw, "targets_filter") for task in tasks]
    return {
        "kind": kind,
        "batch_task_ids": list(batch_task_ids),
        "batch_task_names": [task.task_name for task in tasks],
        "package_ids": _texts(key for task in tasks for key in package_ids(task)),
        "version": version,
        "group_ids": _texts(item for group in filters for item in _listed(group.get("group_ids"))),
        "rules": rules_to_json(rules),
        "iotda_conn_id": iotda_conn_id,
        "poll_interval": poll_interval,
    }


class Ended(NamedTuple):
    """How what was watched has ended, where that is no guard's :class:`Outcome`."""

    verdict: str
    summary: str


@dataclass(frozen=True)
class LiveState:
    """How a guard, a wave of a release or a stop stands now.

    :param interval: seconds from one look to the next
    :param judged: the last look that was judged, as the trail has it
    :param intent: the stop that was decided on (:class:`~iotda_provider.rollout_guard.Memory`)
    :param blind_since: since when no look could be judged (seconds since the epoch)
    :param reasons: the first failures whose reason was read
    """

    batch_task_ids: tuple[str, ...]
    tasks: Sequence[BatchTask]
    interval: float
    judged: Mapping[str, Any] = field(default_factory=dict)
    intent: Mapping[str, Any] | None = None
    blind_since: float | None = None
    reasons: Sequence[Mapping[str, Any]] = ()

    @property
    def progress(self) -> dict[str, Any] | None:
        """The counts of all tasks together."""
        if not self.tasks:
            return None
        return total_progress(task.progress for task in self.tasks).to_dict()

    @property
    def news(self) -> tuple[Any, ...]:
        """What people want to know at once when it changes."""
        intent = self.intent
        return (
            self.judged.get("decision"),
            self.blind_since is not None,
            intent is not None,
            bool(intent and intent.get("accepted")),
            bool(intent and intent.get("error")),
        )


class LiveRecord:
    """How a guard or a stop stands, as plain JSON of about 1 kB: the XCom ``live``; and when it is
    due.

    It is written at once when something happens (a hold, a breach, a stop, blindness, the end),
    where only counts have changed at most every 15 s, and where nothing has changed every 60 s. In
    a process with many guards both are longer, so that all of them together write at most five
    records a second. ``due`` in the record is when the next one is to be there; 60 s past it this
    one is stale.

    :param watched: the guard; or, of anything else, what says how that stands
    """

    def __init__(self, watched: Watch | Callable[[], LiveState]) -> None:
        self._stands = partial(_standing, watched) if isinstance(watched, Watch) else watched
        self._looked_at: float | None = None
        self._written_at: float | None = None
        self._shown: tuple[Any, ...] = ()
        self._counts: Any = None

    def wants_writing(self, now: float, guards: int = 1) -> str | None:
        """After a look: ``at once``, ``routine``, or None where there is no need yet.

        :param guards: how many guards this process has
        """
        stands = self._stands()
        if stands.blind_since is None:
            self._looked_at = now
        if self._written_at is None:
            return "routine"
        if stands.news != self._shown:
            return "at once"
        since = now - self._written_at
        share = guards / WRITES_PER_SECOND
        if stands.progress != self._counts and since >= max(_LEAST_SECONDS, share):
            return "routine"
        # Not at the look after it, which would be late.
        heartbeat = max(_HEARTBEAT_SECONDS, share)
        return "routine" if since + stands.interval > heartbeat else None

    def compose(
        self, now: float, guards: int = 1, outcome: Outcome | Ended | None = None
    ) -> dict[str, Any]:
        """The record as it is now; from then on it counts as written.

        :param outcome: how it has ended; then no further record is due
        """
        stands = self._stands()
        self._written_at, self._counts, self._shown = now, stands.progress, stands.news
        judged, intent = stands.judged, stands.intent
        heartbeat = max(_HEARTBEAT_SECONDS, guards / WRITES_PER_SECOND, stands.interval)
        return {
            "batch_task_ids": list(stands.batch_task_ids),
            "status": [str(task.status) for task in stands.tasks],
            "progress": self._counts,
            "decision": judged.get("decision"),
            "sentence": (outcome.summary if outcome else judged.get("sentence", ""))[
                :_MOST_CHARACTERS
            ],
            "rules": list(judged.get("rules", ()))[:_MOST_RULES],
            "failures_by_class": judged.get("failures_by_class"),
            "first_reasons": [dict(reason) for reason in stands.reasons],
            "stop": None
            if intent is None
            else {
                "sent_at": to_text(intent.get("sent")),
                "accepted_at": to_text(intent.get("accepted")),
                "attempts": intent.get("attempts", 0),
                "error": (intent.get("error") or "")[:_MOST_CHARACTERS] or None,
            },
            "blind_since": to_text(stands.blind_since),
            "verdict": None if outcome is None else outcome.verdict,
            "looked_at": to_text(self._looked_at),
            "next_look": None if outcome else to_text(now + stands.interval),
            "due": None if outcome else to_text(now + heartbeat),
        }


def _standing(watch: Watch) -> LiveState:
    records = watch.memory.trail.records
    return LiveState(
        batch_task_ids=watch.plan.batch_task_ids,
        tasks=watch.tasks,
        interval=watch.interval,
        judged=records[-1] if records else {},
        intent=watch.memory.intent,
        blind_since=watch.blind_since,
        reasons=watch.first_reasons,
    )


class StopLiveState:
    """How a stop stands that no guard has sent.

    :param batch_task_id: the task
    :param interval: seconds from one look to the next
    :param sent: when the stop was sent and taken, in seconds since the epoch; None: not yet
    """

    def __init__(self, batch_task_id: str, interval: float, sent: float | None = None) -> None:
        self._about = (batch_task_id,)
        self._interval = interval
        self._tasks: list[BatchTask] = []
        self.sent = sent

    def saw(self, task: BatchTask) -> None:
        """After a look."""
        self._tasks = [task]

    def __call__(self) -> LiveState:
        said = "NOT STOPPED YET" if self.sent is None else "STOPPING"
        stop = {"sent": self.sent, "accepted": self.sent, "attempts": 1}
        return LiveState(
            batch_task_ids=self._about,
            tasks=self._tasks,
            interval=self._interval,
            judged={"sentence": " ".join(f"{said}: {task.progress}." for task in self._tasks)},
            intent=None if self.sent is None else stop,
        )


def package_ids(task: BatchTask) -> list[str]:
    """The packages that a batch task installs."""
    document = _inner(task.raw, "document")
    return _texts((*_listed(document.get("package_ids")), document.get("package_id")))


def _inner(data: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = data.get(name)
    return found if isinstance(found, Mapping) else {}


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _texts(values: Iterable[Any]) -> list[str]:
    return list(dict.fromkeys(value for value in values if isinstance(value, str)))
