"""What a guard checks, says and leaves behind about how late failures report."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from iotda_provider.exceptions import IoTDAConfigError
from iotda_provider.guards import ReportingDelay, Rule, SequentialFailureTest
from iotda_provider.guards.combined import single_rules
from iotda_provider.guards.evaluation import GuardState
from iotda_provider.guards.learned_delay import chance_of_so_soon
from iotda_provider.models import BatchTask
from iotda_provider.models.platform_retries import PlatformRetries
from iotda_provider.rollout_guard.memory import Memory

#: With a smaller chance, failures came sooner than assumed.
_SELDOM = 0.05


def assumed_delays(rules: Iterable[Rule]) -> Iterator[ReportingDelay]:
    """What the rules assume of how late failures report, each once."""
    tests = (rule for rule in single_rules(rules) if isinstance(rule, SequentialFailureTest))
    return iter(dict.fromkeys(test.reporting for test in tests if test.reporting is not None))


def retries_of(tasks: Sequence[BatchTask]) -> list[int] | None:
    """(retry_count, retry_interval in minutes) of the batch tasks; None: they differ."""
    policies = {
        (policy.count, policy.minutes) if policy else (0, 0)
        for policy in (PlatformRetries.of(task.raw.get("task_policy")) for task in tasks)
    }
    return list(policies.pop()) if len(policies) == 1 else None


def check_retries(rules: Sequence[Rule], tasks: Sequence[BatchTask]) -> None:
    """Refuse batch tasks with other retries than those that an assumed delay was learned under.

    :raises IoTDAConfigError: names the batch task and both
    """
    for delay in assumed_delays(rules):
        for task in tasks:
            retries = retries_of([task])
            if delay.retries is not None and retries != list(delay.retries):
                raise IoTDAConfigError(
                    f"reporting: the delay of failures is known for {_in_words(delay.retries)}, "
                    f"and batch task {task.task_id} has {_in_words(retries)}. Learn the delay "
                    "under this policy, or leave reporting out."
                )


def _in_words(retries: Sequence[int] | None) -> str:
    count, minutes = retries or (0, 0)
    return f"{count} retries, {minutes} minutes apart" if count else "no retries"


def afterwards(rules: Iterable[Rule], state: Any) -> tuple[str, dict[str, float]]:
    """Whether failures came sooner than assumed, after a rollout that was not stopped.

    After a stop nothing can be said: too many and too early failures look alike then.

    :param state: the guard's state as JSON, after its last look
    :returns: a sentence, empty if no delay is assumed or nothing has failed; and the same as JSON
    """
    known = GuardState.from_json(state)
    chances = [
        chance
        for delay in assumed_delays(rules)
        if delay.counts == "failed"
        if (chance := chance_of_so_soon(known.delays.kept, known.time, delay.share)) is not None
    ]
    if not chances:
        return "", {}
    least = min(chances)
    facts = {"chance_of_so_soon": least}
    if least > _SELDOM:
        return f" Failures came no sooner than assumed (P = {least:.2g}).", facts
    sentence = (
        f" FAILURES CAME SOONER THAN ASSUMED (P = {least:.2g}): learn the delay anew "
        "(iotda-guard fit), as the rule may stop healthy rollouts."
    )
    return sentence, facts


def recorded(memory: Memory, verdict: str) -> dict[str, Any]:
    """What ``iotda-guard fit`` learns from, for the header of an audit.

    :param verdict: how the watch has ended
    """
    delays = GuardState.from_json(memory.state).delays
    return {
        "verdict": verdict,
        "delays": {"failures": delays.failures, "seconds": delays.shortest},
        "retries": memory.retries,
    }
