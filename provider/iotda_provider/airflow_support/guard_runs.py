"""Guard runs (DAG runs that guard one rollout): their ids, and which of them are missing."""

from __future__ import annotations

import hashlib
import hmac
from base64 import b32encode
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from iotda_provider.airflow_support.shared_text import made_once
from iotda_provider.airflow_support.task_notes import PREFIX

#: The DAG that guards one rollout.
GUARD_DAG_ID = "guard_one_rollout"
#: The task in it that watches.
GUARD_TASK_ID = "guard"
#: The Variable with the secret that run ids are made with.
VARIABLE = f"{PREFIX}guard_run_secret"
_DESCRIPTION = (
    "Made by the IoTDA provider. The ids of guard runs are made with it, so that a run "
    "triggered by hand is never taken for a guard. If it is lost, all rollouts get new guards."
)
_ENDED = ("success", "failed")
_WATCHING = ("running", "deferred", "success")
# Ids in one query: they become a URL.
_MOST_IDS = 100


@dataclass(frozen=True)
class GuardRuns:
    """The guard runs of some rollouts.

    :param missing: for each rollout without a guard run, the id of the run to start
    :param unwatched: for each rollout whose guard run does not watch yet, the run's id
    :param watched: for each rollout that a guard watches, the run's id
    :param given_up: for each rollout that has no guard run now, and had too many that failed, the
        next run's id
    :param replaced: for each rollout in ``missing`` whose guard run has ended, the next run's id
    """

    missing: Mapping[str, str] = field(default_factory=dict)
    unwatched: Mapping[str, str] = field(default_factory=dict)
    watched: Mapping[str, str] = field(default_factory=dict)
    given_up: Mapping[str, str] = field(default_factory=dict)
    replaced: Mapping[str, str] = field(default_factory=dict)


def guard_run_secret() -> str:
    """The secret that guard runs' ids are made with; created if it does not exist.

    :raises IoTDAConfigError: it can't be created
    """
    return made_once(VARIABLE, _DESCRIPTION)


def guard_run_id(secret: str, batch_task_id: str, number: int = 1) -> str:
    """The id of a rollout's guard run: ``guard__<batch task>__<20 characters>``, then ``...__2``.

    It can't be guessed without the secret: a run that a person starts by hand, perhaps with a rate
    that tolerates anything, is never taken for the guard.

    :param number: 1: the first run; 2: the run that replaces it after its end
    """
    text = f"{batch_task_id}/{number}".encode()
    digest = hmac.new(secret.encode(), text, hashlib.sha256).digest()
    mark = b32encode(digest).decode()[:20].lower()
    return f"guard__{batch_task_id}__{mark}{f'__{number}' if number > 1 else ''}"


def find_guard_runs(
    ti: Any,
    batch_task_ids: Collection[str],
    *,
    dag_id: str = GUARD_DAG_ID,
    most_failed: int = 5,
) -> GuardRuns:
    """Which of some rollouts have a guard run that has not ended.

    If all have one, it takes three queries for a hundred rollouts. The number of ended runs hardly
    matters.

    :param ti: the running task instance, which sends the queries
    :param dag_id: the DAG that guards one rollout
    :param most_failed: a rollout with so many failed guard runs, and no other, is given up
    """
    secret = guard_run_secret()
    ask = _Queries(ti, dag_id)
    runs = {each: guard_run_id(secret, each) for each in batch_task_ids}
    ended = ask.which(runs.values(), _ENDED)
    # A run is started after the end of the one before it. So the last ended one is found by
    # doubling and halving its number, in few queries however many there are.
    last_ended = {each: 1 for each, run_id in runs.items() if run_id in ended}
    not_ended: dict[str, int] = {}
    while numbers := {
        each: (last + not_ended[each]) // 2 if each in not_ended else 2 * last
        for each, last in last_ended.items()
        if not_ended.get(each) != last + 1
    }:
        asked = {each: guard_run_id(secret, each, number) for each, number in numbers.items()}
        ended = ask.which(asked.values(), _ENDED)
        for each, number in numbers.items():
            (last_ended if asked[each] in ended else not_ended)[each] = number
    runs |= {each: guard_run_id(secret, each, last + 1) for each, last in last_ended.items()}
    there = ask.which(runs.values())
    given_up = {}
    for each in [each for each in last_ended if runs[each] not in there]:
        newest_first = range(last_ended[each], 0, -1)
        ids = [guard_run_id(secret, each, number) for number in newest_first]
        if ask.have_failed(ids, most_failed):
            given_up[each] = runs.pop(each)
    watched = ask.watching(there)
    missing = {each: run_id for each, run_id in runs.items() if run_id not in there}
    return GuardRuns(
        missing=missing,
        unwatched={each: run_id for each, run_id in runs.items() if run_id in there - watched},
        watched={each: run_id for each, run_id in runs.items() if run_id in watched},
        given_up=given_up,
        replaced={each: run_id for each, run_id in missing.items() if each in last_ended},
    )


