"""Failed attempts: a device counts once its latest attempt has failed, retried or not."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from iotda_provider.guards import (
    Combined,
    Look,
    Observed,
    Overdue,
    ReportingDelay,
    SequentialFailureTest,
    Stalled,
    Verdict,
    evaluate,
    rules_from_json,
    rules_to_json,
)
from iotda_provider.guards.audit import audit_record, look_of
from iotda_provider.guards.evaluation import GuardState
from iotda_provider.guards.look import Counts
from iotda_provider.guards.retries import retry_warnings
from iotda_provider.guards.rule import ClassedRule
from iotda_provider.models import TaskProgress
from iotda_provider.models.platform_retries import PlatformRetries

ATTEMPTS = SequentialFailureTest(0.2, counts="attempts")
TASK, OTHER = "0123456789abcdef01234567", "0123456789abcdef01234568"


def progress(total: int = 1000, **counts: int) -> TaskProgress:
    return TaskProgress(total=total, waiting=total - sum(counts.values()), **counts)


def judged(*looks: Look, rules: Any = ATTEMPTS) -> Verdict:
    """The verdict on the last of some looks."""
    state, verdict = None, None
    for look in looks:
        state, verdict = evaluate(rules, state, look)
    assert verdict is not None
    return verdict


def look(time: float, attempted: int | None = None, **counts: int) -> Look:
    now = progress(**counts)
    by_id = None if attempted is None else {TASK: attempted}
    return Look(time=time, progress=now, tasks={TASK: now}, attempted=by_id)


def test_devices_that_wait_for_a_retry_count_with_those_that_have_failed() -> None:
    verdict = judged(look(0, processing=20, fail_wait_retry=17, fail=1))
    assert verdict.breached
    assert (verdict.evidence["failed"], verdict.evidence["attempted"]) == (1, 18)
    assert verdict.sentence.startswith(
        "1 of 38 devices failed (2.63 %), 18 have a failed attempt (47.4 %; 20 % tolerated): "
    )
    assert not judged(look(0, processing=38), rules=ATTEMPTS).evidence["attempted"]


def test_the_same_counts_decide_as_final_failures_do_at_the_same_rate() -> None:
    final = SequentialFailureTest(0.2)
    for failed in range(60):
        among = judged(look(0, fail_wait_retry=failed, processing=60 - failed))
        assert among.breached == final.breaks(failed, 60)


def test_the_highest_count_ever_seen_stays_when_devices_are_tried_again() -> None:
    verdict = judged(
        look(0, processing=60, fail_wait_retry=40),
        look(60, processing=98, fail_wait_retry=2),
        look(120, processing=0, success=90, fail=10),
    )
    assert verdict.evidence["attempted"] == 40
    # Final failures are what they are.
    final = judged(
        look(0, fail_wait_retry=40), look(60, success=40), rules=SequentialFailureTest(0.2)
    )
    assert final.evidence["failed"] == 0


def test_one_device_counts_once_however_often_it_fails() -> None:
    looks = [look(60.0 * n, fail_wait_retry=n % 2, processing=1 - n % 2) for n in range(50)]
    assert judged(*looks).evidence["attempted"] == 1


def test_several_batch_tasks_are_summed_over_the_highest_of_each() -> None:
    def both(time: float, first: TaskProgress, second: TaskProgress) -> Look:
        whole = TaskProgress(
            **{n: getattr(first, n) + getattr(second, n) for n in TaskProgress.__dataclass_fields__}
        )
        return Look(time=time, progress=whole, tasks={TASK: first, OTHER: second})

    verdict = judged(
        both(0, progress(fail_wait_retry=30), progress(processing=30)),
        both(60, progress(success=30), progress(fail_wait_retry=20, processing=10)),
    )
    assert verdict.evidence["attempted"] == 50


def test_devices_found_by_their_ids_count_where_few_wait_at_a_time() -> None:
    looks = [look(60.0 * n, 2 * n, processing=98, fail_wait_retry=2) for n in range(21)]
    assert judged(*looks).evidence["attempted"] == 40
    assert (
        judged(*looks[:1], look(2000, processing=98, fail_wait_retry=2)).evidence["attempted"] == 2
    )
    # No more devices than have started.
    assert judged(look(0, 500, processing=100)).evidence["attempted"] == 100


def test_the_state_keeps_the_count_and_an_old_one_without_it_is_read() -> None:
    state, _ = evaluate(ATTEMPTS, None, look(0, processing=60, fail_wait_retry=40))
    kept = json.loads(json.dumps(state))
    assert GuardState.from_json(kept).attempted == 40
    _, verdict = evaluate(ATTEMPTS, kept, look(60, processing=100))
    assert verdict.evidence["attempted"] == 40

    kept["tasks"] = {name: numbers[:5] for name, numbers in kept["tasks"].items()}
    older = GuardState.from_json(kept)
    assert (older.started, older.attempted) == (100, 0)


def test_counts_that_are_too_high_leave_nothing_behind() -> None:
    """From the third look on whose counts do not add up, a surplus of failures is possible."""
    wrong = TaskProgress(total=100, fail=60, processing=100)
    state, verdict = evaluate(ATTEMPTS, None, Look(time=0, progress=wrong, surplus=60))
    assert not verdict.breached
    _, verdict = evaluate(ATTEMPTS, state, look(60, processing=100))
    assert verdict.evidence["attempted"] == 0
    # What is certain is kept.
    state, _ = evaluate(ATTEMPTS, None, Look(time=0, progress=wrong, surplus=10))
    assert GuardState.from_json(state).attempted == 50


def test_a_look_that_cannot_be_judged_changes_nothing() -> None:
    torn = Look(time=0, progress=TaskProgress(total=100, fail_wait_retry=90, processing=90))
    stopping = Look(time=0, progress=progress(fail_wait_retry=90), being_stopped=True)
    for seen in (torn, stopping):
        state, verdict = evaluate(ATTEMPTS, None, seen)
        assert verdict.undecided
        assert GuardState.from_json(state).attempted == 0


def test_devices_that_had_the_version_before_are_no_failures() -> None:
    observed = Observed(already_current=95, attempted=20)
    verdict = ATTEMPTS.check(TaskProgress(total=100, success=100), observed=observed)
    assert (verdict.evidence["attempted"], verdict.evidence["devices"]) == (5, 5)


def test_in_one_combined_the_other_rules_count_as_before() -> None:
    rule = Combined([SequentialFailureTest(0.02), ATTEMPTS, Overdue(3600, 0.02)])
    verdict = judged(look(0, processing=20, fail_wait_retry=18, success=60), rules=rule)
    assert (verdict.evidence["failed"], verdict.evidence["attempted"]) == (0, 18)
    assert verdict.sentence.startswith(
        "0 of 98 devices failed (0 %; 2 % tolerated), 0 unfinished after 1 h, 18 have a failed "
        "attempt (18.4 %; 20 % tolerated): evidence against the rollout "
    )
    broken = judged(look(0, processing=20, fail_wait_retry=19), rules=rule)
    assert broken.breached
    # Nothing is said of a delay that none knows.
    assert "39 devices failed (0 %; 2 % tolerated), 19 have a failed attempt" in broken.sentence
    assert "soon" not in broken.sentence
    assert {"attempts", "history"} <= rule.needs


def test_a_record_of_the_trail_holds_the_count_and_is_judged_alike() -> None:
    seen = look(0, 40, processing=98, fail_wait_retry=2)
    verdict = judged(seen)
    record = json.loads(json.dumps(audit_record(seen, verdict)))
    assert record["attempted"] == 40
    assert judged(look_of(record)).evidence["attempted"] == 40
    plain = judged(seen, rules=SequentialFailureTest(0.2))
    assert "attempted" not in audit_record(seen, plain)


def test_the_parameter_is_a_part_of_the_rules_json() -> None:
    (again,) = rules_from_json(json.dumps(rules_to_json(ATTEMPTS)))
    assert again == ATTEMPTS
    (older,) = rules_from_json([{"rule": "SequentialFailureTest", "tolerated_rate": 0.2}])
    assert older == SequentialFailureTest(0.2, counts="failed")


@pytest.mark.parametrize(
    "wrong",
    [
        {"counts": "attempt"},
        {"counts": None},
        {"counts": ["attempts"]},
        {"counts": "attempts", "failure_class": "firmware"},
        {"counts": "attempts", "leave_worst_out": True},
    ],
)
def test_what_it_cannot_count_is_refused_by_name(wrong: dict[str, Any]) -> None:
    name = next((name for name in wrong if name != "counts"), "counts")
    with pytest.raises(ValueError, match=rf"^{name} must be"):
        SequentialFailureTest(0.2, **wrong)


def test_a_delay_that_was_learned_on_final_failures_is_refused() -> None:
    final = ReportingDelay({0: 0.2, 3600: 1})
    with pytest.raises(ValueError, match=r"^reporting: .* final failures .* first failed attempts"):
        SequentialFailureTest(0.05, reporting=final, counts="attempts")
    first = ReportingDelay({0: 0.2, 3600: 1}, counts="attempts")
    with pytest.raises(ValueError, match=r"^reporting: .* counts='failed'"):
        SequentialFailureTest(0.05, reporting=first)


def test_a_delay_to_the_first_failed_attempt_makes_it_decide_sooner() -> None:
    first = ReportingDelay({0: 0, 36000: 1}, counts="attempts")
    knows = SequentialFailureTest(0.05, reporting=first, counts="attempts")
    looks = [look(0), look(60, processing=100), look(600, processing=90, fail_wait_retry=10)]
    known = judged(*looks, rules=knows)
    plain = judged(*looks, rules=SequentialFailureTest(0.05, counts="attempts"))
    assert (known.breached, plain.breached) == (True, False)
    assert known.evidence["attempted"] == plain.evidence["attempted"] == 10
    assert known.evidence["rests_on_reporting"]


@st.composite
def attempts(draw: st.DrawFn) -> list[tuple[set[int], Look]]:
    """Looks at devices that fail, wait, are tried again and end; with those that ever failed."""
    size = draw(st.integers(1, 30))
    now = dict.fromkeys(range(size), "waiting")
    ever: set[int] = set()
    looks = []
    for number in range(draw(st.integers(1, 12))):
        for device in now:
            step = draw(st.sampled_from(["", "processing", "fail_wait_retry", "fail", "success"]))
            if step and now[device] not in ("success", "fail"):
                now[device] = step
                if "fail" in step:
                    ever.add(device)
        names = [f for f in TaskProgress.__dataclass_fields__ if f != "total"]
        counts = {name: sum(status == name for status in now.values()) for name in names}
        seen = TaskProgress(total=size, **counts)
        by_id = {TASK: draw(st.integers(0, len(ever)))}
        one = Look(time=60.0 * number, progress=seen, tasks={TASK: seen}, attempted=by_id)
        looks.append((set(ever), one))
    return looks


@settings(deadline=None)
@given(attempts())
def test_it_never_counts_more_devices_than_have_a_failed_attempt_and_never_falls(
    looks: list[tuple[set[int], Look]],
) -> None:
    state, before = None, 0
    for ever, one in looks:
        state, verdict = evaluate(ATTEMPTS, state, one)
        assert before <= verdict.evidence["attempted"] <= len(ever)
        before = verdict.evidence["attempted"]


@dataclass(frozen=True)
class NewRule(ClassedRule):
    """A rule that somebody has added."""

    failure_class: Sequence[str] | None = None

    def _judge(self, counts: Counts) -> Verdict:
        raise AssertionError("nothing is judged here")


def test_a_new_rule_that_counts_failures_is_warned_of_as_the_others() -> None:
    (warning,) = retry_warnings(PlatformRetries(3, 10), [NewRule()])
    assert "counts for NewRule only after 4 attempts" in warning
    assert not retry_warnings(PlatformRetries(3, 10), [Stalled(60)])
