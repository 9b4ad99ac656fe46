"""Which rules can never stop a rollout, because it has too few devices for them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from iotda_provider.guards.lab.notation import notation
from iotda_provider.guards.look import Observed
from iotda_provider.guards.rule import Rule
from iotda_provider.guards.start_ages import StartAges
from iotda_provider.guards.time_rules import Stalled
from iotda_provider.models import TaskProgress


def powerless_rules(rules: Iterable[Rule], devices: int) -> tuple[Rule, ...]:
    """The rules that can never stop a rollout to so many devices, even if all of them fail.

    Each rule judges one look, however many devices there are: the one in which all have failed as
    soon as they started, which is the most that can speak against a rollout. If it doesn't break
    then, whatever the classes and clusters of the failures are, it never does. ``Stalled`` waits
    for time to pass, so it can stop any rollout.

    :param devices: the devices that may fail
    """
    progress = TaskProgress(total=devices, fail=devices)
    found = []
    for rule in rules:
        ages = StartAges().after(devices, 0.0, 0.0, rule.ages_up_to)
        verdict = rule.check(progress, observed=Observed(time=0.0, ages=ages))
        if not (verdict.breached or verdict.undecided or isinstance(rule, Stalled)):
            found.append(rule)
    return tuple(found)


def powerless_warning(rules: Sequence[Rule], devices: int) -> str:
    """A sentence about the rules that can never stop so many devices; empty: there are none."""
    found = powerless_rules(rules, devices)
    if not found:
        return ""
    named = " and ".join(map(notation, found))
    every = " NO RULE GUARDS THEM." if len(found) == len(rules) else ""
    return (
        f"{named} can never stop {devices} device(s), even if all fail.{every} Choose rules for so "
        f"few devices: iotda-guard plan --devices {devices} compares them."
    )
