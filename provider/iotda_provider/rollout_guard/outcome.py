"""How a watch ends: the verdict on the rollout, and the summary that a person reads."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from iotda_provider.guards import Decision, Verdict, total_progress
from iotda_provider.models import BatchTask
from iotda_provider.models.json_text import plain_arguments
from iotda_provider.models.times import utc_text
from iotda_provider.rollout_guard.plan import GuardPlan

BREACHED, COMPLETED = "breached", "completed"
STOPPED_ELSEWHERE, LOST = "stopped_elsewhere", "lost"
VERDICTS = (BREACHED, COMPLETED, STOPPED_ELSEWHERE, LOST)

STOPPED, STOPPING, ALREADY_ENDED, FAILED = "stopped", "stopping", "already_ended", "failed"


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """The result of a watch.

    :param verdict: one of ``VERDICTS``
    :param rule: the rule that broke; None: no rule broke
    :param evidence: what the rule measured, and its bound
    :param status: the status of each batch task
    :param progress: the summed counts of all batch tasks
    :param stop: the result of this guard's stop: ``outcome``, ``sent_at``, ``accepted_at``,
        ``attempts``, ``error``; None: this guard has sent none
    :param summary: the result in one or two sentences
    :param guard_lost: whether the guard's time was over before the rollout had ended
    """

    batch_task_ids: tuple[str, ...]
    verdict: str
    rule: str | None = None
    evidence: Mapping[str, Any] = field(default_factory=dict)
    status: tuple[str, ...] = ()
    progress: Mapping[str, int] = field(default_factory=dict)
    stop: Mapping[str, Any] | None = None
    summary: str
    shadow: bool = False
    guard_lost: bool = False

    def to_result(self) -> dict[str, Any]:
        """The sensor's return value, as plain JSON."""
        plain = plain_arguments(self)
        ids, plain["status"] = plain.pop("batch_task_ids"), _one_or_all(self.status)
        return {"batch_task_id": _one_or_all(ids), **plain}

    @property
    def cause(self) -> dict[str, Any]:
        """The broken rule and the guard's stop, as plain JSON, for results of other tasks."""
        return {"rule": self.rule, "stop": plain_arguments(self)["stop"]}

    @classmethod
    def from_result(cls, data: Mapping[str, Any]) -> Outcome:
        """Read what :meth:`to_result` wrote.

        :raises ValueError: the data is something else
        """
        try:
            if data["verdict"] not in VERDICTS:
                raise ValueError(f"not a guard's verdict: {data['verdict']!r}")
            return cls(
                batch_task_ids=_all(data["batch_task_id"]),
                verdict=data["verdict"],
                summary=str(data["summary"]),
                rule=data["rule"],
                evidence=dict(data["evidence"]),
                status=_all(data["status"]),
                progress=dict(data["progress"]),
                stop=None if data["stop"] is None else dict(data["stop"]),
                shadow=bool(data["shadow"]),
                guard_lost=bool(data["guard_lost"]),
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"not a guard's result: {error!r}") from error

    def after(self, stop: Mapping[str, Any], tasks: Sequence[BatchTask]) -> Outcome:
        """The same outcome with the stop, and the batch tasks, as they were read later."""
        return replace(self, stop=stop, **_seen(tasks))


#: The event that people are told of, by the outcome of a guard's stop.
_EVENTS = {STOPPED: "stopped", STOPPING: "stopped", ALREADY_ENDED: "ended", FAILED: "stop_failed"}


def event_of(outcome: Outcome) -> str | None:
    """The kind of event to tell people of; None: the rollout has ended well."""
    if outcome.stop is not None:
        return _EVENTS[outcome.stop["outcome"]]
    if outcome.guard_lost:
        return "guard_lost"
    return {BREACHED: "breach", COMPLETED: None}.get(outcome.verdict, outcome.verdict)


def _one_or_all(values: Sequence[str]) -> str | list[str] | None:
    if not values:
        return None
    return values[0] if len(values) == 1 else list(values)


def _all(value: object) -> tuple[str, ...]:
    if value is None:
        return ()
    return (value,) if isinstance(value, str) else tuple(map(str, value))  # type: ignore[call-overload]


def _seen(tasks: Sequence[BatchTask]) -> dict[str, Any]:
    return {
        "status": tuple(str(task.status) for task in tasks),
        "progress": total_progress(task.progress for task in tasks).to_dict() if tasks else {},
    }


def statuses_of(tasks: Iterable[BatchTask]) -> str:
    """The statuses of batch tasks, each once."""
    return ", ".join(dict.fromkeys(str(task.status) for task in tasks))


def now_in_words(tasks: Sequence[BatchTask], said: object = None) -> str:
    """The present state in words.

    :param said: the number of failed devices that the sentence has said already
    """
    counts = total_progress(task.progress for task in tasks)
    return f"{statuses_of(tasks)}: {counts.others if counts.fail == said else counts}"


def capitalised(text: str) -> str:
    """The text with a capital first letter (``str.capitalize`` changes the other letters too)."""
    return text[:1].upper() + text[1:]