class _Queries:
    """Queries Airflow about a DAG's runs, as seldom as possible."""

    def __init__(self, ti: Any, dag_id: str) -> None:
        self._ti = ti
        self._dag_id = dag_id

    def which(self, run_ids: Collection[str], states: Sequence[str] | None = None) -> set[str]:
        """The runs that exist (in these states), found by counting and halving."""
        return self._which(run_ids, lambda some: self._count_runs(some, states))

    def have_failed(self, run_ids: Sequence[str], number: int) -> bool:
        """Whether so many of the runs have failed; the first ones are asked about first."""
        failed = 0
        for some in _blocks(run_ids):
            failed += self._count_runs(some, ("failed",))
            if failed >= number:
                return True
        return False

    def watching(self, run_ids: Collection[str]) -> set[str]:
        """The runs whose guard watches, or has finished."""
        return self._which(run_ids, self._count_guards)

    def _which(self, run_ids: Collection[str], count: Any) -> set[str]:
        found: set[str] = set()
        left = [list(some) for some in _blocks(sorted(run_ids))]
        while left:
            some = left.pop()
            number = count(some)
            if number >= len(some):
                found.update(some)
            elif number:
                half = len(some) // 2
                left += [some[:half], some[half:]]
        return found

    def _count_runs(self, run_ids: Sequence[str], states: Sequence[str] | None) -> int:
        ids, wanted = list(run_ids), list(states) if states else None
        if hasattr(self._ti, "get_dr_count"):
            return int(self._ti.get_dr_count(dag_id=self._dag_id, run_ids=ids, states=wanted))
        from airflow.models.dagrun import DagRun  # Airflow 2: a task can reach the database.

        return _rows(DagRun, ids, wanted, DagRun.dag_id == self._dag_id)

    def _count_guards(self, run_ids: Sequence[str]) -> int:
        ids, states = list(run_ids), list(_WATCHING)
        if hasattr(self._ti, "get_ti_count"):
            return int(
                self._ti.get_ti_count(
                    dag_id=self._dag_id, task_ids=[GUARD_TASK_ID], run_ids=ids, states=states
                )
            )
        from airflow.models.taskinstance import TaskInstance

        return _rows(
            TaskInstance,
            ids,
            states,
            TaskInstance.dag_id == self._dag_id,
            TaskInstance.task_id == GUARD_TASK_ID,
        )


def _rows(model: Any, run_ids: Sequence[str], states: Sequence[str] | None, *more: Any) -> int:
    """The number of rows for some runs in Airflow 2's database."""
    from airflow.utils.session import create_session

    wanted = [model.run_id.in_(run_ids), *more]
    if states:
        wanted.append(model.state.in_(states))
    with create_session() as session:
        return int(session.query(model).filter(*wanted).count())


def _blocks(run_ids: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(run_ids), _MOST_IDS):
        yield run_ids[start : start + _MOST_IDS]
