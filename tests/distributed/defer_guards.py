"""``python -m tests.distributed.defer_guards``: let guard runs that wait be deferred at once.

Each guard gets what a worker has left behind for one that waits already, but for its own batch task
and run, so that a benchmark of waiting needs no hour of workers before. Run it as a part of a
cluster: it writes to Airflow's database.
"""

from __future__ import annotations

import copy
from typing import Any

GUARD = "guard_one_rollout"


def main() -> None:
    from airflow.models.dagrun import DagRun
    from airflow.models.taskinstance import TaskInstance
    from airflow.models.trigger import Trigger
    from airflow.utils.session import create_session

    with create_session() as session:
        guards = session.query(TaskInstance).filter_by(dag_id=GUARD, task_id="guard")
        example = guards.filter_by(state="deferred").first()
        trigger = session.get(Trigger, example.trigger_id)
        arguments: dict[str, Any] = dict(trigger.kwargs)
        for guard in guards.filter(TaskInstance.state.is_(None)):
            run = session.query(DagRun).filter_by(dag_id=GUARD, run_id=guard.run_id).one()
            mine = copy.deepcopy(arguments)
            mine["plan"]["batch_task_ids"] = [run.conf["batch_task_id"]]
            mine["owner"]["run_id"] = guard.run_id
            made = Trigger(classpath=trigger.classpath, kwargs=mine)
            session.add(made)
            session.flush()
            guard.trigger_id = made.id
            guard.state = "deferred"
            guard.start_date = example.start_date
            guard.hostname = example.hostname
            guard.try_number = example.try_number
            guard.next_method, guard.next_kwargs = example.next_method, example.next_kwargs
            guard.trigger_timeout = example.trigger_timeout
            run.state = "running"
            run.start_date = example.start_date


if __name__ == "__main__":
    main()