def present(decision: str, sentence: str) -> str:
    """A verdict on a rollout that goes on, the outcome first."""
    return f"{'HOLD' if decision == Decision.HOLD else 'WATCHED'}: {sentence}"


def to_text(time: float | None) -> str | None:
    """A time in seconds since the epoch as ISO 8601 in UTC, with milliseconds."""
    return None if time is None else utc_text(time)


def breached(plan: GuardPlan, verdict: Verdict, tasks: Sequence[BatchTask]) -> Outcome:
    """A rule broke, and this guard does not stop the rollout."""
    word = "BREACHED"
    if all(task.status.is_terminal for task in tasks):
        then = f"There is nothing left to stop: {plan.label} had ended already."
    elif plan.shadow:
        word = "WOULD HAVE STOPPED"
        then = f"This guard is a shadow, so {plan.label} goes on."
    else:
        then = f"This guard does not stop anything, so {plan.label} goes on until something does."
    return _outcome(
        plan,
        tasks,
        BREACHED,
        f"{word}: {verdict.sentence} {then}",
        rule=verdict.rule,
        evidence=verdict.evidence,
        shadow=plan.shadow,
    )


_STOP_SENTENCES = {
    STOPPED: ("STOPPED", "The guard has stopped {label}"),
    STOPPING: ("STOPPING", "The guard has stopped {label}, which is still coming to rest"),
    ALREADY_ENDED: ("ENDED", "{label} ended before the guard's stop reached it"),
    FAILED: ("STOP FAILED", "The guard could NOT stop {label}"),
}


def stopped(
    plan: GuardPlan, intent: Mapping[str, Any], tasks: Sequence[BatchTask], stop_outcome: str
) -> Outcome:
    """This guard decided on a stop.

    :param stop_outcome: ``stopped``, ``stopping``, ``already_ended`` or ``failed``
    """
    verdict = Verdict.from_dict(intent["verdict"])
    word, sentence = _STOP_SENTENCES[stop_outcome]
    said = capitalised(sentence.format(label=plan.label))
    error = intent.get("error") if stop_outcome == FAILED else None
    lost = bool(intent.get("guard_lost"))
    return _outcome(
        plan,
        tasks,
        LOST if lost else BREACHED,
        f"{word}: {verdict.sentence} {said}{f' ({error})' if error else ''}: now "
        f"{now_in_words(tasks, verdict.evidence.get('failed'))}.",
        rule=None if lost else verdict.rule,
        evidence={} if lost else verdict.evidence,
        stop={
            "outcome": stop_outcome,
            "sent_at": to_text(intent.get("sent")),
            "accepted_at": to_text(intent.get("accepted")),
            "attempts": intent.get("attempts", 0),
            "error": intent.get("error"),
        },
        guard_lost=lost,
    )


def stopped_elsewhere(plan: GuardPlan, tasks: Sequence[BatchTask]) -> Outcome:
    """A person at the console, or another guard, has stopped the rollout."""
    going_on = [
        task.task_id for task in tasks if not task.status.is_stop and not task.status.is_terminal
    ]
    rest = f" Nobody guards the rest of it any more: {', '.join(going_on)}." if going_on else ""
    now = now_in_words(tasks)
    summary = f"STOPPED ELSEWHERE: Somebody else has stopped {plan.label}: now {now}.{rest}"
    return _outcome(plan, tasks, STOPPED_ELSEWHERE, summary)


def completed(plan: GuardPlan, verdict: Verdict | None, tasks: Sequence[BatchTask]) -> Outcome:
    """The rollout has ended by itself, and no rule broke."""
    nearest = verdict.reason or verdict.sentence if verdict else ""
    why = f": {nearest}" if nearest else "."
    now = f"{capitalised(plan.label)} has ended as {now_in_words(tasks)}"
    summary = f"COMPLETED: {now}. No rule broke{why}"
    return _outcome(plan, tasks, COMPLETED, summary, evidence=verdict.evidence if verdict else {})


def lost(plan: GuardPlan, gone: Sequence[str], tasks: Sequence[BatchTask]) -> Outcome:
    """A batch task of the rollout does not exist: somebody has deleted it, or the id is wrong."""
    rest = f" The others are {now_in_words(tasks)}." if tasks else ""
    summary = (
        f"LOST: Batch task {', '.join(gone)} does not exist (any more): somebody has deleted it, "
        f"or the id is wrong, so nobody knows how it ended.{rest}"
    )
    return _outcome(plan, tasks, LOST, summary)


def guard_lost(plan: GuardPlan, why: str, tasks: Sequence[BatchTask]) -> Outcome:
    """The guard's time is over, and the rollout goes on unguarded."""
    seen = f" It was last seen {now_in_words(tasks)}." if tasks else ""
    summary = (
        f"NOT GUARDED: {why} Nobody guards {plan.label} any more, and nothing has stopped it.{seen}"
    )
    return _outcome(plan, tasks, LOST, summary, guard_lost=True)


def _outcome(
    plan: GuardPlan, tasks: Sequence[BatchTask], verdict: str, summary: str, **more: Any
) -> Outcome:
    ids = plan.batch_task_ids
    return Outcome(batch_task_ids=ids, verdict=verdict, summary=summary, **_seen(tasks), **more)
