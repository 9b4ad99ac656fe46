"""The sequential test: levels, classes, clusters, and several of them under one bound."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from iotda_provider.guards import (
    Combined,
    Decision,
    MaxFailures,
    Observed,
    Overdue,
    SequentialFailureTest,
    Undecided,
)
from iotda_provider.guards.e_values import log_e
from iotda_provider.models import TaskProgress


def progress(failed: int, devices: int) -> TaskProgress:
    return TaskProgress(total=devices, fail=failed, success=devices - failed)


def test_a_breach_is_told_in_one_sentence_with_counts_rate_evidence_and_bound() -> None:
    verdict = SequentialFailureTest(0.02).check(progress(13, 200))
    assert verdict.sentence == (
        "13 of 200 devices failed (6.5 %; 2 % tolerated): evidence against the rollout 195 to 1; "
        "SequentialFailureTest stops at 100 to 1."
    )
    assert verdict.evidence["rate"] == 0.065
    assert verdict.evidence["parameters"]["tolerated_rate"] == 0.02


@pytest.mark.parametrize(
    ("failed", "devices", "words"),
    [
        (0, 1_000_000, "less than 0.001 to 1"),
        (2, 40, "1.03 to 1"),
        (7, 50, "1,110 to 1"),
        (50, 100, "10^53 to 1"),
    ],
)
def test_evidence_is_a_number_that_people_read(failed: int, devices: int, words: str) -> None:
    sentence = SequentialFailureTest(0.02).check(progress(failed, devices)).sentence
    assert f": evidence against the rollout {words}; Seq" in sentence


def test_no_level_to_hold_at_by_default() -> None:
    assert SequentialFailureTest(0.02).check(progress(12, 200)).decision is Decision.CONTINUE


def test_a_lower_level_of_evidence_holds_before_it_stops() -> None:
    rule = SequentialFailureTest(0.02, hold_at=10)
    assert rule.check(progress(8, 200)).decision is Decision.CONTINUE
    held = rule.check(progress(12, 200))
    assert held.decision is Decision.HOLD
    assert "holds at 10 to 1 and stops at 100 to 1" in held.sentence
    assert rule.check(progress(13, 200)).decision is Decision.BREACH


def test_devices_stopped_before_the_guard_came_count_as_started() -> None:
    seen = TaskProgress(total=200, fail=13, stopped=187)
    assert SequentialFailureTest(0.02).check(seen).evidence["devices"] == 200


def test_the_highest_number_ever_started_counts() -> None:
    seen = TaskProgress(total=1000, fail=13, processing=87, waiting=900)
    rule = SequentialFailureTest(0.02)
    assert rule.check(seen).breached
    assert not rule.check(seen, observed=Observed(started=500)).breached


@pytest.mark.parametrize(
    "torn",
    [TaskProgress(total=10, fail=10, success=5), TaskProgress(fail=100)],
)
def test_counts_that_do_not_add_up_never_decide(torn: TaskProgress) -> None:
    for rule in (SequentialFailureTest(0.02), MaxFailures(1), Overdue(60, 0.02)):
        verdict = rule.check(torn)
        assert verdict.decision is Decision.CONTINUE
        assert verdict.undecided is Undecided.COUNTS
        assert "read them again" in verdict.sentence


def test_nothing_is_judged_while_the_task_is_being_stopped() -> None:
    verdict = SequentialFailureTest(0.02).check(
        progress(100, 100), observed=Observed(being_stopped=True)
    )
    assert verdict.decision is Decision.CONTINUE
    assert verdict.undecided is Undecided.STOPPING


@settings(deadline=None)
@given(st.integers(0, 3000), st.integers(0, 3000))
def test_one_more_failure_never_makes_a_breach_undone(a: int, b: int) -> None:
    failed, devices = min(a, b), max(a, b)
    rule = SequentialFailureTest(0.02)
    if rule.breaks(failed, devices) and failed < devices:
        assert rule.breaks(failed + 1, devices)


class TestClusters:
    rule = SequentialFailureTest(0.02, leave_worst_out=True)

    def test_one_sites_outage_alone_does_not_stop(self) -> None:
        seen = Observed(clusters={"dublin": (30, 50), "rest": (9, 950)})
        assert SequentialFailureTest(0.02).check(progress(39, 1000)).breached
        verdict = self.rule.check(progress(39, 1000), observed=seen)
        assert verdict.decision is Decision.CONTINUE
        assert verdict.evidence["left_out"] == "dublin"
        assert verdict.evidence["value"] == pytest.approx(log_e(9, 950, 0.02))

    def test_failures_everywhere_do_stop(self) -> None:
        seen = Observed(clusters=dict.fromkeys("abcd", (20, 250)))
        assert self.rule.check(progress(80, 1000), observed=seen).breached

    def test_a_failure_that_no_cluster_owns_up_to_may_be_of_the_worst(self) -> None:
        seen = Observed(clusters={"a": (25, 500), "b": (25, 500)})
        verdict = self.rule.check(progress(60, 1000), observed=seen)
        assert verdict.evidence["value"] == pytest.approx(log_e(25, 500, 0.02))

    def test_a_cluster_of_unknown_size_leaves_less_evidence(self) -> None:
        known = self.rule.check(
            progress(60, 1000), observed=Observed(clusters={"a": (10, 500), "b": (50, 500)})
        )
        unknown = self.rule.check(
            progress(60, 1000), observed=Observed(clusters={"a": (10, 0), "b": (50, 0)})
        )
        assert unknown.evidence["value"] < known.evidence["value"]

    def test_unknown_clusters_do_not_decide_and_are_asked_for_only_when_they_matter(self) -> None:
        assert self.rule.needs == {"clusters"}
        assert self.rule.check(progress(39, 1000)).undecided is Undecided.CLUSTERS
        assert not self.rule.check(progress(39, 1000)).breached
        assert self.rule.check(progress(10, 1000)).undecided is None

    def test_a_single_cluster_never_stops(self) -> None:
        seen = Observed(clusters={"all": (500, 1000)})
        assert not self.rule.check(progress(500, 1000), observed=seen).breached

    @settings(deadline=None)
    @given(st.lists(st.tuples(st.integers(0, 40), st.integers(0, 200)), min_size=1, max_size=5))
    def test_leaving_out_never_adds_evidence(self, clusters: list[tuple[int, int]]) -> None:
        failed = sum(failed for failed, _ in clusters)
        devices = sum(max(pair) for pair in clusters)
        seen = Observed(clusters={str(i): (f, max(f, n)) for i, (f, n) in enumerate(clusters)})
        left = self.rule.check(progress(failed, devices), observed=seen).evidence["value"]
        assert left <= log_e(failed, devices, 0.02) + 1e-9


class TestCombined:
    firmware = SequentialFailureTest(0.01, failure_class="firmware")
    environment = SequentialFailureTest(0.05, failure_class="environment")

    def test_the_weighted_evidence_is_held_against_one_bound(self) -> None:
        rule = Combined([self.firmware, self.environment], weights=[0.7, 0.3])
        seen = Observed(failures_by_class={"firmware": 6, "environment": 8})
        verdict = rule.check(progress(14, 200), observed=seen)
        expected = math.log(
            0.7 * math.exp(log_e(6, 200, 0.01)) + 0.3 * math.exp(log_e(8, 200, 0.05))
        )
        assert verdict.evidence["value"] == pytest.approx(expected)
        assert verdict.evidence["bound"] == pytest.approx(math.log(100))
        assert verdict.breached is (expected >= math.log(100))

    @settings(deadline=None)
    @given(st.integers(0, 60), st.integers(0, 60))
    def test_it_is_never_later_than_rules_that_split_the_bound(self, a: int, b: int) -> None:
        seen = Observed(failures_by_class={"firmware": a, "environment": b})
        counts = progress(a + b, 300)
        split = [
            SequentialFailureTest(0.01, 0.005, failure_class="firmware"),
            SequentialFailureTest(0.05, 0.005, failure_class="environment"),
        ]
        together = Combined([self.firmware, self.environment])
        if any(rule.check(counts, observed=seen).breached for rule in split):
            assert together.check(counts, observed=seen).breached

    def test_what_is_unknown_counts_as_no_evidence(self) -> None:
        rule = Combined([SequentialFailureTest(0.02), self.firmware])
        verdict = rule.check(progress(8, 100))
        assert verdict.decision is Decision.CONTINUE
        assert verdict.undecided is Undecided.CLASSES
        assert rule.check(progress(40, 100)).breached

    def test_it_needs_what_its_rules_need(self) -> None:
        rule = Combined([self.firmware, Overdue(3600, 0.02)])
        assert rule.needs == {"classes", "history"}
        assert rule.horizons == {3600.0}

    def test_it_takes_the_false_alarm_bound_that_its_rules_share(self) -> None:
        assert Combined([SequentialFailureTest(0.02, 0.001)] * 2).false_alarm == 0.001
        with pytest.raises(ValueError, match="false_alarm"):
            Combined([SequentialFailureTest(0.02, 0.001), SequentialFailureTest(0.02)])
        assert Combined(
            [SequentialFailureTest(0.02, 0.001), SequentialFailureTest(0.02)], false_alarm=0.05
        ).log_bound == pytest.approx(math.log(20))

    @pytest.mark.parametrize(
        ("rules", "weights", "name"),
        [
            ([], None, "rules"),
            ([MaxFailures(3)], None, "rules"),
            ("SequentialFailureTest", None, "rules"),
            ([Combined([SequentialFailureTest(0.02)])], None, "rules"),
            ([SequentialFailureTest(0.02)], [0.5], "weights"),
            ([SequentialFailureTest(0.02)] * 2, [1.0, 0.0], "weights"),
            ([SequentialFailureTest(0.02)] * 2, [0.5], "weights"),
            ([SequentialFailureTest(0.02)] * 2, [1.5, -0.5], "weights"),
            ([SequentialFailureTest(0.02)] * 2, [float("nan"), 0.5], "weights"),
            ([SequentialFailureTest(0.02)] * 2, "11", "weights"),
        ],
    )
    def test_a_bad_combination_is_named(self, rules: object, weights: object, name: str) -> None:
        with pytest.raises(ValueError, match=name):
            Combined(rules, weights)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("parameters", "name"),
    [
        ({"tolerated_rate": 0}, "tolerated_rate"),
        ({"tolerated_rate": 1}, "tolerated_rate"),
        ({"tolerated_rate": True}, "tolerated_rate"),
        ({"tolerated_rate": float("nan")}, "tolerated_rate"),
        ({"tolerated_rate": "2%"}, "tolerated_rate"),
        ({"tolerated_rate": 0.02, "false_alarm": 0}, "false_alarm"),
        ({"tolerated_rate": 0.02, "false_alarm": 1}, "false_alarm"),
        ({"tolerated_rate": 0.02, "hold_at": 1}, "hold_at"),
        ({"tolerated_rate": 0.02, "hold_at": 100}, "hold_at"),
        ({"tolerated_rate": 0.02, "hold_at": True}, "hold_at"),
        ({"tolerated_rate": 0.02, "leave_worst_out": 1}, "leave_worst_out"),
        ({"tolerated_rate": 0.02, "failure_class": "other"}, "failure_class"),
    ],
)
def test_a_bad_parameter_is_named(parameters: dict[str, object], name: str) -> None:
    with pytest.raises(ValueError, match=name):
        SequentialFailureTest(**parameters)  # type: ignore[arg-type]
