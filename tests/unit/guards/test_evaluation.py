"""The evaluator that sensor, trigger, replay and simulation share."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from iotda_provider.guards import (
    Combined,
    Decision,
    EnoughSuccess,
    Look,
    MaxFailureRate,
    MaxFailures,
    Overdue,
    SequentialFailureTest,
    Stalled,
    Undecided,
    Verdict,
    checked_rules,
    evaluate,
    needs_of,
    total_progress,
)
from iotda_provider.guards.evaluation import GuardState
from iotda_provider.guards.miscounts import Miscounts
from iotda_provider.models import BatchTask, TaskProgress, TaskStatus

RULES = [SequentialFailureTest(0.02), MaxFailures(50), Stalled(3600), Overdue(7200, 0.02)]


def look(time: float = 0.0, total: int = 1000, *, stopping: bool = False, **counts: int) -> Look:
    progress = TaskProgress(total=total, waiting=total - sum(counts.values()), **counts)
    return Look(time=time, progress=progress, being_stopped=stopping)


def test_a_list_breaks_when_any_breaks_and_the_first_gives_its_name() -> None:
    _, verdict = evaluate(RULES, None, look(fail=60, processing=300))
    assert verdict.decision is Decision.BREACH
    assert verdict.rule == "SequentialFailureTest"
    assert [part.decision for part in verdict.parts] == ["breach", "breach", "continue", "breach"]


def test_a_hold_is_told_where_nothing_breaks() -> None:
    rules = [MaxFailures(50), SequentialFailureTest(0.02, hold_at=10)]
    _, verdict = evaluate(rules, None, look(fail=12, processing=188))
    assert verdict.decision is Decision.HOLD


def test_where_nothing_happens_the_rule_nearest_to_its_bound_is_told() -> None:
    _, verdict = evaluate([MaxFailures(1000), MaxFailures(10)], None, look(fail=9))
    assert verdict.evidence["bound"] == 10


def test_what_must_be_read_is_told_where_nothing_breaks() -> None:
    rules = [MaxFailures(1000), MaxFailures(5, failure_class="firmware")]
    seen = look(fail=9, processing=1)
    state, verdict = evaluate(rules, None, seen)
    assert verdict.undecided is Undecided.CLASSES
    _, verdict = evaluate(rules, state, seen.with_classes({"environment": 9}))
    assert verdict.undecided is None
    assert verdict.decision is Decision.CONTINUE


def test_the_verdict_and_the_state_are_plain_json() -> None:
    state, verdict = evaluate(RULES, None, look(fail=60, processing=300))
    assert json.loads(json.dumps(state, allow_nan=False)) == state
    assert json.loads(json.dumps(verdict.to_dict(), allow_nan=False)) == verdict.to_dict()
    assert type(verdict).from_dict(verdict.to_dict()) == verdict


def test_counts_that_do_not_add_up_change_nothing() -> None:
    state, _ = evaluate(RULES, None, look(processing=500))
    torn = Look(time=10, progress=TaskProgress(total=1000, fail=900, processing=900))
    after, verdict = evaluate(RULES, state, torn)
    assert verdict.undecided is Undecided.COUNTS
    assert after == state


class TestCountsThatStayWrong:
    """Judged by bounds: what follows at both ends is decided."""

    @staticmethod
    def verdict(rules: object, *, deficit: int = 0, surplus: int = 0, **counts: int) -> Verdict:
        off = Look(time=0, progress=TaskProgress(**counts), deficit=deficit, surplus=surplus)
        return evaluate(rules, None, off)[1]  # type: ignore[arg-type]

    @pytest.mark.parametrize("total", [501, 499])
    def test_one_miscounted_device_does_not_hide_a_breach(self, total: int) -> None:
        off = {"deficit": 1} if total > 500 else {"surplus": 1}
        rules = [SequentialFailureTest(0.02), MaxFailures(399), MaxFailureRate(0.05)]
        verdict = self.verdict(rules, total=total, fail=400, success=100, **off)
        assert verdict.breached
        assert all(part.breached for part in verdict.parts)

    @pytest.mark.parametrize(
        ("off", "fail", "decision"),
        [
            ({"deficit": 3}, 7, "continue"),  # with the missing it may be 10
            ({"deficit": 3}, 10, "breach"),
            ({"surplus": 3}, 12, "continue"),  # without the surplus it may be 9
            ({"surplus": 3}, 13, "breach"),
            ({"deficit": 3, "surplus": 3}, 12, "continue"),
        ],
    )
    def test_what_only_one_bound_says_is_not_decided(
        self, off: dict[str, int], fail: int, decision: str
    ) -> None:
        verdict = self.verdict(MaxFailures(10), total=500, fail=fail, success=100, **off)
        assert verdict.decision == decision
        assert (verdict.undecided is Undecided.COUNTS) is (decision == "continue")

    def test_what_is_far_from_a_bound_is_decided(self) -> None:
        verdict = self.verdict(MaxFailures(10), total=101, fail=2, success=98, deficit=1)
        assert (verdict.decision, verdict.undecided) == (Decision.CONTINUE, None)

    @pytest.mark.parametrize("includes_removed", [True, False])
    def test_a_total_with_or_without_the_removed_adds_up(self, includes_removed: bool) -> None:
        total = 500 if includes_removed else 470
        progress = TaskProgress(total=total, fail=400, success=70, removed=30)
        assert progress.adds_up
        assert evaluate(MaxFailures(10), None, Look(time=0, progress=progress))[1].breached
        assert not replace(progress, success=69).adds_up


def test_it_takes_three_looks_in_a_row_that_do_not_add_up() -> None:
    good, off = TaskProgress(total=5, fail=5), TaskProgress(total=9, fail=5)
    worse, twice = TaskProgress(total=12, fail=5), TaskProgress(total=2, fail=5)
    counts = Miscounts()
    assert [counts.add([one]) for one in (off, off, good)] == [None, None, (0, 0)]
    assert [counts.add([one]) for one in (off, worse, off)] == [None, None, (7, 0)]
    assert counts.add([twice]) == (7, 3)
    assert [counts.add([off]) for _ in range(3)] == [(4, 3), (4, 3), (4, 0)]
    assert counts.add([off, twice, good]) == (4, 3)


def test_nothing_is_judged_and_nothing_remembered_while_the_task_is_being_stopped() -> None:
    state, _ = evaluate(RULES, None, look(processing=500))
    after, verdict = evaluate(RULES, state, look(10, fail=400, stopped=600, stopping=True))
    assert verdict.undecided is Undecided.STOPPING
    assert after == state


class TestHowManyHaveStarted:
    """Stopping running devices by hand lowers the platform's count, and must not help a breach."""

    @staticmethod
    def devices(*looks: Look, state: dict[str, object] | None = None) -> int:
        for seen in looks:
            state, verdict = evaluate(SequentialFailureTest(0.02), state, seen)
        return int(verdict.evidence["devices"])

    def test_the_highest_number_ever_seen_counts(self) -> None:
        assert self.devices(look(processing=500), look(processing=100, stopped=400)) == 500

    def test_devices_that_start_after_a_stop_by_hand_are_added(self) -> None:
        seen = [look(processing=500), look(processing=100, stopped=400)]
        assert self.devices(*seen, look(processing=300, stopped=400)) == 700

    def test_stopping_devices_that_wait_counts_them_as_started(self) -> None:
        """Nobody can tell them from running ones; what is counted too high spares a rollout."""
        assert self.devices(look(processing=500), look(processing=500, stopped=400)) == 900

    def test_a_rise_after_a_fall_is_added_up_to_the_total(self) -> None:
        seen = [look(processing=500), look(processing=450)]
        assert self.devices(*seen, look(processing=500)) == 550
        assert self.devices(*seen * 20) == 1000

    @pytest.mark.parametrize("gone", ["stopped", "fail"])
    def test_devices_that_are_started_again_are_added(self, gone: str) -> None:
        seen = [look(processing=500), look(processing=470, **{gone: 30})]
        assert self.devices(*seen, look(processing=500)) == 530

    def test_where_the_history_is_lost_stopped_and_removed_devices_count_as_started(self) -> None:
        assert self.devices(look(processing=100, stopped=390, removed=10)) == 500

    def test_each_batch_task_is_counted_by_itself(self) -> None:
        """One whose devices are taken back must not hide that the other's have started."""

        def both(time: float, first: int, second: int) -> Look:
            return Look.of(
                [
                    BatchTask(
                        name,
                        TaskStatus.PROCESSING,
                        progress=TaskProgress(
                            total=1000, processing=started, waiting=1000 - started
                        ),
                    )
                    for name, started in (("a", first), ("b", second))
                ],
                time=time,
            )

        assert self.devices(both(0, 500, 0), both(10, 400, 100), both(20, 400, 200)) == 700

    @pytest.mark.parametrize("includes_removed", [True, False])
    def test_removed_devices_count_whether_or_not_the_total_includes_them(
        self, includes_removed: bool
    ) -> None:
        def seen(time: float, **counts: int) -> Look:
            gone = 0 if includes_removed else counts.get("removed", 0)
            return (
                look(time, 1000, **counts)
                if not gone
                else Look(
                    time=time,
                    progress=TaskProgress(
                        total=1000 - gone, waiting=1000 - sum(counts.values()), **counts
                    ),
                )
            )

        looks = [seen(0, processing=500), seen(10, processing=400, removed=100)]
        assert all(one.progress.adds_up for one in looks)
        assert self.devices(*looks, seen(20, processing=450, removed=100)) == 550

    @settings(deadline=None)
    @given(st.data())
    def test_it_never_falls_and_never_exceeds_the_total(self, data: st.DataObject) -> None:
        state, before = None, 0
        for time in range(data.draw(st.integers(1, 12))):
            processing = data.draw(st.integers(0, 300))
            success = data.draw(st.integers(0, 300))
            stopped = data.draw(st.integers(0, 300))
            seen = look(time, processing=processing, success=success, stopped=stopped)
            state, verdict = evaluate(SequentialFailureTest(0.02), state, seen)
            now = verdict.evidence["devices"]
            assert max(before, processing + success + stopped) <= now <= 1000
            before = now

    def test_running_devices_stopped_by_hand_make_no_false_stops(self) -> None:
        """A hundred every twenty minutes, and others start in their place; 2 % fail by nature."""
        rule = SequentialFailureTest(0.02)
        runs = 25
        stops = {"counted": 0, "highest": 0}
        for seed in range(runs):
            state, highest, broken = None, 0, set()
            for seen in looks_at_a_fleet_that_is_stopped_by_hand(Random(seed)):
                state, verdict = evaluate(rule, state, seen)
                highest = max(highest, seen.progress.started)
                if verdict.breached:
                    broken.add("counted")
                if rule.breaks(seen.progress.fail, highest):
                    broken.add("highest")
            for name in broken:
                stops[name] += 1
        assert stops["highest"] > 0.9 * runs  # what the count is for
        assert stops["counted"] <= 1


