"""Guard runs: ids that nobody can pick, found with few questions."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import pytest

from iotda_provider.airflow_support.guard_runs import VARIABLE, find_guard_runs, guard_run_id

SECRET = "secret"


class TaskInstance:
    """Answers as Airflow 3 does, and counts the questions."""

    def __init__(self, runs: dict[str, str], watching: set[str] | None = None) -> None:
        self.runs = runs
        self.watched = set(runs) if watching is None else watching
        self.questions = 0
        self.longest = 0

    def get_dr_count(self, dag_id: str, run_ids: list[str], states: list[str] | None) -> int:
        assert dag_id == "guard_one_rollout"
        assert run_ids, "without ids Airflow would count every run"
        self.questions += 1
        self.longest = max(self.longest, len(run_ids))
        return sum(
            run_id in self.runs and (states is None or self.runs[run_id] in states)
            for run_id in run_ids
        )

    def get_ti_count(
        self, dag_id: str, task_ids: list[str], run_ids: list[str], states: list[str]
    ) -> int:
        assert (task_ids, "deferred" in states) == (["guard"], True)
        self.questions += 1
        return len(self.watched & set(run_ids))


@pytest.fixture(autouse=True)
def _secret(variables: Any) -> None:
    variables[VARIABLE] = SECRET


def ids(count: int) -> list[str]:
    return [f"{number:024x}" for number in range(count)]


def run(batch_task_id: str, number: int = 1) -> str:
    return guard_run_id(SECRET, batch_task_id, number)


def test_an_id_names_the_rollout_and_can_not_be_picked_without_the_secret() -> None:
    found = {guard_run_id(secret, each, n) for secret in "ab" for each in ids(3) for n in (1, 2)}

    assert len(found) == 12
    assert all(re.fullmatch(r"guard__[0-9a-f]{24}__[a-z2-7]{20}(__2)?", each) for each in found)
    # Who has seen the first one does not know the second.
    assert not run("a", 2).startswith(run("a"))


def test_three_hundred_guarded_rollouts_take_nine_questions() -> None:
    ti = TaskInstance({run(each): "running" for each in ids(300)})

    found = find_guard_runs(ti, ids(300))

    assert (found.missing, found.unwatched, found.given_up) == ({}, {}, {})
    assert ti.questions == 9
    assert ti.longest == 100


@pytest.mark.parametrize("missing", [[7], [0, 150, 299], list(range(300))])
def test_those_without_a_run_are_found_by_halving(missing: list[int]) -> None:
    every = ids(300)
    runs = {run(each): "running" for n, each in enumerate(every) if n not in missing}
    ti = TaskInstance(runs)

    found = find_guard_runs(ti, every)

    assert found.missing == {every[n]: run(every[n]) for n in missing}
    assert ti.questions < 9 + 16 * min(len(missing), 3)


def test_one_whose_guard_has_ended_gets_the_next_and_one_that_waits_is_told() -> None:
    ended, replaced, failed, waiting = every = ids(4)
    runs = {
        run(ended): "success",
        run(replaced): "success",
        run(replaced, 2): "running",
        **{run(failed, n): "failed" for n in (1, 2)},
        run(waiting): "queued",
    }
    ti = TaskInstance(runs, watching={run(replaced, 2)})

    found = find_guard_runs(ti, every, most_failed=2)

    assert found.missing == found.replaced == {ended: run(ended, 2)}
    assert found.given_up == {failed: run(failed, 3)}
    assert found.unwatched == {waiting: run(waiting)}


def test_whoever_has_the_next_run_by_now_is_not_given_up() -> None:
    (each,) = ids(1)
    runs = {**{run(each, n): "failed" for n in (1, 2)}, run(each, 3): "running"}

    found = find_guard_runs(TaskInstance(runs), [each], most_failed=2)

    assert (found.given_up, found.missing) == ({}, {})
    assert found.watched == {each: run(each, 3)}


def test_guards_that_ended_well_are_not_counted_as_failed() -> None:
    (each,) = ids(1)
    ti = TaskInstance({run(each, n): "success" for n in range(1, 9)})

    assert find_guard_runs(ti, [each], most_failed=2).missing == {each: run(each, 9)}


@pytest.mark.parametrize("runs_on", [False, True])
def test_guards_that_have_failed_for_a_month_take_hardly_more_questions(runs_on: bool) -> None:
    def questions(failed: int) -> int:
        every = ids(20)
        runs = {run(each, n): "failed" for each in every for n in range(1, failed + 1)}
        runs |= {run(each, failed + 1): "running" for each in every if runs_on}
        ti = TaskInstance(runs)
        found = find_guard_runs(ti, every)
        of_all = found.watched if runs_on else found.given_up
        assert of_all == {each: run(each, failed + 1) for each in every}
        assert ti.longest <= 100
        return ti.questions

    assert questions(30 * 24) < 3 * questions(6)


@pytest.mark.parametrize("lengths", [range(1, 40), [1, 99, 100, 101, 250, 3]])
def test_each_gets_the_run_after_its_own_last_one(lengths: Sequence[int]) -> None:
    every = dict(zip(ids(len(lengths)), lengths, strict=True))
    ti = TaskInstance(
        {run(each, n): "success" for each, last in every.items() for n in range(1, last + 1)}
    )

    found = find_guard_runs(ti, every)

    assert found.missing == {each: run(each, last + 1) for each, last in every.items()}


def test_failed_runs_are_counted_among_many_that_ended_well() -> None:
    (each,) = ids(1)
    runs = {run(each, n): "failed" if n <= 5 else "success" for n in range(1, 300)}

    assert find_guard_runs(TaskInstance(runs), [each]).given_up == {each: run(each, 300)}
    runs[run(each)] = "success"
    assert find_guard_runs(TaskInstance(runs), [each]).missing == {each: run(each, 300)}


def test_nothing_is_asked_where_nothing_runs() -> None:
    ti = TaskInstance({})

    assert find_guard_runs(ti, []).missing == {}
    assert ti.questions == 0
