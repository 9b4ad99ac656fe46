"""The sequential test that knows how late failures report."""

from __future__ import annotations

import math
import random
from bisect import bisect_right
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from iotda_provider.guards import (
    Combined,
    Decision,
    Look,
    ReportingDelay,
    SequentialFailureTest,
    evaluate,
    rules_from_json,
    rules_to_json,
)
from iotda_provider.guards.e_values import FLOOR, log_e_of_hazard
from iotda_provider.guards.evaluation import GuardState
from iotda_provider.guards.learned_delay import band
from iotda_provider.guards.start_ages import StartAges
from iotda_provider.models import TaskProgress

START = 1_790_000_000
AT_ONCE = ReportingDelay({0: 1})
EXACT = ReportingDelay({300: 0, 1800: 1}, floor=0, slack=0)


def counts(started: int, failed: int = 0, total: int = 2000, **more: int) -> TaskProgress:
    gone = failed + sum(more.values())
    return TaskProgress(
        total=total, fail=failed, processing=started - gone, waiting=total - started, **more
    )


def look(after: float, progress: TaskProgress, took: float = 0.0) -> Look:
    return Look(time=START + after, progress=progress, requested=START + after - took)


def judged(rule: SequentialFailureTest, looks: Sequence[Look]) -> list[Any]:
    state, found = None, []
    for each in looks:
        state, verdict = evaluate(rule, state, each)
        found.append(verdict)
    return found


# --- the vectors of the reference -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("failed", "hazard", "expected"),
    [
        (0, 0.05, -0.223144),
        (0, 1.0, -1.791759),
        (1, 0.02, 1.617668),
        (2, 0.04, 3.603130),
        (3, 0.4, 2.822260),
        (4, 0.4, 4.722349),
        (5, 1, 3.282623),
        (6, 1, 4.893311),
        (60, 30, 9.340378),
        (30_000, 29_000, 11.228576),
        (2, 0, 4.110874),
        (0, 1000, -8.517393),
        (1000, 3000, -9.210690),
        (8, 2, 4.098579),
        (9, 2, 5.507715),
        (12, 4, 3.921247),
        (13, 4, 5.051417),
        (20, 8, 4.739230),
        (38, 20, 4.337007),
        (40, 20, 5.678183),
        (700, 600, 4.060046),
        (720, 606, 6.261727),
        (600, 600, -4.567189),
        (3, 0, 6.820016),
        (5, 1000, -8.512387),
        (29_000, 30_000, -8.544485),
    ],
)
def test_the_published_evidence(failed: int, hazard: float, expected: float) -> None:
    assert log_e_of_hazard(failed, hazard) == pytest.approx(expected, abs=6e-7)


@pytest.mark.parametrize(
    ("failed", "hazard"),
    [(3, 0.162), (4, 0.416), (6, 1.061), (10, 2.728), (20, 8.087), (30, 14.34)],
)
def test_the_published_hazards_up_to_which_failures_stop(failed: int, hazard: float) -> None:
    near = 0.0005 if hazard < 10 else 0.005
    assert log_e_of_hazard(failed, hazard - near) >= math.log(100)
    assert log_e_of_hazard(failed, hazard + 2 * near) < math.log(100)