def looks_at_a_fleet_that_is_stopped_by_hand(random: Random) -> Iterator[Look]:
    """Five hundred run at a time, for two hours each, or ten minutes where they fail."""
    total, waiting, success, fail, stopped = 4000, 4000, 0, 0, 0
    running: list[tuple[int, bool]] = []  # (when it ends, whether it fails), in minutes
    for minute in range(0, 900, 5):
        done = [end for end in running if end[0] <= minute]
        running = [end for end in running if end[0] > minute]
        fail += sum(fails for _, fails in done)
        success += sum(not fails for _, fails in done)
        if minute and minute % 20 == 0:
            random.shuffle(running)
            stopped += len(running[:100])
            running = running[100:]
        new = min(waiting, 500 - len(running))
        waiting -= new
        for _ in range(new):
            fails = random.random() < 0.02
            running.append((minute + (10 if fails else 120), fails))
        yield Look(
            time=60.0 * minute,
            progress=TaskProgress(
                total=total,
                waiting=waiting,
                processing=len(running),
                success=success,
                fail=fail,
                stopped=stopped,
            ),
        )


@st.composite
def growing_rollouts(draw: st.DrawFn) -> list[Look]:
    """Looks at one rollout that nobody stops: every count of outcomes only grows."""
    started = success = fail = 0
    looks = []
    for index in range(draw(st.integers(1, 10))):
        started += draw(st.integers(0, 100))
        unfinished = started - success - fail
        failing = draw(st.integers(0, min(unfinished, 12)))
        fail += failing
        success += draw(st.integers(0, unfinished - failing))
        processing = started - success - fail
        looks.append(look(10.0 * index, success=success, fail=fail, processing=processing))
    return looks


