"""A guard's memory: what it remembers between two looks, as plain JSON that survives a restart."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

from iotda_provider.guards import Decision, Look, Verdict
from iotda_provider.guards.audit import AuditTrail, look_of
from iotda_provider.guards.evaluation import GuardState
from iotda_provider.models import BatchTask, TaskProgress, checks
from iotda_provider.models.json_text import plain_arguments
from iotda_provider.models.text import one_line
from iotda_provider.rollout_guard.retrying_devices import RetryingDevices

_VERSION = 1
#: The most kinds of events that people were told of.
_MOST_KINDS = 20
# `AuditTrail.thin` can always shorten a longer trail, and never shortens it below this.
_LEAST_RECORDS = 3
_LONGEST_TEXT = 2_000
# About 300 years after 1970, in seconds. A later time is an error in a note.
_LAST_MOMENT = 1e10
#: The most looks that are kept until an earlier memory is recalled: the first one and the last.
_MOST_LOOKS_SINCE = 20


@dataclass
class Memory:
    """A guard's memory. If it is lost, the guard may stop later, but never sooner.

    :param batch_task_ids: the batch tasks of the rollout
    :param state: what the rules keep (:func:`iotda_provider.guards.evaluate`)
    :param intent: the stop that the guard has decided on: ``time``, ``verdict``, ``progress``,
        ``attempts``, ``sent`` (when it was first sent), ``accepted`` (when the platform accepted
        it), ``error`` (of the last attempt), ``told`` (of which of its events people were told),
        ``earlier`` (the stop is known from a saved memory only, and no look has confirmed it yet);
        None: no stop
    :param looks: how many usable looks there were
    :param held: whether a person was told of a hold
    :param ended: completed batch tasks as they were last read, by id
    :param trail: the audit trail
    :param retrying: the devices that were found waiting for a retry
    :param retries: (retry_count, retry_interval in minutes) of the batch tasks; None: not known
    """

    batch_task_ids: tuple[str, ...]
    state: dict[str, Any] = field(default_factory=dict)
    intent: dict[str, Any] | None = None
    looks: int = 0
    held: bool = False
    ended: dict[str, dict[str, Any]] = field(default_factory=dict)
    trail: AuditTrail = field(default_factory=AuditTrail)
    retrying: RetryingDevices = field(default_factory=RetryingDevices)
    retries: list[int] | None = None
    #: The records of earlier processes' looks, once their memory was adopted.
    recalled: list[dict[str, Any]] = field(
        default_factory=list, init=False, repr=False, compare=False
    )
    #: The devices that had started by then.
    recalled_started: int = field(default=0, init=False, repr=False, compare=False)
    _since: list[Look] = field(default_factory=list, init=False, repr=False, compare=False)

    def to_json(self) -> dict[str, Any]:
        """The memory as plain JSON, which later looks do not change.

        It has up to about 500 bytes for each record of the trail.
        """
        trail = list(self.trail.records)
        return {"version": _VERSION, **plain_arguments(self), "trail": trail}

    @classmethod
    def from_json(
        cls,
        data: object,
        batch_task_ids: tuple[str, ...],
        audit_limit: int = 500,
        *,
        is_signed: bool = True,
    ) -> Memory:
        """Read what :meth:`to_json` wrote.

        A memory of another rollout, or a damaged one (Airflow Variables can be edited), is read as
        an empty memory. A memory may name more batch tasks than these, which a release's wave has
        created since.

        :param is_signed: whether a guard has certainly written the memory
            (:class:`~iotda_provider.rollout_guard.signature.Signature`). Otherwise only that is
            taken that can't make the guard stop sooner: which devices have started and have ended
            well. A decided stop, failed attempts and all times are left out
        """
        if isinstance(data, Mapping) and cls.is_readable(data):
            # OverflowError: of an infinity.
            with suppress(
                *(TypeError, ValueError, AttributeError, KeyError, RecursionError, OverflowError)
            ):
                if set(batch_task_ids) <= set(data["batch_task_ids"]):
                    memory = cls._read(data, batch_task_ids, audit_limit)
                    return memory if is_signed else memory._without_unsigned_claims()
        return cls(batch_task_ids, trail=AuditTrail(audit_limit))

    @staticmethod
    def is_readable(data: Mapping[str, Any]) -> bool:
        """Whether a memory has the format of this version of the provider."""
        return bool(data.get("version") == _VERSION)

    def _without_unsigned_claims(self) -> Memory:
        state = GuardState.from_json(self.state).without_times().without_attempts()
        kept = state.to_json() if state.tasks else {}
        return replace(self, state=kept, intent=None, retrying=RetryingDevices())

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
            _drop_failures(BatchTask.from_wire(task), task)
        trail = AuditTrail(audit_limit)
        trail.records = [_checked(record) for record in data.get("trail") or ()]
        return cls(
            batch_task_ids,
            state=state,
            intent=intent or None,
            looks=checks.whole("looks", data.get("looks") or 0),
            held=bool(data.get("held")),
            ended=ended,
            trail=trail,
            retrying=RetryingDevices.from_json(data.get("retrying")),
            retries=_retries(data.get("retries")),
        )

    @property
    def started(self) -> int:
        """n, the devices that have ever started, as of the last judged look."""
        return int(self.state.get("started") or 0)

    def note_look(self, look: Look) -> None:
        """Keep a judged look, for an earlier memory that may still be recalled."""
        if look.can_be_judged and not look.being_stopped:
            if len(self._since) == _MOST_LOOKS_SINCE:
                del self._since[1]
            self._since.append(look)

    def adopt(self, older: Memory) -> None:
        """Add an earlier memory that was recalled after some looks; call this between two looks.

        A guard does not wait for its earlier memory: it decides from the platform's counts alone.
        Afterwards this memory is as if the guard had had the earlier one from the start: n never
        falls, and the rules' history continues with the looks since.

        An earlier stop is recognised as the guard's own if the platform shows that the rollout is
        being stopped; if not, the next look judges again. So the guard reports a rollout that is
        being stopped, or is gone, only after this call: it may have stopped the rollout itself.
        """
        now, state = GuardState.from_json(self.state), GuardState.from_json(older.state)
        for look in self._since:
            state = state.after(look, now.history.points, now.ages.horizon)
        if older.state or self.state:
            self.state = state.with_at_least(now).to_json()
        self._since.clear()
        self.retrying.adopt(older.retrying)
        self.retries = self.retries or older.retries
        if self.intent is None and older.intent is not None:
            self.intent = {**older.intent, "earlier": True}
        self.looks += older.looks
        self.held = self.held or older.held
        self.ended = {**older.ended, **self.ended}
        self.recalled = list(older.trail.records)
        self.recalled_started = older.started
        looks, self.trail.records = self.trail.records, list(older.trail.records)
        for record in looks:
            self.trail.add(record)

    def note_ended(self, tasks: list[BatchTask]) -> None:
        """Remember completed batch tasks, which count even if somebody deletes them later."""
        for task in tasks:
            if task.status.is_completed and not task.lacks_counts:
                self.ended[task.task_id] = _to_wire(task)
            else:
                self.ended.pop(task.task_id, None)

    def ended_task(self, batch_task_id: str) -> BatchTask | None:
        """The batch task as it was last read, if it had completed by then; else None."""
        wire = self.ended.get(batch_task_id)
        return BatchTask.from_wire(wire) if wire else None


def _checked(record: Mapping[str, Any]) -> dict[str, Any]:
    look_of(record)
    Decision(record["decision"])
    rules = record.get("rules", [])
    if not isinstance(rules, list) or not all(isinstance(rule, Mapping) for rule in rules):
        raise ValueError("the rules of a look are not a list of objects")
    for name in ("looks", "omitted"):
        checks.whole(name, record.get(name, 0))
    return {**record, "sentence": _text(record.get("sentence", ""))}


def _checked_intent(intent: Mapping[str, Any]) -> dict[str, Any]:
    Verdict.from_dict(intent["verdict"])
    checks.whole("attempts", intent["attempts"])
    for name in ("time", "sent", "accepted", "seen"):
        moment = intent.get(name, 0)
        if moment is not None and not 0 <= moment <= _LAST_MOMENT:
            raise ValueError(f"the {name} of a stop is not a time")
    verdict = {**intent["verdict"], "sentence": _text(intent["verdict"].get("sentence") or "")}
    error = intent.get("error")
    told = [kind for kind in intent.get("told") or () if isinstance(kind, str)][:_MOST_KINDS]
    checked = {**intent, "verdict": verdict, "error": None if error is None else _text(error)}
    return {**checked, "told": told} if told else checked


def _retries(value: object) -> list[int] | None:
    return None if value is None else list(checks.pair("retries", value))


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError("not a text")
    return one_line(value, _LONGEST_TEXT)


def _drop_failures(task: BatchTask, wire: dict[str, Any]) -> None:
    """Count a remembered task's failures as successes: anybody may have written the memory."""
    counts = dict(wire.get("task_progress") or {})
    wire["task_progress"] = {**counts, "success": task.progress.finished, "fail": 0}


def newest(*memories: Any) -> Any:
    """The copy of a memory, as JSON, with the most looks; of equals, the first; None: no copy."""
    found = [memory for memory in memories if isinstance(memory, Mapping)]
    return max(found, key=_age, default=None)


def _age(memory: Mapping[str, Any]) -> tuple[int, bool]:
    looks = memory.get("looks")
    return (looks if isinstance(looks, int) else 0), bool(memory.get("intent"))


def fitted(memory: Mapping[str, Any], most_bytes: int) -> dict[str, Any]:
    """The memory as JSON, its trail thinned until all of it fits into ``most_bytes``.

    Three records of the trail stay in any case, and so does everything else. Each ended batch task
    takes about 300 bytes of that, so the memory of a guard of many batch tasks may be larger.
    """
    made, trail = dict(memory), AuditTrail(records=list(memory.get("trail") or ()))
    while _size(made) > most_bytes and len(trail.records) > _LEAST_RECORDS:
        trail.thin()
        made["trail"] = trail.records
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
