"""The delays of failures as looks show them: never longer than they were, and bounded."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import ksone

from iotda_provider.guards import Look, ReportingDelay
from iotda_provider.guards.delay_record import MOST_DELAYS, Change, Delay, DelayRecord
from iotda_provider.guards.evaluation import GuardState
from iotda_provider.guards.learned_delay import chance_of_so_soon
from iotda_provider.models import TaskProgress

START = 1_790_000_000


def look(after: float, took: float = 0.0, **tasks: tuple[int, int]) -> Look:
    """A look at batch tasks of 100 devices each: (started, failed)."""
    counts = {
        name: TaskProgress(total=100, fail=failed, processing=up - failed, waiting=100 - up)
        for name, (up, failed) in tasks.items()
    }
    total = TaskProgress(
        **{
            name: sum(getattr(one, name) for one in counts.values())
            for name in ("total", "fail", "processing", "waiting")
        }
    )
    at = START + after
    return Look(time=at, progress=total, tasks=counts, requested=at - took)


def record(looks: Sequence[Look]) -> DelayRecord:
    state = GuardState()
    for each in looks:
        state = GuardState.from_json(state.after(each, ()).to_json())
    return state.delays


def test_a_wave_that_starts_at_once_shows_delays_to_a_look_or_two() -> None:
    found = record(
        [
            look(0, a=(0, 0)),
            look(10, took=2, a=(100, 0)),
            look(300, took=2, a=(100, 0)),
            look(310, took=2, a=(100, 3)),
        ]
    )
    # Started between 0 and 10, failed between 298 and 310.
    assert found.kept == (Delay(START + 10, 288, 310),) * 3
    assert found.failures == 3


def test_a_failure_while_more_devices_start_tells_nothing() -> None:
    found = record([look(0, a=(0, 0)), look(10, a=(10, 0)), look(20, a=(20, 1))])
    assert found.shortest == [0]
    assert found.kept[0].most == 20


def test_each_batch_task_has_starts_of_its_own() -> None:
    found = record(
        [
            look(0, a=(0, 0), b=(0, 0)),
            look(10, a=(100, 0), b=(0, 0)),
            look(600, a=(100, 0), b=(100, 0)),
            look(610, a=(100, 1), b=(100, 0)),
            look(650, a=(100, 1), b=(100, 1)),
        ]
    )
    assert [delay.least for delay in found.kept] == [590, 10]


def test_failures_of_before_the_first_look_may_have_come_at_once() -> None:
    found = record([look(0, a=(100, 5)), look(60, a=(100, 6))])
    assert found.shortest == [0] * 6
    assert all(delay.most == -1 for delay in found.kept)


def test_a_device_that_a_person_retries_starts_again() -> None:
    found = record(
        [
            look(0, a=(0, 0)),
            look(10, a=(100, 0)),
            look(600, a=(100, 1)),
            look(1000, a=(100, 0)),  # retried
            look(1100, a=(100, 1)),
        ]
    )
    assert [delay.least for delay in found.kept] == [0, 0]
    found = record(
        [
            look(0, a=(0, 0)),
            look(10, a=(100, 1)),
            look(1000, a=(100, 0)),
            look(1090, a=(100, 0)),
            look(1100, a=(100, 1)),
        ]
    )
    assert found.kept[-1].least == 90


def test_a_second_wave_of_a_batch_task_is_as_sharp_once_the_first_has_ended() -> None:
    def wave(after: float, up: int, failed: int, success: int) -> Look:
        progress = TaskProgress(
            total=100,
            fail=failed,
            success=success,
            processing=up - failed - success,
            waiting=100 - up,
        )
        return Look(time=START + after, progress=progress)

    looks = [wave(0, 0, 0, 0), wave(10, 50, 0, 0), wave(100, 50, 1, 0), wave(900, 50, 1, 49)]
    looks += [wave(1000, 50, 1, 49), wave(1010, 100, 1, 49), wave(1200, 100, 1, 49)]
    found = record([*looks, wave(1210, 100, 2, 49)])
    assert found.kept[1] == Delay(START + 1010, 190, 210)
    assert not record([*looks, wave(1210, 100, 2, 98)]).spans


def test_looks_that_are_lost_make_delays_shorter() -> None:
    looks = [look(10 * step, a=(100 if step else 0, step // 10)) for step in range(100)]
    full = record(looks)
    fewer = record([one for index, one in enumerate(looks) if index < 2 or index % 7 == 0])
    assert fewer.failures == full.failures
    assert all(a <= b for a, b in zip(fewer.shortest, full.shortest, strict=True))


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 2**32), st.integers(1, 90), st.booleans())
def test_a_recorded_delay_is_never_longer_than_the_true_one(
    seed: int, every: int, at_once: bool
) -> None:
    source = random.Random(seed)
    starts = [1.0 if at_once else source.uniform(0, 3000) for _ in range(100)]
    ends = [start + source.expovariate(1 / 600) for start in starts]
    looks = []
    for after in range(0, min(9000, 600 * every), every):
        up = sum(start <= after for start in starts)
        looks.append(look(after, a=(up, sum(end <= after for end in ends))))
    found = record(looks)
    seen = [end - start for start, end in zip(starts, ends, strict=True) if end <= after]
    assert found.failures == len(seen)
    assert all(kept <= true for kept, true in zip(found.shortest, sorted(seen), strict=True))
    longest = sorted(delay.most for delay in found.kept)
    assert all(kept >= true for kept, true in zip(longest, sorted(seen), strict=True))


def test_of_many_failures_a_random_sample_is_kept_the_same_after_a_restart() -> None:
    whole, parts = DelayRecord(), DelayRecord()
    for step in range(3000):
        at = START + 10 * step
        change = {"a": Change(step == 1, 1)}
        whole = whole.after(change, at - 10, at)
        parts = DelayRecord.from_json(parts.to_json()).after(change, at - 10, at)
    assert whole == parts
    assert whole.failures == 3000
    assert len(whole.kept) == MOST_DELAYS
    assert 10_000 < sum(whole.shortest) / MOST_DELAYS < 20_000
    assert len(str(whole.to_json())) < 4_000


@pytest.mark.parametrize(
    "wrong",
    [
        None,
        [],
        [1, 0, [], {}],
        [-1, 0, [], {}],
        [1, 0, [[0, -5, 0]], {}],
        [0, 0, [], {"a": 5}],
        "x",
    ],
)
def test_a_record_that_makes_no_sense_is_refused(wrong: object) -> None:
    with pytest.raises(ValueError, match="not a record of delays"):
        DelayRecord.from_json(wrong)


# --- afterwards -----------------------------------------------------------------------------------

EXPONENTIAL = ReportingDelay(
    {0: 0, **{600 * k / 20: 1 - 2.718 ** (-k / 20) for k in range(1, 200)}, 7000: 1}, floor=0
)


def chance(times: float, seed: int, count: int = 60) -> float:
    source = random.Random(seed)
    exact = [round(times * source.expovariate(1 / 600)) for _ in range(count)]
    kept = [Delay(START, delay, delay) for delay in exact]
    found = chance_of_so_soon(kept, START + 9000, EXPONENTIAL.share)
    assert found is not None
    return found


def test_delays_as_assumed_are_seldom_said_to_come_sooner() -> None:
    assert sum(chance(1.0, seed) <= 0.05 for seed in range(400)) <= 36


def test_delays_of_half_the_time_are_noticed() -> None:
    assert sum(chance(0.5, seed) <= 0.05 for seed in range(100)) >= 90


def test_the_chance_is_that_of_the_one_sided_kolmogorov_smirnov_test() -> None:
    kept = [Delay(START, 0, age) for age in (60, 120, 500)]
    shares = [EXPONENTIAL.share(age) / EXPONENTIAL.share(3600) for age in (60, 120, 500)]
    distance = max((k + 1) / 3 - v for k, v in enumerate(shares))
    found = chance_of_so_soon(kept, START + 3600, EXPONENTIAL.share)
    assert found == pytest.approx(ksone.sf(distance, 3))


def test_delays_that_are_not_known_never_come_sooner() -> None:
    unknown = [Delay(START, 0, -1)] * 50
    assert chance_of_so_soon(unknown, START + 3600, EXPONENTIAL.share) == 1.0
    assert chance_of_so_soon([], START + 3600, EXPONENTIAL.share) is None
