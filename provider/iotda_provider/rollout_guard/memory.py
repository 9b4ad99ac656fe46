"""What a guard remembers between two looks, as plain JSON that survives a restart."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

from iotda_provider.guards import Decision, Look, Verdict
from iotda_provider.guards.audit import AuditTrail, look_of
from iotda_provider.guards.evaluation import GuardState
from iotda_provider.models import BatchTask, TaskProgress
from iotda_provider.models.text import one_line

_VERSION = 1
_LEAST_RECORDS = 10
_LONGEST_TEXT = 2_000
# Some 300 years from 1970, in seconds: later moments have no date.
_LAST_MOMENT = 1e10
#: The first look and the last ones that a memory is added to which is recalled later.
_MOST_LOOKS_SINCE = 20


@dataclass
class Memory:
    """A guard's memory; all of it may be lost, which makes a guard later but never hastier.

    :param batch_task_ids: whose memory it is
    :param state: what the rules keep (:func:`iotda_provider.guards.evaluate`)
    :param intent: the stop that the guard has decided on: ``time``, ``verdict``, ``progress``,
        ``attempts``, ``accepted`` (when the platform took it), ``error`` (why not, the last time),
        ``earlier`` (known from a note only, and nobody has seen yet what came of it)
    :param looks: how many usable looks there were
    :param held: whether a person was told of a hold
    :param ended: the last description of tasks that had completed, by id
    :param trail: the audit trail
    """

    batch_task_ids: tuple[str, ...]
    state: dict[str, Any] = field(default_factory=dict)
    intent: dict[str, Any] | None = None
    looks: int = 0
    held: bool = False
    ended: dict[str, dict[str, Any]] = field(default_factory=dict)
    trail: AuditTrail = field(default_factory=AuditTrail)
    _since: list[Look] = field(default_factory=list, init=False, repr=False, compare=False)

    def to_json(self) -> dict[str, Any]:
        """As plain JSON, which later looks leave as it is: it may be written down meanwhile.

        Up to some 500 bytes for each record of the trail.
        """
        return {
            "version": _VERSION,
            "batch_task_ids": list(self.batch_task_ids),
            "state": dict(self.state),
            "intent": None if self.intent is None else dict(self.intent),
            "looks": self.looks,
            "held": self.held,
            "ended": dict(self.ended),
            "trail": list(self.trail.records),
        }

    @classmethod
    def from_json(
        cls,
        data: object,
        batch_task_ids: tuple[str, ...],
        audit_limit: int = 500,
        *,
        is_signed: bool = True,
    ) -> Memory:
        """Read what :meth:`to_json` wrote; another rollout's memory is none of ours.

        Nor is one that somebody has damaged: Airflow Variables can be edited.

        :param is_signed: whether a guard has written it for sure
            (:class:`~iotda_provider.rollout_guard.signature.Signature`). From what anybody may have
            written only that is taken which can make a guard later: that devices have started, and
            have ended well. That it has decided on a stop is left out, and since when what goes on
        """
        if isinstance(data, Mapping) and data.get("version") == _VERSION:
            # Among them an infinity.
            with suppress(
                *(TypeError, ValueError, AttributeError, KeyError, RecursionError, OverflowError)
            ):
                if tuple(data["batch_task_ids"]) == batch_task_ids:
                    memory = cls._read(data, batch_task_ids, audit_limit)
                    return memory if is_signed else memory._only_later()
        return cls(batch_task_ids, trail=AuditTrail(audit_limit))

    def _only_later(self) -> Memory:
        state = GuardState.from_json(self.state).without_times()
        return replace(self, state=state.to_json() if state.tasks else {}, intent=None)

    @classmethod
    def _read(
        cls, data: Mapping[str, Any], batch_task_ids: tuple[str, ...], audit_limit: int
    ) -> Memory:
        state, intent = dict(data.get("state") or {}), data.get("intent")
        GuardState.from_json(state)
        if intent:
            intent = _checked_intent({"attempts": 0, **intent})
        ended = {str(key): dict(task) for key, task in (data.get("ended") or {}).items()}
        for task in ended.values():
            _as_healthy(BatchTask.from_wire(task), task)
        trail = AuditTrail(audit_limit)
        trail.records = [_checked(record) for record in data.get("trail") or ()]
        return cls(
            batch_task_ids,
            state=state,
            intent=intent or None,
            looks=_count(data.get("looks") or 0),
            held=bool(data.get("held")),
            ended=ended,
            trail=trail,
        )

    @property
    def started(self) -> int:
        """n, the devices that have ever started, as of the last look that was judged."""
        return int(self.state.get("started") or 0)

    def note_look(self, look: Look) -> None:
        """Keep a look that was judged, for a memory that may still be recalled."""
        if look.can_be_judged and not look.being_stopped:
            if len(self._since) == _MOST_LOOKS_SINCE:
                del self._since[1]
            self._since.append(look)

    def adopt(self, older: Memory) -> None:
        """Take over what was remembered before, after some looks without it.

        A guard need not wait for its memory: it looks, and decides from the platform's counts. Once
        the memory has come, call this between two looks. Then it is as if the looks since had been
        taken with it: n never falls, and what the rules keep of the time before is followed by what
        was seen since. A stop that was decided on before is known as the guard's own where the
        platform shows it; where it does not, the next look judges anew. So what may be its own
        doing (a rollout that is being stopped, or is gone) is told only after this.
        """
        now, state = GuardState.from_json(self.state), GuardState.from_json(older.state)
        for look in self._since:
            state = state.seen(look, now.history.points)
        if older.state or self.state:
            self.state = state.with_at_least(now).to_json()
        self._since.clear()
        if self.intent is None and older.intent is not None:
            self.intent = {**older.intent, "earlier": True}
        self.looks += older.looks
        self.held = self.held or older.held
        self.ended = {**older.ended, **self.ended}
        looks, self.trail.records = self.trail.records, list(older.trail.records)
        for record in looks:
            self.trail.add(record)

    def note_ended(self, tasks: list[BatchTask]) -> None:
        """Remember the tasks that have completed: deleted later, they still count."""
        for task in tasks:
            if task.status.is_completed:
                self.ended[task.task_id] = _to_wire(task)
            else:
                self.ended.pop(task.task_id, None)

    def ended_task(self, batch_task_id: str) -> BatchTask | None:
        """A task that had completed when it was last seen."""
        wire = self.ended.get(batch_task_id)
        return BatchTask.from_wire(wire) if wire else None


def _checked(record: Mapping[str, Any]) -> dict[str, Any]:
    look_of(record)
    Decision(record["decision"])
    rules = record.get("rules", [])
    if not isinstance(rules, list) or not all(isinstance(rule, Mapping) for rule in rules):
        raise ValueError("a look whose rules are no list of objects")
    for name in ("looks", "omitted"):
        _count(record.get(name, 0))
    return {**record, "sentence": _text(record.get("sentence", ""))}


def _checked_intent(intent: Mapping[str, Any]) -> dict[str, Any]:
    Verdict.from_dict(intent["verdict"])
    _count(intent["attempts"])
    for name in ("time", "sent", "accepted", "seen"):
        moment = intent.get(name, 0)
        if moment is not None and not 0 <= moment <= _LAST_MOMENT:
            raise ValueError(f"a stop whose {name} is no moment")
    verdict = {**intent["verdict"], "sentence": _text(intent["verdict"].get("sentence") or "")}
    error = intent.get("error")
    return {**intent, "verdict": verdict, "error": None if error is None else _text(error)}


def _count(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ValueError("not a count")
    return value


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError("not a text")
    return one_line(value, _LONGEST_TEXT)


def _as_healthy(task: BatchTask, wire: dict[str, Any]) -> None:
    """Let what a note says of a task that is gone spare a rollout: anybody may have written it."""
    counts = dict(wire.get("task_progress") or {})
    wire["task_progress"] = {**counts, "success": task.progress.finished, "fail": 0}


def newest(*memories: Any) -> Any:
    """The one of several copies, as JSON, that has seen most; of equals, the first."""
    found = [memory for memory in memories if isinstance(memory, Mapping)]
    return max(found, key=_age, default=None)


def _age(memory: Mapping[str, Any]) -> tuple[int, bool]:
    looks = memory.get("looks")
    return (looks if isinstance(looks, int) else 0), bool(memory.get("intent"))


def fitted(memory: Mapping[str, Any], most_bytes: int) -> dict[str, Any]:
    """A memory as JSON whose trail is thinned, to nothing if need be, until all of it fits."""
    made = dict(memory)
    while (size := _size(made)) > most_bytes and made.get("trail"):
        records = made["trail"]
        limit = int(len(records) * most_bytes / size * 0.9)
        trail = AuditTrail(max(_LEAST_RECORDS, limit))
        for record in records:
            trail.add(record)
        made["trail"] = trail.records if len(trail.records) < len(records) else []
    return made


def _size(memory: Mapping[str, Any]) -> int:
    return len(json.dumps(memory, separators=(",", ":")).encode())


def _to_wire(task: BatchTask) -> dict[str, Any]:
    counts = {name: getattr(task.progress, name) for name in TaskProgress.__dataclass_fields__}
    counts["waitting"] = counts.pop("waiting")
    return {
        "task_id": task.task_id,
        "task_type": str(task.task_type) if task.task_type else None,
        "status": str(task.status),
        "task_progress": counts,
    }