MEMORYLESS = [
    MaxFailures(5),
    MaxFailureRate(0.05, min_sample=20),
    MaxFailureRate(0.05, min_sample=20, denominator="finished"),
    SequentialFailureTest(0.02, hold_at=10),
    Combined([SequentialFailureTest(0.02), SequentialFailureTest(0.1)]),
]


@settings(deadline=None)
@given(growing_rollouts(), st.sets(st.integers(0, 9)))
def test_a_guard_that_was_restarted_or_looked_less_often_decides_the_same(
    looks: list[Look], lost_before: set[int]
) -> None:
    whole = broken = None
    for index, seen in enumerate(looks):
        whole, verdict = evaluate(MEMORYLESS, whole, seen)
        broken, after_loss = evaluate(MEMORYLESS, None if index in lost_before else broken, seen)
        assert verdict == after_loss


@settings(deadline=None)
@given(growing_rollouts(), st.randoms())
def test_the_order_of_looks_does_not_matter_where_nobody_stops_devices(
    looks: list[Look], random: Random
) -> None:
    last = max(looks, key=lambda seen: seen.time)
    rest = [seen for seen in looks if seen is not last]
    random.shuffle(rest)
    verdicts = []
    for order in (looks, [*rest, last]):
        state = None
        for seen in order:
            state, verdict = evaluate(MEMORYLESS, state, seen)
        verdicts.append(verdict)
    assert verdicts[0] == verdicts[1]


