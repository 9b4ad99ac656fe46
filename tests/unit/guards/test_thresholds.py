"""Rules by number and by percentage."""

from __future__ import annotations

import pytest

from iotda_provider.guards import Decision, MaxFailureRate, MaxFailures, Observed, Undecided
from iotda_provider.models import TaskProgress


def test_max_failures_breaks_at_the_count_itself() -> None:
    assert MaxFailures(3).check(TaskProgress(total=9, fail=2, success=7)).decision == "continue"
    verdict = MaxFailures(3).check(TaskProgress(total=9, fail=3, success=6))
    assert verdict.decision is Decision.BREACH
    assert verdict.rule == "MaxFailures"
    assert verdict.evidence["failed"] == 3
    assert verdict.evidence["devices"] == 9
    assert verdict.evidence["bound"] == 3
    assert verdict.sentence == "3 of 9 devices failed: MaxFailures stops at 3."


def test_a_device_that_waits_for_a_retry_has_not_failed_but_has_started() -> None:
    storm = TaskProgress(total=100, fail_wait_retry=60, fail=1, processing=39)
    assert not MaxFailures(2).check(storm).breached
    assert MaxFailureRate(0.01, min_sample=100).check(storm).evidence["value"] == 0.01


@pytest.mark.parametrize(
    ("denominator", "devices", "breached", "words"),
    [
        ("started", 50, False, "5 of 50 devices failed (10 %)"),
        ("finished", 10, True, "5 of 10 finished devices failed (50 %)"),
        ("total", 100, False, "5 of all 100 devices failed (5 %)"),
    ],
)
def test_the_denominator_is_the_users_choice(
    denominator: str, devices: int, breached: bool, words: str
) -> None:
    progress = TaskProgress(total=100, fail=5, success=5, processing=40, waiting=50)
    rule = MaxFailureRate(0.2, min_sample=10, denominator=denominator)
    verdict = rule.check(progress)
    assert verdict.evidence["devices"] == devices
    assert verdict.breached is breached
    assert verdict.sentence == f"{words}: MaxFailureRate stops at 20 %."


@pytest.mark.parametrize("devices", [30, 49, 100, 700])
@pytest.mark.parametrize("percent", [1, 3, 7, 29, 57])
def test_a_share_that_is_exactly_the_rate_breaks_despite_binary_fractions(
    devices: int, percent: int
) -> None:
    rule = MaxFailureRate(percent / 100, min_sample=1)
    reached = [s for s in range(devices + 1) if rule.breaks(s, devices)]
    assert reached[0] == -(-percent * devices // 100)


def test_without_devices_nothing_happens() -> None:
    for rule in (MaxFailures(1), MaxFailureRate(0.01, min_sample=1)):
        assert rule.check(TaskProgress()).decision is Decision.CONTINUE


def test_devices_that_had_the_version_before_do_not_dilute_the_rate() -> None:
    progress = TaskProgress(total=1000, success=980, fail=20)
    rule = MaxFailureRate(0.1, min_sample=100)
    assert not rule.check(progress).breached
    assert rule.check(progress, observed=Observed(already_current=800)).breached


def test_devices_that_had_the_version_are_left_out_only_as_far_as_they_have_surely_started() -> (
    None
):
    progress = TaskProgress(total=1000, success=200, fail=20, waiting=780)
    verdict = MaxFailureRate(0.1, min_sample=1).check(
        progress, observed=Observed(already_current=800)
    )
    assert verdict.evidence["devices"] == 200


class TestClassesOfFailures:
    progress = TaskProgress(total=100, fail=10, success=90)
    rule = MaxFailures(5, failure_class=("firmware", "unknown"))

    def test_only_the_named_classes_count(self) -> None:
        seen = Observed(failures_by_class={"environment": 7, "firmware": 3})
        assert not self.rule.check(self.progress, observed=seen).breached
        seen = Observed(failures_by_class={"environment": 5, "firmware": 3, "unknown": 2})
        assert self.rule.check(self.progress, observed=seen).breached

    def test_unread_classes_do_not_decide(self) -> None:
        verdict = self.rule.check(self.progress)
        assert verdict.decision is Decision.CONTINUE
        assert verdict.undecided is Undecided.CLASSES
        assert "0 to 10 of 100 devices had firmware/unknown failures" in verdict.sentence

    def test_classes_need_not_be_read_where_they_cannot_matter(self) -> None:
        few = TaskProgress(total=100, fail=4, success=96)
        assert self.rule.check(few).undecided is None

    def test_classes_read_a_little_later_than_the_counts_count_for_what_is_certain(self) -> None:
        seen = Observed(failures_by_class={"firmware": 7, "environment": 5})
        assert self.rule.check(self.progress, observed=seen).breached
        seen = Observed(failures_by_class={"firmware": 6, "environment": 6})
        verdict = self.rule.check(self.progress, observed=seen)
        assert verdict.undecided is Undecided.CLASSES

    def test_classes_read_a_little_earlier_decide_only_what_is_certain(self) -> None:
        seen = Observed(failures_by_class={"firmware": 4, "environment": 4})
        assert self.rule.check(self.progress, observed=seen).undecided is Undecided.CLASSES
        seen = Observed(failures_by_class={"firmware": 5, "environment": 3})
        assert self.rule.check(self.progress, observed=seen).breached

    def test_a_rule_says_that_it_needs_them(self) -> None:
        assert self.rule.needs == {"classes"}
        assert MaxFailures(5).needs == frozenset()


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda: MaxFailures(0), "count"),
        (lambda: MaxFailures(True), "count"),
        (lambda: MaxFailures(2.5), "count"),
        (lambda: MaxFailures("5"), "count"),
        (lambda: MaxFailures(5, failure_class="hardware"), "failure_class"),
        (lambda: MaxFailures(5, failure_class=()), "failure_class"),
        (lambda: MaxFailures(5, failure_class=7), "failure_class"),
        (lambda: MaxFailureRate(5), "rate"),
        (lambda: MaxFailureRate(0), "rate"),
        (lambda: MaxFailureRate(True), "rate"),
        (lambda: MaxFailureRate(float("nan")), "rate"),
        (lambda: MaxFailureRate(float("inf")), "rate"),
        (lambda: MaxFailureRate("0.05"), "rate"),
        (lambda: MaxFailureRate(10**400), "rate"),
        (lambda: MaxFailureRate(0.05, min_sample=0), "min_sample"),
        (lambda: MaxFailureRate(0.05, min_sample=1.0), "min_sample"),
        (lambda: MaxFailureRate(0.05, denominator="executed"), "denominator"),
    ],
)
def test_a_bad_parameter_is_named(make: object, name: str) -> None:
    with pytest.raises(ValueError) as caught:
        make()  # type: ignore[operator]
    assert name in str(caught.value)


def test_a_percentage_given_as_a_number_of_percent_is_explained() -> None:
    with pytest.raises(ValueError, match=r"5 % is 0\.05"):
        MaxFailureRate(5)
