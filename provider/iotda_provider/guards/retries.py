"""Which failures a batch task's retries hide from rules, as warnings for people."""

from __future__ import annotations

from collections.abc import Iterable

from iotda_provider.guards.combined import single_rules
from iotda_provider.guards.rule import ATTEMPTS, ClassedRule, Rule
from iotda_provider.guards.time_rules import Overdue
from iotda_provider.models.platform_retries import PlatformRetries

_ADVICE = "SequentialFailureTest(0.2, counts='attempts')"


def retry_warnings(
    policy: PlatformRetries,
    rules: Iterable[Rule] | None = None,
    *,
    attempt: float | None = None,
    poll_interval: float | None = None,
) -> list[str]:
    """What the retries of a batch task hide from the rules of its guard, each as a sentence.

    :param policy: the batch task's retries
    :param rules: the guard's rules; None: not known
    :param attempt: seconds that a failing attempt takes; None: not known
    :param poll_interval: seconds between two looks; None: not known
    :returns: the warnings; empty if nothing is hidden
    """
    if rules is None:
        return [_hidden(policy, "rules that count final failures", ""), *_no_wait(policy)]
    every = list(single_rules(rules))
    late = min((rule.after_seconds for rule in every if isinstance(rule, Overdue)), default=None)
    early = _too_early(policy, late)
    if not any(ATTEMPTS in rule.needs for rule in every):
        counting = [rule for rule in every if isinstance(rule, ClassedRule)]
        names = dict.fromkeys(rule.name for rule in counting if not isinstance(rule, Overdue))
        besides = f" (Overdue counts it {_time(late)} after its start)" if late else ""
        hidden = [_hidden(policy, " and ".join(names), besides)] if names else []
        return [*hidden, *early]
    if not policy.interval:
        return _no_wait(policy)
    found = early
    if attempt is not None and policy.interval < attempt:
        found.append(
            f"retry_interval ({_time(policy.interval)}) is shorter than an attempt "
            f"({_time(attempt)}): at any moment few of the devices with a failed attempt wait for "
            "a retry. So counts alone show few of them; the guard also reads which devices wait, "
            "and counts each once."
        )
    if poll_interval is not None and policy.interval < 2 * poll_interval:
        found.append(
            f"A failed device waits {_time(policy.interval)} for its retry, and the guard looks "
            f"every {_time(poll_interval)}: it may miss failed attempts, and then stops later. "
            f"Look at least every {_time(policy.interval / 2)}."
        )
    return found


def _hidden(policy: PlatformRetries, rules: str, besides: str) -> str:
    times = "once" if policy.count == 1 else f"{policy.count} times"
    return (
        f"Each failed device is tried again {times}, {_time(policy.interval)} after the failure. "
        f"So a device whose attempts all fail counts for {rules} only after "
        f"{policy.count + 1} attempts and {_time(policy.waits)} of waiting{besides}: bad firmware "
        f"can reach the whole fleet before. Let the guard have {_ADVICE}, too."
    )


def _too_early(policy: PlatformRetries, late: float | None) -> list[str]:
    if late is None or late >= policy.waits:
        return []
    return [
        f"Overdue counts a device {_time(late)} after its start, though it may wait for retries "
        f"for up to {_time(policy.waits)}: choose a larger after_seconds, or a tolerated_rate that "
        "covers the healthy devices that need so many attempts."
    ]


def _no_wait(policy: PlatformRetries) -> list[str]:
    if policy.interval:
        return []
    return [
        "With retry_interval 0 a failed device is tried again at once, so no count ever shows its "
        "failed attempt, to no rule: give at least 1 minute."
    ]


def _time(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:g} s"
    return f"{seconds / 60:g} min" if seconds < 7200 else f"{seconds / 3600:.3g} h"