@pytest.mark.parametrize(
    ("every", "expected"),
    [(30, 1.341780), (60, 1.351884), (120, 1.372894), (600, 1.549969)],
)
def test_the_published_hazard_as_looks_see_it(every: int, expected: float) -> None:
    rule = SequentialFailureTest(0.02, reporting=EXACT)
    looks = [look(t, counts(min(100, t // 30 + 1))) for t in range(0, 3001, every)]
    verdict = judged(rule, looks)[-1]
    assert verdict.evidence["devices"] == 100
    assert verdict.evidence["hazard"] == pytest.approx(expected, abs=5e-7)
    assert verdict.evidence["value"] == pytest.approx(log_e_of_hazard(0, expected), abs=1e-6)


def test_the_published_hazard_of_exact_starts() -> None:
    bins = tuple((START + 30 * device, 1) for device in range(100))
    ages = StartAges(1800, bins)
    assert EXACT.total_hazard(0.02, 100, ages, START + 3000) == pytest.approx(1.321577, abs=5e-7)


@pytest.mark.parametrize(("devices", "failures"), [(8, 3), (500, 24), (2000, 67)])
def test_without_a_delay_it_decides_as_the_test_of_today_within_a_failure_or_two(
    devices: int, failures: int
) -> None:
    rule = SequentialFailureTest(0.02, reporting=AT_ONCE)
    assert rule.breaks(failures, devices)
    assert not rule.breaks(failures - 1, devices)
    if devices > 8:
        assert SequentialFailureTest(0.02).breaks(failures - 1, devices)


@settings(deadline=None)
@given(st.sampled_from([0.001, 0.005, 0.01, 0.02]), st.integers(1, 5000), st.data())
def test_no_delay_is_never_far_from_the_test_of_today(
    rate: float, devices: int, data: st.DataObject
) -> None:
    today, this = SequentialFailureTest(rate), SequentialFailureTest(rate, reporting=AT_ONCE)
    failed = data.draw(st.integers(0, devices))
    if today.breaks(failed, devices):
        assert this.breaks(failed + 2, devices)
    if this.breaks(failed, devices):
        assert today.breaks(failed + 2, devices + 2)


# --- the evidence ---------------------------------------------------------------------------------


@settings(deadline=None)
@given(st.integers(0, 5000), st.floats(0, 5000), st.floats(0, 100))
def test_the_evidence_rises_with_failures_and_falls_with_the_hazard(
    failed: int, hazard: float, more: float
) -> None:
    value = log_e_of_hazard(failed, hazard)
    assert FLOOR <= value < math.inf
    assert log_e_of_hazard(failed + 1, hazard) >= value - 1e-9
    assert log_e_of_hazard(failed, hazard + more) <= value + 1e-9 * max(1, abs(value))


@pytest.mark.parametrize("failed", [0, 5, 10_000_000])
@pytest.mark.parametrize("hazard", [math.nan, math.inf, -1.0])
def test_what_cannot_be_computed_never_stops(failed: int, hazard: float) -> None:
    assert log_e_of_hazard(failed, hazard) == FLOOR


def test_the_two_ways_to_compute_it_agree_where_they_meet() -> None:
    for hazard in (5.0, 80.0, 3000.0):
        near = [log_e_of_hazard(round(hazard) + step, hazard) for step in (-1, 0, 1, 2)]
        steps = [later - earlier for earlier, later in pairwise(near)]
        assert steps == sorted(steps) or max(steps) - min(steps) < 0.05


# --- the curve ------------------------------------------------------------------------------------


def test_the_curve_is_linear_between_ages_flat_before_and_one_after() -> None:
    delay = ReportingDelay({300: 0.2, 1800: 1}, floor=0)
    found = [delay.share(age) for age in (0, 300, 1050, 1800, 9999)]
    assert found == pytest.approx([0.2, 0.2, 0.6, 1, 1])


def test_a_floor_is_added_where_nobody_expects_failures() -> None:
    assert ReportingDelay({300: 0, 1800: 1}).share(0) == pytest.approx(0.1)
    assert ReportingDelay({300: 0.5, 1800: 1}, floor=0.2).share(300) == pytest.approx(0.6)


def test_slack_makes_every_device_older() -> None:
    slow = ReportingDelay({0: 0, 100: 1}, floor=0)
    assert slow.hazard(0, 0.02) == pytest.approx(-math.log(1 - 0.02 * 0.6))


@pytest.mark.parametrize(
    "wrong",
    [
        {},
        {300: 0.5},
        {300: 0.5, 100: 0.7, 400: 1},
        {-1: 0.5, 100: 1},
        {100: 1.5},
        {"a": 1},
        {math.inf: 1},
        [(1, 0.5), (1, 1)],
        [(1,)],
        "x",
        None,
        dict.fromkeys(range(501), 1),
    ],
)
def test_a_curve_that_makes_no_sense_is_refused(wrong: Any) -> None:
    with pytest.raises(ValueError, match="shares"):
        ReportingDelay(wrong)


@pytest.mark.parametrize(
    "wrong",
    [{"floor": 1.5}, {"slack": -1}, {"counts": "all"}, {"retries": (1, 2, 3)}, {"retries": 5}],
)
def test_other_parameters_that_make_no_sense_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        ReportingDelay({0: 1}, **wrong)


@pytest.mark.parametrize("impossible", [(60, 5), (6, 60), (5, 1441), (0, 60)])
def test_retries_that_no_batch_task_has_are_refused_before_a_guard_refuses_every_batch_task(
    impossible: tuple[int, int],
) -> None:
    with pytest.raises(ValueError, match="retries must be"):
        ReportingDelay({0: 1}, retries=impossible)


@pytest.mark.parametrize("possible", [(0, 0), (1, 0), (5, 1440)])
def test_retries_that_a_batch_task_has_are_taken(possible: tuple[int, int]) -> None:
    assert ReportingDelay({0: 1}, retries=possible).retries == possible


def test_a_large_tolerated_rate_needs_no_delay() -> None:
    SequentialFailureTest(0.1, reporting=AT_ONCE)
    with pytest.raises(ValueError, match="reporting"):
        SequentialFailureTest(0.11, reporting=AT_ONCE)
    with pytest.raises(ValueError, match="reporting"):
        SequentialFailureTest(0.02, reporting={300: 0.5})  # type: ignore[arg-type]


def test_rules_with_a_delay_are_plain_json_and_back() -> None:
    delay = ReportingDelay({300: 0, 1800: 1}, floor=0.2, slack=5, retries=(5, 60))
    rules = [
        SequentialFailureTest(0.02, reporting=delay),
        Combined([SequentialFailureTest(0.02), SequentialFailureTest(0.01, reporting=delay)]),
    ]
    assert rules_from_json(rules_to_json(rules)) == rules
    assert hash(rules[0]) == hash(rules_from_json(rules_to_json(rules))[0])


# --- what is counted ------------------------------------------------------------------------------


def test_devices_that_started_before_the_first_look_may_all_have_failed() -> None:
    rule = SequentialFailureTest(0.02, reporting=EXACT)
    for state in (None, {}):
        _, verdict = evaluate(rule, state, look(0, counts(100)))
        assert verdict.evidence["hazard"] == pytest.approx(-100 * math.log(0.98))


def test_a_start_counts_from_the_request_of_the_look_before() -> None:
    rule = SequentialFailureTest(0.02, reporting=EXACT)
    looks = [look(0, counts(0), took=40), look(60, counts(1)), look(1010, counts(1))]
    age = 1010 + 40
    expected = -math.log(1 - 0.02 * (age - 300) / 1500)
    assert judged(rule, looks)[-1].evidence["hazard"] == pytest.approx(expected)


def test_nobody_leaves_the_hazard() -> None:
    rule = SequentialFailureTest(0.02, reporting=EXACT)
    looks = [look(0, counts(0)), look(60, counts(100))]
    running = judged(rule, [*looks, look(600, counts(100))])[-1].evidence["hazard"]
    mixed = counts(100, 5, success=60, stopped=10, removed=0)
    assert judged(rule, [*looks, look(600, mixed)])[-1].evidence["hazard"] == running


def test_devices_that_are_stopped_by_hand_and_replaced_all_count() -> None:
    rule = SequentialFailureTest(0.02, reporting=AT_ONCE)
    looks = [look(0, counts(0))]
    for turn in range(1, 6):
        stopped = 100 * turn
        looks.append(look(1200 * turn, counts(100 + stopped, stopped=stopped)))
    assert judged(rule, looks)[-1].evidence["hazard"] == pytest.approx(-600 * math.log(0.98))


def test_devices_that_had_the_version_leave_as_the_youngest() -> None:
    rule = SequentialFailureTest(0.02, reporting=EXACT)
    looks = [look(0, counts(50)), look(60, counts(100)), look(400, counts(100, success=30))]
    state = None
    for each in looks:
        current = Look(time=each.time, progress=each.progress, already_current=1930)
        state, verdict = evaluate(rule, state, current)
    # At least 30 of the started devices had it; they may be any, so the youngest are left out.
    left = 50 * -math.log(0.98) + 20 * -math.log(1 - 0.02 * (400 - 300) / 1500)
    assert verdict.evidence["hazard"] == pytest.approx(left)


def test_starts_of_several_batch_tasks_are_added_up() -> None:
    rule = SequentialFailureTest(0.02, reporting=EXACT)
    state = None
    for after, first, second in ((0, 0, 0), (60, 100, 0), (900, 100, 300), (1260, 100, 300)):
        tasks = {"a": counts(first), "b": counts(second)}
        total = TaskProgress(total=4000, processing=first + second, waiting=4000 - first - second)
        state, verdict = evaluate(
            rule, state, Look(time=START + after, progress=total, tasks=tasks)
        )
    hazard = sum(
        n * -math.log(1 - 0.02 * EXACT.share(age)) for n, age in ((100, 1260), (300, 1200))
    )
    assert verdict.evidence["hazard"] == pytest.approx(hazard)


looks_of_a_rollout = st.lists(
    st.tuples(st.integers(1, 400), st.integers(0, 40), st.integers(0, 3)), min_size=1, max_size=60
)


def rollout(steps: Sequence[tuple[int, int, int]]) -> list[Look]:
    found, after, started, failed = [look(0, counts(0))], 0, 0, 0
    for seconds, starts, fails in steps:
        after, started = after + seconds, min(2000, started + starts)
        failed = min(started, failed + fails)
        found.append(look(after, counts(started, failed)))
    return found


@settings(deadline=None, max_examples=60)
@given(looks_of_a_rollout)
def test_the_evidence_never_rises_where_no_failure_is_added(
    steps: list[tuple[int, int, int]],
) -> None:
    looks = rollout(steps)
    verdicts = judged(SequentialFailureTest(0.02, reporting=EXACT), looks)
    for (before, earlier), (after, later) in pairwise(zip(looks, verdicts, strict=True)):
        if before.progress.fail == after.progress.fail:
            assert later.evidence["value"] <= earlier.evidence["value"] + 1e-9


@settings(deadline=None, max_examples=60)
@given(looks_of_a_rollout, st.data())
def test_fewer_looks_a_lost_state_and_merged_starts_never_raise_the_evidence(
    steps: list[tuple[int, int, int]], data: st.DataObject
) -> None:
    rule, looks = SequentialFailureTest(0.02, reporting=EXACT), rollout(steps)
    full = judged(rule, looks)[-1].evidence["value"]
    kept = [each for each in looks[:-1] if data.draw(st.booleans())]
    assert judged(rule, [*kept, looks[-1]])[-1].evidence["value"] <= full + 1e-9
    state = None
    for each in looks:
        state, verdict = evaluate(rule, state, each)
        if data.draw(st.booleans()):
            state["ages"] = StartAges().to_json()
    assert verdict.evidence["value"] <= full + 1e-9


@given(st.lists(st.tuples(st.integers(0, 100), st.integers(1, 9)), max_size=600))
def test_starts_are_bounded_in_number_and_only_become_earlier(
    starts: list[tuple[int, int]],
) -> None:
    ages, now, true = StartAges(), START, []
    for seconds, count in starts:
        since, now = now, now + seconds
        ages = ages.after(count, since, now, 1e6)
        true += [since] * count
    assert len(ages.bins) <= 128
    assert ages.devices == len(true)
    kept = [time for time, count in ages.bins for _ in range(count)]
    assert all(mine <= theirs for mine, theirs in zip(kept, sorted(true), strict=True))
    assert StartAges.from_json(ages.to_json()) == ages


def test_starts_beyond_the_last_age_need_no_room() -> None:
    ages = StartAges()
    for step in range(1000):
        ages = ages.after(1, START + 60 * step, START + 60 * step + 60, 1800)
    assert len(ages.bins) <= 31
    assert EXACT.total_hazard(0.02, 1000, ages, START + 60_000) > 970 * -math.log(0.98)


def test_the_state_goes_on_after_a_restart_and_is_bounded() -> None:
    rule = SequentialFailureTest(0.02, reporting=ReportingDelay({0: 0, 90_000: 1}))
    state = None
    for step in range(400):
        progress = counts(9 * step, step, total=30_000)
        state, _ = evaluate(rule, state, look(30 * step, progress))
    assert GuardState.from_json(state).to_json() == state
    assert len(str(state)) < 6_000


def test_a_state_of_an_earlier_version_is_taken_with_unlimited_ages() -> None:
    rule = SequentialFailureTest(0.02, reporting=EXACT)
    state, _ = evaluate(rule, None, look(0, counts(0)))
    state, _ = evaluate(rule, state, look(60, counts(100)))
    for name in ("ages", "asked", "delays"):
        del state[name]
    state, verdict = evaluate(rule, state, look(120, counts(100)))
    assert verdict.evidence["devices"] == 100
    assert verdict.evidence["hazard"] == pytest.approx(-100 * math.log(0.98))


def test_starts_before_an_old_look_have_an_unknown_age() -> None:
    rule = SequentialFailureTest(0.02, reporting=EXACT)
    looks = [look(0, counts(0)), look(600, counts(100)), look(300, counts(150))]
    hazard = judged(rule, looks)[-1].evidence["hazard"]
    assert hazard == pytest.approx(
        -100 * math.log(1 - 0.02 * EXACT.share(600)) - 50 * math.log(0.98)
    )


# --- what it says ---------------------------------------------------------------------------------


def test_a_stop_says_whether_it_rests_on_the_delay() -> None:
    rule = SequentialFailureTest(0.02, reporting=EXACT)
    early = judged(rule, [look(0, counts(0)), look(60, counts(200)), look(420, counts(200, 8))])
    assert early[-1].decision is Decision.BREACH
    assert early[-1].evidence["rests_on_reporting"] is True
    assert "if failures report no sooner than assumed" in early[-1].sentence
    many = judged(rule, [look(0, counts(0)), look(60, counts(200)), look(420, counts(200, 40))])
    assert many[-1].evidence["rests_on_reporting"] is False
    assert "however soon failures report" in many[-1].sentence
    quiet = judged(rule, [look(0, counts(0)), look(60, counts(200, 1))])
    assert quiet[-1].evidence["rests_on_reporting"] is False
    assert quiet[-1].sentence.startswith(
        "1 of 200 devices failed (0.5 %; 2 % tolerated, 2 % would be 0 by now): evidence"
    )


def test_a_weighted_average_says_so_too() -> None:
    known = SequentialFailureTest(0.02, reporting=EXACT)
    rule = Combined([known, SequentialFailureTest(0.05)])
    looks = [look(0, counts(0)), look(60, counts(200)), look(420, counts(200, 9))]
    state = None
    for each in looks:
        state, verdict = evaluate(rule, state, each)
    assert verdict.breached
    assert verdict.evidence["rests_on_reporting"] is True
    assert (
        not Combined([SequentialFailureTest(0.02)])
        .check(counts(200, 3))
        .evidence.get("rests_on_reporting")
    )


# --- learning -------------------------------------------------------------------------------------


def random_delays(count: int, seed: int, mean: float = 600) -> list[float]:
    source = random.Random(seed)
    return [source.expovariate(1 / mean) for _ in range(count)]


@pytest.mark.parametrize(
    ("delays", "margin"), [(20, 0.274), (50, 0.173), (100, 0.122), (200, 0.087), (400, 0.061)]
)
def test_the_published_margins(delays: int, margin: float) -> None:
    assert band(delays) == pytest.approx(margin, abs=6e-4)


@pytest.mark.parametrize("floor", [0.0, 0.1, 0.5])
@pytest.mark.parametrize("sizes", [(20,), (400,), (40,) * 10, (1500, 3)])
def test_a_learned_curve_is_the_largest_share_of_any_release_and_a_margin(
    sizes: tuple[int, ...], floor: float
) -> None:
    releases = [sorted(random_delays(size, seed)) for seed, size in enumerate(sizes)]
    learned = ReportingDelay.learned(releases, floor=floor)
    margin = max(band(sum(sizes)), floor)

    def wanted(age: float) -> float:
        share = max(bisect_right(release, age) / len(release) for release in releases)
        return min(1.0, share + margin)

    ages = sorted({0.0, *(delay for release in releases for delay in release)})
    for age in ages:
        assert wanted(age) - 1e-9 <= learned.share(age) <= 1.031 * wanted(age)
    for age, following in pairwise(ages):
        assert learned.share(math.nextafter(following, 0)) >= wanted(age) - 1e-9
    assert learned.floor == 0
    assert len(learned.knots) <= 100


def test_one_release_may_be_given_as_it_is() -> None:
    delays = random_delays(50, 1)
    assert ReportingDelay.learned(delays) == ReportingDelay.learned([delays])


@pytest.mark.parametrize("wrong", [[], [5.0] * 19, [[1.0] * 10, [2.0] * 9], "x", 5, [-1.0] * 20])
def test_too_little_or_nonsense_teaches_nothing(wrong: Any) -> None:
    with pytest.raises(ValueError, match="delays"):
        ReportingDelay.learned(wrong)
