"""What people see of a running guard, wave or stop: the XComs ``rollout`` and ``live``.

This file does no I/O: it says what is in the XComs and when ``live`` is due. ``LiveInWorker`` and
``LiveInTriggerer`` write them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

from iotda_provider.guards import Rule, rules_to_json, total_progress
from iotda_provider.models import BatchTask
from iotda_provider.rollout_guard.outcome import Outcome, present, to_text
from iotda_provider.rollout_guard.watch import Watch

#: Keys of the two XComs.
HEADER_KEY, LIVE_KEY = "rollout", "live"
#: At most so many routine records are written by one process in a second.
WRITES_PER_SECOND = 5.0
#: A record is stale when it is overdue by more than these seconds.
STALE_SECONDS = 60.0
_LEAST_SECONDS, _HEARTBEAT_SECONDS = 15.0, 60.0
#: What is shown of a trial's answer.
_OF_A_TRIAL = ("decision", "sentence", "look", "treated", "control", "p", "stops_at", "p_newest")
_MOST_RULES, _MOST_CHARACTERS, _MOST_POINTS = 4, 240, 24


def header(
    kind: str,
    batch_task_ids: Iterable[str],
    tasks: Sequence[BatchTask] = (),
    *,
    rules: Sequence[Rule] = (),
    iotda_conn_id: str,
    poll_interval: float,
    version: str | None = None,
    project_id: str | None = None,
    instance_id: str | None = None,
    shadow: bool = False,
    stops: bool = True,
) -> dict[str, Any]:
    """The XCom ``rollout`` as plain JSON: what a guard, a stop or a release is about.

    ``{"kind", "batch_task_ids", "batch_task_names", "package_ids", "version", "group_ids", "rules",
    "iotda_conn_id", "project_id", "instance_id", "poll_interval", "shadow", "stops"}``; what has
    not been read yet is empty or None. A release adds ``devices``, the number of all its devices.

    :param kind: ``guard``, ``stop`` or ``release``
    :param tasks: the batch tasks that could be read
    :param version: the version of the package; None: unknown
    :param project_id: what the task has instead of the connection's; None: the connection's
    :param instance_id: the same
    :param shadow: whether a guard only decides and reports
    :param stops: whether a breach stops the rollout
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
        "project_id": project_id,
        "instance_id": instance_id,
        "poll_interval": poll_interval,
        "shadow": shadow,
        "stops": stops,
    }


class Ended(NamedTuple):
    """How a wave or a stop has ended; a guard has an :class:`Outcome` instead."""

    verdict: str
    summary: str


@dataclass(frozen=True)
class LiveState:
    """The present state of a guard, of a wave of a release, or of a stop.

    :param interval: seconds from one look to the next
    :param judged: the record of the last judged look, as in the audit trail
    :param intent: the stop that was decided on (:class:`~iotda_provider.rollout_guard.Memory`)
    :param blind_since: since when no look could be judged, in seconds since the epoch; None: the
        last look was judged
    :param reasons: the first failures whose reasons were read
    :param started: devices that have ever started, as far as a guard knows
    :param looks: the records of all judged looks, the earliest first
    :param trial: what the trial of a release has answered last
    """

    batch_task_ids: tuple[str, ...]
    tasks: Sequence[BatchTask]
    interval: float
    judged: Mapping[str, Any] = field(default_factory=dict)
    intent: Mapping[str, Any] | None = None
    blind_since: float | None = None
    reasons: Sequence[Mapping[str, Any]] = ()
    started: int = 0
    looks: Sequence[Mapping[str, Any]] = ()
    trial: Mapping[str, Any] | None = None

    @property
    def progress(self) -> dict[str, Any] | None:
        """The summed counts of all batch tasks; None before the first look."""
        if not self.tasks:
            return None
        counts = total_progress(task.progress for task in self.tasks).to_dict()
        return {**counts, "started": max(counts["started"], self.started)}

    @property
    def news(self) -> tuple[Any, ...]:
        """The parts of the state of which a change is written at once."""
        intent = self.intent
        return (
            self.judged.get("decision"),
            self.blind_since is not None,
            intent is not None,
            bool(intent and intent.get("accepted")),
            bool(intent and intent.get("error")),
            self.trial and self.trial.get("look"),
        )


