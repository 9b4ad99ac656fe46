"""How a watch ends: the verdict on the rollout, and the sentence that a person reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from typing import Any

from iotda_provider.guards import Verdict, total_progress
from iotda_provider.models import BatchTask
from iotda_provider.rollout_guard.plan import GuardPlan

BREACHED, COMPLETED = "breached", "completed"
STOPPED_ELSEWHERE, LOST = "stopped_elsewhere", "lost"
VERDICTS = (BREACHED, COMPLETED, STOPPED_ELSEWHERE, LOST)

STOPPED, STOPPING, ALREADY_ENDED, FAILED = "stopped", "stopping", "already_ended", "failed"


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """The end of a watch.

    :param verdict: one of ``VERDICTS``
    :param rule: the rule that broke
    :param evidence: what it measured, against its bound
    :param status: the task's status, or those of the tasks
    :param progress: the counts, summed
    :param stop: what came of the stop that this guard sent: ``outcome``, ``sent_at``,
        ``accepted_at``, ``attempts``, ``error``
    :param summary: all of it in a sentence or two
    :param guard_lost: the guard's time was over before the rollout's
    """

    batch_task_ids: tuple[str, ...]
    verdict: str
    summary: str
    rule: str | None = None
    evidence: Mapping[str, Any] = field(default_factory=dict)
    status: tuple[str, ...] = ()
    progress: Mapping[str, int] = field(default_factory=dict)
    stop: Mapping[str, Any] | None = None
    shadow: bool = False
    guard_lost: bool = False

    def to_result(self) -> dict[str, Any]:
        """The sensor's return value, as plain JSON."""
        return {
            "batch_task_id": _one_or_all(self.batch_task_ids),
            "verdict": self.verdict,
            "rule": self.rule,
            "evidence": dict(self.evidence),
            "status": _one_or_all(self.status),
            "progress": dict(self.progress),
            "stop": None if self.stop is None else dict(self.stop),
            "summary": self.summary,
            "shadow": self.shadow,
            "guard_lost": self.guard_lost,
        }

    @classmethod
    def from_result(cls, data: Mapping[str, Any]) -> Outcome:
        """Read what :meth:`to_result` wrote.

        :raises ValueError: it is something else
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
        """The same outcome, once somebody has looked at what became of the stop."""
        return replace(self, stop=stop, **_seen(tasks))


def _one_or_all(values: tuple[str, ...]) -> str | list[str] | None:
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


def _now(tasks: Sequence[BatchTask]) -> str:
    statuses = ", ".join(dict.fromkeys(str(task.status) for task in tasks))
    return f"{statuses}: {total_progress(task.progress for task in tasks)}"


def capitalised(text: str) -> str:
    """The text as the beginning of a sentence; ``str.capitalize`` would lower the rest."""
    return text[:1].upper() + text[1:]


def to_text(time: float | None) -> str | None:
    """A moment as ISO 8601 in UTC."""
    if time is None:
        return None
    moment = datetime.fromtimestamp(time, timezone.utc)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def breached(plan: GuardPlan, verdict: Verdict, tasks: Sequence[BatchTask]) -> Outcome:
    """A rule broke, and it is not this guard's business to stop the rollout."""
    if all(task.status.is_terminal for task in tasks):
        then = f"There is nothing left to stop: {plan.label} had ended already."
    elif plan.shadow:
        then = f"This guard is a shadow, so {plan.label} goes on."
    else:
        then = f"This guard does not stop anything, so {plan.label} goes on until something does."
    return Outcome(
        batch_task_ids=plan.batch_task_ids,
        verdict=BREACHED,
        summary=f"{verdict.sentence} {then}",
        rule=verdict.rule,
        evidence=verdict.evidence,
        shadow=plan.shadow,
        **_seen(tasks),
    )


_WHAT_CAME = {
    STOPPED: "The guard has stopped {label}",
    STOPPING: "The guard has stopped {label}, which is still coming to rest",
    ALREADY_ENDED: "{label} ended before the guard's stop reached it",
    FAILED: "The guard could NOT stop {label}",
}


def stopped(
    plan: GuardPlan, intent: Mapping[str, Any], tasks: Sequence[BatchTask], came: str
) -> Outcome:
    """This guard decided on a stop, and this came of it."""
    verdict = Verdict.from_dict(intent["verdict"])
    label = plan.label
    said = capitalised(_WHAT_CAME[came].format(label=label))
    error = intent.get("error") if came == FAILED else None
    lost = bool(intent.get("guard_lost"))
    return Outcome(
        batch_task_ids=plan.batch_task_ids,
        verdict=LOST if lost else BREACHED,
        summary=f"{verdict.sentence} {said}{f' ({error})' if error else ''}: now {_now(tasks)}.",
        rule=None if lost else verdict.rule,
        evidence={} if lost else verdict.evidence,
        stop={
            "outcome": came,
            "sent_at": to_text(intent.get("sent")),
            "accepted_at": to_text(intent.get("accepted")),
            "attempts": intent.get("attempts", 0),
            "error": intent.get("error"),
        },
        guard_lost=lost,
        **_seen(tasks),
    )


def stopped_elsewhere(plan: GuardPlan, tasks: Sequence[BatchTask]) -> Outcome:
    """A person at the console, or another guard, has stopped the rollout first."""
    going_on = [
        task.task_id for task in tasks if not task.status.is_stop and not task.status.is_terminal
    ]
    rest = f" Nobody guards the rest of it any more: {', '.join(going_on)}." if going_on else ""
    return Outcome(
        batch_task_ids=plan.batch_task_ids,
        verdict=STOPPED_ELSEWHERE,
        summary=f"Somebody else has stopped {plan.label}: now {_now(tasks)}.{rest}",
        **_seen(tasks),
    )


def completed(plan: GuardPlan, verdict: Verdict | None, tasks: Sequence[BatchTask]) -> Outcome:
    """The rollout ran to its own end, and no rule broke."""
    nearest = f" {verdict.sentence}" if verdict and verdict.sentence else ""
    return Outcome(
        batch_task_ids=plan.batch_task_ids,
        verdict=COMPLETED,
        summary=f"No rule broke; {plan.label} has ended as {_now(tasks)}.{nearest}",
        evidence=verdict.evidence if verdict else {},
        **_seen(tasks),
    )


def lost(plan: GuardPlan, gone: Sequence[str], tasks: Sequence[BatchTask]) -> Outcome:
    """A task of the rollout is gone: somebody has deleted it, or it never was."""
    rest = f" The others are {_now(tasks)}." if tasks else ""
    return Outcome(
        batch_task_ids=plan.batch_task_ids,
        verdict=LOST,
        summary=f"Batch task {', '.join(gone)} does not exist (any more): somebody has deleted it, "
        f"or the id is wrong, so nothing is known of how it ended.{rest}",
        **_seen(tasks),
    )


def guard_lost(plan: GuardPlan, why: str, tasks: Sequence[BatchTask]) -> Outcome:
    """The guard's time is over and the rollout goes on unguarded."""
    seen = f" It was last seen {_now(tasks)}." if tasks else ""
    return Outcome(
        batch_task_ids=plan.batch_task_ids,
        verdict=LOST,
        summary=f"{why} Nobody guards {plan.label} any more, and nothing has stopped it.{seen}",
        guard_lost=True,
        **_seen(tasks),
    )
