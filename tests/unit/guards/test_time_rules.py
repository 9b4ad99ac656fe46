"""Rules with a clock, as the evaluator feeds them."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from iotda_provider.guards import (
    Decision,
    History,
    Look,
    Observed,
    Overdue,
    Rule,
    Stalled,
    Undecided,
    Verdict,
    evaluate,
)
from iotda_provider.models import TaskProgress

HOUR = 3600.0


def watch(rule: Rule, *looks: tuple[float, TaskProgress]) -> list[Verdict]:
    state, verdicts = None, []
    for time, progress in looks:
        state, verdict = evaluate(rule, state, Look(time=time, progress=progress))
        verdicts.append(verdict)
    return verdicts


def at(total: int = 1000, **counts: int) -> TaskProgress:
    return TaskProgress(total=total, waiting=total - sum(counts.values()), **counts)


class TestStalled:
    rule = Stalled(2 * HOUR)

    def test_it_breaks_when_nothing_moves_while_devices_are_unfinished(self) -> None:
        still = at(processing=10, success=990)
        verdicts = watch(self.rule, (0, still), (HOUR, still), (2 * HOUR, still))
        assert [v.breached for v in verdicts] == [False, False, True]
        assert verdicts[-1].evidence["value"] == 2 * HOUR
        assert "none has started or finished for 2 h" in verdicts[-1].sentence

    def test_every_start_and_every_outcome_sets_the_clock_back(self) -> None:
        verdicts = watch(
            self.rule,
            (0, at(processing=10)),
            (1.9 * HOUR, at(processing=11)),
            (3.8 * HOUR, at(processing=10, fail=1)),
            (5.7 * HOUR, at(processing=9, fail=1, success=1)),
        )
        assert not any(v.breached for v in verdicts)

    def test_an_attempt_that_is_retried_is_no_movement(self) -> None:
        verdicts = watch(
            self.rule, (0, at(processing=10)), (2 * HOUR, at(processing=4, fail_wait_retry=6))
        )
        assert verdicts[-1].breached

    def test_waiting_for_a_confirmation_is_not_stalling(self) -> None:
        verdicts = watch(
            self.rule,
            (0, at(success=100)),
            (9 * HOUR, at(success=100)),
            (9.1 * HOUR, at(success=100, processing=100)),
            (11 * HOUR, at(success=100, processing=100)),
            (11.2 * HOUR, at(success=100, processing=100)),
        )
        assert [v.breached for v in verdicts] == [False, False, False, False, True]

    def test_alone_it_cannot_tell(self) -> None:
        verdict = self.rule.check(at(processing=10))
        assert verdict.decision is Decision.CONTINUE
        assert verdict.undecided is Undecided.HISTORY
        assert self.rule.check(at(success=10)).undecided is None

    @pytest.mark.parametrize("value", [0, -1, True, "1", float("inf"), float("nan")])
    def test_a_bad_parameter_is_named(self, value: object) -> None:
        with pytest.raises(ValueError, match="for_seconds"):
            Stalled(value)  # type: ignore[arg-type]


class TestOverdue:
    rule = Overdue(6 * HOUR, 0.02)

    def test_bricks_that_never_report_are_found_long_before_the_platform_gives_them_up(
        self,
    ) -> None:
        verdicts = watch(
            self.rule,
            (0, at(processing=1000)),
            (3 * HOUR, at(processing=60, success=940)),
            (5.9 * HOUR, at(processing=60, success=940)),
            (6.1 * HOUR, at(processing=60, success=940)),
        )
        assert [v.breached for v in verdicts] == [False, False, False, True]
        assert verdicts[-1].evidence["overdue"] == 60
        assert verdicts[-1].evidence["failed"] == 0
        assert ", 60 unfinished after 6 h (together " in verdicts[-1].sentence

    def test_devices_that_started_a_moment_ago_are_not_overdue(self) -> None:
        verdicts = watch(
            self.rule,
            (0, at(processing=100)),
            (5 * HOUR, at(success=100)),
            (5.5 * HOUR, at(success=100, processing=900)),
            (7 * HOUR, at(success=100, processing=900)),
        )
        assert verdicts[-1].evidence["overdue"] == 0

    def test_failures_count_at_once(self) -> None:
        assert watch(self.rule, (0, at(processing=900, fail=100)))[-1].breached

    def test_devices_that_somebody_stopped_are_not_held_against_the_rollout(self) -> None:
        verdicts = watch(
            self.rule,
            (0, at(processing=1000)),
            (HOUR, at(processing=500, stopped=500)),
            (7 * HOUR, at(processing=5, success=495, stopped=500)),
        )
        assert verdicts[-1].evidence["overdue"] == 5
        assert verdicts[-1].evidence["devices"] == 1000

    def test_devices_that_were_stopped_and_started_again_have_started_again(self) -> None:
        verdicts = watch(
            self.rule,
            (0, at(processing=1000)),
            (HOUR, at(processing=500, stopped=500)),
            (5.9 * HOUR, at(success=500, stopped=500)),
            (6 * HOUR, at(processing=500, success=500)),
            (7 * HOUR, at(processing=500, success=500)),
            (12.5 * HOUR, at(processing=500, success=500)),
        )
        assert [v.breached for v in verdicts] == [False] * 5 + [True]

    def test_unseen_starts_beside_a_stop_by_hand_do_not_make_others_overdue(self) -> None:
        verdicts = watch(
            self.rule,
            (0, at(processing=500)),
            (7 * HOUR, at(processing=5, success=495)),
            # Between two looks somebody stopped the 5 and 100 others started, of which 5 ended.
            (7.1 * HOUR, at(processing=95, success=500, stopped=5)),
        )
        assert verdicts[-1].evidence["overdue"] == 0

    def test_a_lost_history_starts_anew(self) -> None:
        late = Look(time=9 * HOUR, progress=at(processing=300, success=700))
        state, verdict = evaluate(self.rule, None, late)
        assert verdict.decision is Decision.CONTINUE
        _, verdict = evaluate(
            self.rule, state, Look(time=15.1 * HOUR, progress=at(processing=300, success=700))
        )
        assert verdict.breached

    def test_without_any_history_only_what_is_certain_counts(self) -> None:
        assert self.rule.check(at(fail=100, processing=900)).breached
        verdict = self.rule.check(at(fail=5, processing=900))
        assert verdict.decision is Decision.CONTINUE
        assert verdict.undecided is Undecided.HISTORY
        assert self.rule.check(at(fail=5, success=900)).undecided is None

    def test_devices_that_are_overdue_count_whatever_class_failures_must_have(self) -> None:
        rule = Overdue(6 * HOUR, 0.02, failure_class="firmware")
        seen = Observed(
            time=7 * HOUR,
            history=History.empty([6 * HOUR]).after(0, 1000),
            failures_by_class={"environment": 100},
        )
        verdict = rule.check(at(fail=100, processing=60, success=840), observed=seen)
        assert verdict.evidence["failed"] == 0
        assert verdict.evidence["overdue"] == 60
        assert verdict.breached

    @pytest.mark.parametrize(
        ("parameters", "name"),
        [
            ((0, 0.02), "after_seconds"),
            (("6h", 0.02), "after_seconds"),
            ((60, 2), "tolerated_rate"),
            ((60, 0.02, 1), "false_alarm"),
        ],
    )
    def test_a_bad_parameter_is_named(self, parameters: tuple[float, ...], name: str) -> None:
        with pytest.raises(ValueError, match=name):
            Overdue(*parameters)


class TestHistory:
    steps = st.lists(st.tuples(st.floats(0, 500), st.integers(0, 50)), min_size=1, max_size=400)

    @settings(deadline=None)
    @given(steps, st.floats(1, 20_000))
    def test_it_is_bounded_and_errs_only_to_earlier_and_smaller(
        self, steps: list[tuple[float, int]], horizon: float
    ) -> None:
        history, time, starts = History.empty([horizon]), 0.0, 0
        truth = []
        for wait, more in steps:
            time, starts = time + wait, starts + more
            truth.append((time, starts))
            history = history.after(time, starts)
            told = history.starts_by(time - horizon, horizon)
            right = max((n for t, n in truth if t <= time - horizon), default=0)
            late = max((n for t, n in truth if t <= time - horizon - horizon / 128), default=0)
            assert told is not None
            assert late <= told <= right
        assert len(history.points[horizon]) <= 2 * 128 + 4

    def test_it_round_trips_as_json(self) -> None:
        history = History.empty([60, 3600]).after(5, 10).after(70, 30)
        assert History.from_json(history.to_json()) == history

    @pytest.mark.parametrize("data", [[[1]], [[60, [[5, 1], [4, 2]]]], [[60, [["x", 1]]]], 5])
    def test_other_json_is_refused(self, data: object) -> None:
        with pytest.raises(ValueError):
            History.from_json(data)  # type: ignore[arg-type]

    def test_a_horizon_that_is_new_knows_nothing(self) -> None:
        history = History.empty([60]).after(0, 10).covering([60, 90])
        assert history.starts_by(100, 90) is None
        assert history.starts_by(100, 60) == 10