class LiveRecord:
    """The XCom ``live``: the present state as plain JSON of about 1 kB, and when it is due.

    It is written at once when something happens (a hold, a breach, a stop, an outage, the end), at
    most every 15 s when only the counts have changed, and every 60 s when nothing has changed. In a
    process with many guards both intervals are longer, so that all guards together write at most
    five records a second. ``due`` in a record is the time by which the next one is written; 60 s
    later the record is stale.

    :param watched: the guard, or a function that returns the present state of a wave or a stop
    """

    def __init__(self, watched: Watch | Callable[[], LiveState]) -> None:
        self._state = partial(_state_of, watched) if isinstance(watched, Watch) else watched
        self._looked_at: float | None = None
        self._written_at: float | None = None
        self._shown: tuple[Any, ...] = ()
        self._counts: Any = None

    def wants_writing(self, now: float, guards: int = 1) -> str | None:
        """How the record is to be written after a look.

        :param now: the time of the look, in seconds since the epoch
        :param guards: how many guards this process has
        :returns: ``at once``, ``routine``, or None: no record is due
        """
        state = self._state()
        if state.blind_since is None:
            self._looked_at = now
        if self._written_at is None:
            return "routine"
        if state.news != self._shown:
            return "at once"
        since = now - self._written_at
        share = guards / WRITES_PER_SECOND
        if state.progress != self._counts and since >= max(_LEAST_SECONDS, share):
            return "routine"
        # After the next look, the record would be late.
        heartbeat = max(_HEARTBEAT_SECONDS, share)
        return "routine" if since + state.interval > heartbeat else None

    def compose(
        self, now: float, guards: int = 1, outcome: Outcome | Ended | None = None
    ) -> dict[str, Any]:
        """The record of now, which counts as written from here on.

        :param outcome: how the watch has ended: no further record is due; None: it goes on
        """
        state = self._state()
        if self._looked_at is None and state.tasks and state.blind_since is None:
            self._looked_at = now
        self._written_at, self._counts, self._shown = now, state.progress, state.news
        judged, intent = state.judged, state.intent
        heartbeat = max(_HEARTBEAT_SECONDS, guards / WRITES_PER_SECOND, state.interval)
        return {
            "batch_task_ids": list(state.batch_task_ids),
            "status": [str(task.status) for task in state.tasks],
            "progress": self._counts,
            "decision": judged.get("decision"),
            "sentence": (outcome.summary if outcome else _sentence(state))[:_MOST_CHARACTERS],
            "rules": list(judged.get("rules", ()))[:_MOST_RULES],
            "attempted": judged.get("attempted"),
            "curve": _curve(state.looks),
            "failures_by_class": judged.get("failures_by_class"),
            "first_reasons": [dict(reason) for reason in state.reasons],
            "trial": state.trial and {key: state.trial.get(key) for key in _OF_A_TRIAL},
            "stop": None
            if intent is None
            else {
                "sent_at": to_text(intent.get("sent")),
                "accepted_at": to_text(intent.get("accepted")),
                "attempts": intent.get("attempts", 0),
                "error": (intent.get("error") or "")[:_MOST_CHARACTERS] or None,
            },
            "blind_since": to_text(state.blind_since),
            "verdict": None if outcome is None else outcome.verdict,
            "guard_lost": isinstance(outcome, Outcome) and outcome.guard_lost,
            "looked_at": to_text(self._looked_at),
            "next_look": None if outcome else to_text(now + state.interval),
            "due": None if outcome else to_text(now + heartbeat),
        }


def _state_of(watch: Watch) -> LiveState:
    # What is being stopped is not judged, and the platform counts no device as started any more.
    records = [one for one in watch.memory.trail.records if not one.get("being_stopped")]
    return LiveState(
        batch_task_ids=watch.plan.batch_task_ids,
        tasks=watch.tasks,
        interval=watch.interval,
        judged=records[-1] if records else {},
        intent=watch.memory.intent,
        blind_since=watch.blind_since,
        reasons=watch.first_reasons,
        started=watch.memory.started,
        looks=records,
        trial=watch.trial,
    )


def _sentence(state: LiveState) -> str:
    """The present state in words, the outcome first."""
    sentence, decision = str(state.judged.get("sentence", "")), state.judged.get("decision")
    if decision is None:  # a stop says it itself
        return sentence
    if state.intent is not None:
        return f"STOPPING: {sentence}"
    return f"BLIND: {sentence}" if state.blind_since is not None else present(decision, sentence)


def _curve(looks: Sequence[Mapping[str, Any]]) -> list[list[float | None]]:
    """Started and failed devices and the first rule's value, at some of the looks."""
    step = max(1, -(-len(looks) // _MOST_POINTS))
    some = looks[::-step][::-1]  # the last look is one of them
    return [_point(look) for look in some if isinstance(look.get("progress"), Mapping)]


def _point(look: Mapping[str, Any]) -> list[float | None]:
    counts = look["progress"]
    started = ("success", "fail", "fail_wait_retry", "processing")
    value = next((rule.get("value") for rule in look.get("rules", ())), None)
    is_finite = isinstance(value, (int, float)) and math.isfinite(value)
    return [
        sum(counts.get(name, 0) for name in started),
        counts.get("fail", 0),
        round(float(value), 2) if is_finite and value is not None else None,
    ]


class StopLiveState:
    """The present state of a stop that no guard has sent; call it for the ``LiveState``.

    :param batch_task_id: the batch task
    :param interval: seconds from one look to the next
    :param sent: when the stop was accepted, in seconds since the epoch; None: not yet
    """

    def __init__(self, batch_task_id: str, interval: float, sent: float | None = None) -> None:
        self._batch_task_ids = (batch_task_id,)
        self._interval = interval
        self._tasks: list[BatchTask] = []
        self.sent = sent

    def saw(self, task: BatchTask) -> None:
        """Note the batch task as a look has read it."""
        self._tasks = [task]

    def __call__(self) -> LiveState:
        said = "NOT STOPPED YET" if self.sent is None else "STOPPING"
        stop = {"sent": self.sent, "accepted": self.sent, "attempts": 1}
        return LiveState(
            batch_task_ids=self._batch_task_ids,
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
