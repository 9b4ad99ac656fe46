"""Which rules can never stop a rollout, because it has too few devices for them."""

from __future__ import annotations

import pytest

from iotda_provider.guards import (
    Combined,
    MaxFailureRate,
    MaxFailures,
    Overdue,
    ReportingDelay,
    Rule,
    SequentialFailureTest,
    Stalled,
)
from iotda_provider.guards.reach import powerless_rules, powerless_warning

TEST = SequentialFailureTest(0.02)
#: Rules, and the fewest devices that each can stop if all of them fail at once.
LEAST = [
    (MaxFailureRate(0.05), 100),
    (MaxFailureRate(1, min_sample=30, denominator="finished"), 30),
    (MaxFailureRate(0.1, min_sample=40, denominator="total", failure_class="firmware"), 40),
    (MaxFailures(5), 5),
    (MaxFailures(5, failure_class=("firmware", "unknown")), 5),
    (TEST, 3),
    (SequentialFailureTest(0.02, failure_class="firmware"), 3),
    (SequentialFailureTest(0.02, leave_worst_out=True), 3),
    (SequentialFailureTest(0.2, counts="attempts"), 4),
    (SequentialFailureTest(0.1, reporting=ReportingDelay({0: 0, 3600: 1}, floor=0, slack=0)), 3),
    (Overdue(3600, 0.02), 3),
    (Combined([TEST, Overdue(3600, 0.02)]), 3),
]


@pytest.mark.parametrize(("rule", "least"), LEAST, ids=lambda one: str(one)[:60])
def test_a_rule_can_stop_from_so_many_devices_on(rule: Rule, least: int) -> None:
    assert powerless_rules([rule], least) == ()
    assert powerless_rules([rule], 30_000) == ()
    assert powerless_rules([rule], least - 1) == (rule,)


def test_a_rule_that_waits_for_time_to_pass_can_stop_one_device() -> None:
    assert powerless_rules([Stalled(3600)], 1) == ()


def test_the_warning_names_the_rules_and_says_if_no_other_is_left() -> None:
    rules = [MaxFailureRate(0.05), TEST]
    assert powerless_warning(rules, 100) == ""
    assert powerless_warning(rules, 60).startswith(
        "MaxFailureRate(0.05) can never stop 60 device(s), even if all fail. Choose rules"
    )
    assert "SequentialFailureTest(0.02) can never stop 2 device(s), even if all fail. NO RULE " in (
        powerless_warning(rules, 2)
    )
