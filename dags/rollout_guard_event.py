"""The same guard, driven by events (Airflow 3): a DAG that runs when a running rollout breaks.

An asset's watcher looks at all running upgrades in the triggerer, one reading for all of them,
however many watchers there are. When devices of a rollout fail more often than is tolerated it
fires, and this DAG runs: it stops the rollout and collects the devices that failed. Nothing runs
in the meantime. Between the breach and the stop lies what Airflow takes to start a run; where that
is too long, use `rollout_guard`, which stops from the triggerer itself.
"""

from __future__ import annotations

import logging
from typing import Any

import pendulum
from airflow.providers.common.compat.sdk import dag, task

from iotda_provider.guards import SequentialFailureTest
from iotda_provider.operators.batch_task import (
    CollectFailedSubtasksOperator,
    StopBatchTaskOperator,
)

try:
    from airflow.sdk import Asset, AssetWatcher
except ImportError:  # Airflow 2 has no watchers, and this file no DAG.
    AssetWatcher = None  # type: ignore[assignment, misc]

log = logging.getLogger(__name__)

CONNECTION = "iotda_default"

if AssetWatcher is not None:
    from iotda_provider.triggers.rollout_breach import RolloutBreachTrigger

    breaches = Asset(
        "iotda_rollout_breach",
        watchers=[
            AssetWatcher(
                name="iotda_rollouts",
                trigger=RolloutBreachTrigger(
                    rules=SequentialFailureTest(tolerated_rate=0.02), iotda_conn_id=CONNECTION
                ),
            )
        ],
    )

    @dag(
        dag_id="rollout_guard_event",
        description="Stop a rollout when an asset's watcher has seen it break a rule",
        schedule=[breaches],
        start_date=pendulum.datetime(2026, 1, 1, tz="UTC"),
        catchup=False,
        tags=["iotda", "guard"],
        doc_md=__doc__,
    )
    def rollout_guard_event() -> None:
        @task
        def broken_rollouts(triggering_asset_events: Any = None) -> list[str]:
            """The rollouts to stop: one run may be about several breaches, or one twice."""
            found: dict[str, str] = {}
            for events in (triggering_asset_events or {}).values():
                for event in events:
                    payload = event.extra["payload"]
                    found[payload["batch_task_id"]] = payload["summary"]
            for summary in found.values():
                log.warning("%s", summary)
            return list(found)

        rollouts = broken_rollouts()
        # Left out of what is mapped over, targets mean the whole task.
        stop = StopBatchTaskOperator.partial(task_id="stop", iotda_conn_id=CONNECTION).expand(
            batch_task_id=rollouts
        )
        collect = CollectFailedSubtasksOperator.partial(
            task_id="collect_failures", iotda_conn_id=CONNECTION
        ).expand(batch_task_id=rollouts)

        @task
        def report(rows: Any) -> int:
            """What is to be done about it is up to you: a ticket, a message, a branch."""
            failures = [row for some in rows for row in some]
            log.warning("%d device(s) failed in all.", len(failures))
            return len(failures)

        stop >> collect
        report(collect.output)

    rollout_guard_event()