@settings(deadline=None)
@given(growing_rollouts())
def test_asking_twice_about_one_look_is_harmless(looks: list[Look]) -> None:
    state = None
    for seen in looks:
        state, verdict = evaluate(RULES, state, seen)
        assert evaluate(RULES, state, seen) == (state, verdict)


@settings(deadline=None)
@given(growing_rollouts())
def test_the_state_round_trips_as_json(looks: list[Look]) -> None:
    state = None
    for seen in looks:
        state, _ = evaluate(RULES, state, seen)
        assert GuardState.from_json(json.loads(json.dumps(state))).to_json() == state


def test_the_state_stays_small_over_a_day_of_staggered_starts() -> None:
    rule, state = Overdue(12 * 3600, 0.02), None
    for index in range(1440):
        seen = look(60.0 * index, total=30_000, success=20 * index)
        state, _ = evaluate(rule, state, seen)
    assert len(json.dumps(state)) < 8_000


@pytest.mark.parametrize("state", [None, {}, {"version": 0}, {"version": 99, "started": 5}])
def test_a_lost_or_foreign_state_is_a_fresh_start(state: dict[str, object] | None) -> None:
    assert evaluate(RULES, state, look(fail=60, processing=300))[1].breached


@pytest.mark.parametrize(
    "change",
    [
        {"started": -1},
        {"started": "many"},
        {"started": True},
        {"last": [1, 2]},
        {"last": None},
        {"time": "now"},
        {"time": float("nan")},
        {"history": [[1]]},
        {"history": 7},
    ],
)
def test_a_broken_state_is_refused(change: dict[str, object]) -> None:
    state, _ = evaluate(RULES, None, look(processing=5))
    with pytest.raises(ValueError):
        evaluate(RULES, {**state, **change}, look(processing=6))


def test_a_look_sums_the_tasks_that_a_rollout_is_split_over() -> None:
    tasks = [
        BatchTask("a", TaskStatus.PROCESSING, progress=TaskProgress(total=30, fail=3, success=27)),
        BatchTask("b", TaskStatus.PROCESSING, progress=TaskProgress(total=20, processing=20)),
    ]
    seen = Look.of(tasks, time=5)
    assert seen.progress == TaskProgress(total=50, fail=3, success=27, processing=20)
    assert seen.progress == total_progress(task.progress for task in tasks)
    assert not seen.being_stopped
    assert Look.of(tasks[0], time=5).progress == tasks[0].progress


@pytest.mark.parametrize("status", [TaskStatus.STOPPING, TaskStatus.STOPPED])
def test_a_look_at_tasks_of_which_one_is_stopped_is_not_judged(status: TaskStatus) -> None:
    progress = TaskProgress(total=10, fail=10)
    seen = Look.of(
        [
            BatchTask("a", TaskStatus.PROCESSING, progress=progress),
            BatchTask("b", status, progress=progress),
        ],
        time=5,
    )
    assert seen.being_stopped


def test_the_sum_of_no_tasks_is_nothing() -> None:
    assert total_progress([]) == TaskProgress()


@pytest.mark.parametrize(
    ("rules", "words"),
    [
        ([], "at least one"),
        ("MaxFailures(5)", "list of guard rules"),
        ([{"rule": "MaxFailures", "count": 5}], "not a guard rule"),
        ([EnoughSuccess(0.05)], "gate"),
        (7, "list of guard rules"),
    ],
)
def test_what_is_no_list_of_stopping_rules_is_refused(rules: object, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        checked_rules(rules)  # type: ignore[arg-type]


def test_one_rule_alone_is_a_list_of_one() -> None:
    assert checked_rules(MaxFailures(5)) == (MaxFailures(5),)


def test_a_guard_knows_what_its_rules_need() -> None:
    assert needs_of([MaxFailures(5)]) == frozenset()
    rules = [MaxFailures(5, failure_class="unknown"), Stalled(60)]
    assert needs_of(rules) == {"classes", "history"}


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"time": float("nan")}, "time"),
        ({"time": True}, "time"),
        ({"already_current": -1}, "already_current"),
        ({"being_stopped": "no"}, "being_stopped"),
        ({"failures_by_class": {"hardware": 1}}, "failures_by_class"),
        ({"failures_by_class": {"firmware": -1}}, "failures_by_class"),
        ({"clusters": {"a": 5}}, "clusters"),
        ({"clusters": {"a": (1, -5)}}, "clusters"),
    ],
)
def test_a_look_that_makes_no_sense_is_refused(change: dict[str, object], name: str) -> None:
    with pytest.raises(ValueError, match=name):
        Look(**{"time": 0.0, "progress": TaskProgress(), **change})  # type: ignore[arg-type]
