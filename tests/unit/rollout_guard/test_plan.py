"""A guard's plan as the argument of its trigger."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from iotda_provider.guards import MaxFailures, Rule, Verdict
from iotda_provider.rollout_guard.plan import GuardPlan, read_rules


@pytest.mark.parametrize("plan", [None, 5, "plan", [], {}, {"rules": []}])
def test_what_is_no_plan_is_refused_in_one_line(plan: Any) -> None:
    with pytest.raises(ValueError, match=r"^plan (must be an object|lacks batch_task_ids)"):
        GuardPlan.from_dict(plan)


def test_a_rule_that_no_triggerer_could_read_back_is_refused() -> None:
    @dataclass(frozen=True)
    class OwnRule(Rule):
        def _judge(self, counts: Any) -> Verdict:
            raise AssertionError("no guard may ask it")

    namesake = type("MaxFailures", (MaxFailures,), {})
    with pytest.raises(ValueError, match=r"unknown rule 'OwnRule'; known are MaxFailures, "):
        read_rules([MaxFailures(3), OwnRule()])
    with pytest.raises(ValueError, match="a subclass of a rule can't be read from JSON"):
        read_rules(namesake(3))
