"""Which state a guard, a stop, a release and a whole rollout are in, and how urgent that is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from iotda_provider.rollout_guard.live_record import STALE_SECONDS
from iotda_provider.ui.reading import Question, Record, SeenXCom
from iotda_provider.ui.xcom_shapes import Live

#: The states, the most urgent first; equal numbers are equally urgent.
NEED = {
    "guard_failed": 0,  # nobody watches, and nothing has stopped the rollout
    "stop_failed": 0,
    "stale": 1,
    "blind": 1,
    "breached": 1,  # a rule broke, and this guard stops nothing
    "asks": 2,
    "hold": 3,
    "shadow_breached": 3,
    "stopping": 4,
    "watched": 5,
    "not_started": 5,
    "lost": 6,
    "stopped": 7,
    "stopped_elsewhere": 7,
    "ended": 8,
    "completed": 8,
}
#: These states are over: nothing follows by itself.
OVER = frozenset({"lost", "stopped", "stopped_elsewhere", "ended", "completed"})
#: Somebody watches in these.
_WATCHING = frozenset({"watched", "not_started", "hold", "stopping", "asks"})
_GONE = frozenset({"failed", "upstream_failed", "success", "skipped", "removed"})
#: A release that has come to one of these goes no further; after any other, a task follows.
_ENDS_A_RELEASE = frozenset({"breached", "rejected", "stopped_elsewhere", "lost"})


@dataclass(frozen=True)
class Entry:
    """What the page knows of one guard, stop or release, and the state that it is in.

    :param live: the newest live record; None: there is none yet
    :param source: the XCom that holds it
    """

    record: Record
    live: Live | None
    source: SeenXCom | None
    question: Question | None
    state: str

    @property
    def need(self) -> int:
        return NEED[self.state]

    @property
    def is_over(self) -> bool:
        return self.state in OVER


def state_of(
    record: Record,
    live: Live | None,
    source: SeenXCom | None,
    question: Question | None,
    now: datetime,
) -> str:
    """The state of one guard, stop or release at a time."""
    kind = record.header.kind
    if question is not None:
        # A guard may go on while a person is asked; a rollout that it is stopping needs no answer.
        is_stopping = live is not None and live.verdict is None and live.stop is not None
        return _of_a_present_look(live) if live and is_stopping else "asks"
    task_state = record.task_state if source is None else source.task_state
    if live is not None and live.verdict is not None:
        if kind == "stop":
            return _of_an_ended_stop(live.verdict)
        if kind == "release" and live.verdict not in _ENDS_A_RELEASE:
            return _between_waves(record, live)
        return _of_an_ended_guard(live)
    has_gone = task_state in _GONE or record.run_state in ("failed", "success")
    if has_gone:
        if live is not None and live.is_over:
            return "ended"
        return "stop_failed" if kind == "stop" else "guard_failed"
    if live is None:
        waited = now - record.at
        return "stale" if waited > timedelta(seconds=3 * STALE_SECONDS) else "not_started"
    if live.due is not None and now - live.due > timedelta(seconds=STALE_SECONDS):
        return "stale"
    if kind == "stop":
        return "stopping"
    return _of_a_present_look(live)


def _of_a_present_look(live: Live) -> str:
    if live.stop is not None:
        return "stop_failed" if live.stop["error"] and not live.stop["accepted_at"] else "stopping"
    if live.blind_since is not None:
        return "blind"
    if live.decision == "hold":
        return "hold"
    return "watched" if live.progress and live.progress["started"] else "not_started"


def _of_an_ended_guard(live: Live) -> str:
    if live.guard_lost and not (live.stop and live.stop["accepted_at"]):
        return "ended" if live.is_over else "guard_failed"
    if live.stop is not None:
        if live.stop["accepted_at"] is None and not live.is_over:
            return "stop_failed"
        return "stopped" if live.is_over else "stopping"
    if live.verdict == "breached":
        return "ended" if live.is_over else "breached"
    if live.verdict == "rejected":
        return "stopped" if live.is_over else "stopping"
    named = {"completed": "completed", "stopped_elsewhere": "stopped_elsewhere", "lost": "lost"}
    return named.get(str(live.verdict), "ended" if live.is_over else "stopping")


def _of_an_ended_stop(verdict: str) -> str:
    named = {"stopped": "stopped_elsewhere", "stopping": "stopping", "already_ended": "ended"}
    return named.get(verdict, "stop_failed")


def _between_waves(record: Record, live: Live) -> str:
    if record.run_state == "success":
        return "completed"
    if record.run_state == "failed":
        return "ended" if live.is_over else "guard_failed"
    return "watched"


def with_shadow(state: str, *, is_shadow: bool) -> str:
    """The state of a guard that stops nothing because it is a shadow."""
    return "shadow_breached" if is_shadow and state == "breached" else state


def leading_entry(entries: Sequence[Entry]) -> Entry:
    """Of all guards, stops and releases of one rollout, the one whose state is the rollout's.

    A guard that has failed does not count where another one watches. What is over does not count
    where something goes on. A release, which knows its waves, comes before a guard of one of them.
    """
    guards = [one for one in entries if one.record.header.kind != "stop"]
    watching = [one for one in guards if one.state in _WATCHING]
    present = [one for one in entries if not one.is_over]
    if watching:
        present = [one for one in present if one.state not in ("guard_failed", "stale")]
    # A rollout that is over needs no attention merely because an earlier guard failed.
    ended = [one for one in entries if one.is_over and one.live is not None and one.live.is_over]
    if ended and not watching:
        latest = max(ended, key=_age)
        present = [one for one in present if _age(one) > _age(latest)]
    candidates = present or ended or list(entries)
    kinds = {"release": 0, "guard": 1, "stop": 2}
    if present:
        return min(
            candidates,
            key=lambda one: (one.need, kinds[one.record.header.kind], -one.record.at.timestamp()),
        )
    return min(
        candidates, key=lambda one: (kinds[one.record.header.kind], -one.record.at.timestamp())
    )


def _age(one: Entry) -> float:
    return one.source.at.timestamp() if one.source is not None else one.record.at.timestamp()
