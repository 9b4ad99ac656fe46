"""The last two tasks of a release's DAG: a guard for each batch task that still runs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from airflow.providers.standard.operators.trigger_dagrun import TriggerDagRunOperator

from iotda_provider.airflow_support.guard_runs import GUARD_DAG_ID
from iotda_provider.notifications.from_task import tell_people
from iotda_provider.operators.guard_runs import FindUnfinishedOfReleaseOperator


class Leftovers(NamedTuple):
    """The two tasks, for ``[...] >> leftovers.unfinished``."""

    unfinished: Any
    guard: Any


def guard_what_is_left(
    *,
    create_task_ids: Sequence[str],
    outcome_task_id: str,
    notifiers: Iterable[Any] = (),
    iotda_conn_id: str = "iotda_default",
) -> Leftovers:
    """Make the tasks ``unfinished`` and ``guard_unfinished`` of a DAG that releases in waves.

    They are teardowns, so they also run if somebody marks the run as failed: a batch task of the
    release may still run, and nothing else guards it.

    :param create_task_ids: the tasks that create the release's batch tasks
    :param outcome_task_id: the rollout's ``outcome`` task
    :param notifiers: Airflow's notifiers, which are told if the guard can't be started, or if
        nobody can tell whether one is needed; the event is ``not_guarded``
    :param iotda_conn_id: the connection
    """

    def tell(what: str, task_id: str) -> Callable[[Any], None]:
        def tell_that_nobody_guards(context: Any) -> None:
            tell_people(
                notifiers,
                context,
                "not_guarded",
                f"The release {context['ti'].run_id} is over, {what} See the log of {task_id}, and "
                "clear it.",
                iotda_conn_id=iotda_conn_id,
            )

        return tell_that_nobody_guards

    unfinished = FindUnfinishedOfReleaseOperator(
        task_id="unfinished",
        create_task_id=create_task_ids,
        batch_task_id=f"{{{{ (ti.xcom_pull('{outcome_task_id}') or {{}}).get('batch_task_ids', []) "
        "| tojson }}",
        iotda_conn_id=iotda_conn_id,
        on_failure_callback=tell(
            "and whether a batch task of it still runs can't be found out: then nobody guards it.",
            "unfinished",
        ),
    ).as_teardown()
    guard = (
        TriggerDagRunOperator.partial(
            task_id="guard_unfinished",
            trigger_dag_id=GUARD_DAG_ID,
            skip_when_already_exists=True,
            on_failure_callback=tell(
                f"a batch task of it still runs, and the DAG {GUARD_DAG_ID} could not be started "
                "for it: is it there (dags/rollout_guard.py)?",
                "guard_unfinished",
            ),
        )
        .expand_kwargs(unfinished.output)
        .as_teardown()
    )
    unfinished >> guard
    return Leftovers(unfinished, guard)
