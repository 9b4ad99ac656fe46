"""The same guard, driven by events (Airflow 3): a DAG that runs when a running rollout breaks.

An asset's watcher looks at all running upgrades in the triggerer, one reading for all of them,
however many watchers there are. When devices of a rollout fail more often than is tolerated it
fires, and this DAG runs: it stops the rollout and collects the devices that failed. Nothing runs
in the meantime. Between the breach and the stop lies what Airflow takes to start a run; where that
is too long, use `rollout_guard`, which stops from the triggerer itself.
"""

from __future__ import annotations

import logging
from datetime import timedelta
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
DEFERRABLE = True  # wait in the triggerer until a task has come to rest, and hold no worker
# Five minutes without the platform, a broker or workers lose no task.
OUTLIVE_BLIPS = {"retries": 10, "retry_delay": timedelta(seconds=30)}


def tell_people(title: str, text: str) -> None:
    """Put your own chat, pager or ticket system here."""
    log.warning("%s\n%s", title, text)


def breaches_of(events_by_asset: Any) -> dict[str, str]:
    """What is said of each broken rollout; one run may be about several, or about one twice."""
    payloads = [
        event.extra["payload"] for events in (events_by_asset or {}).values() for event in events
    ]
    return {payload["batch_task_id"]: payload["summary"] for payload in payloads}


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
        default_args=OUTLIVE_BLIPS,
        tags=["iotda", "guard"],
        doc_md=__doc__,
    )
    def rollout_guard_event() -> None:
        # Beside the stop: neither waits for the other.
        @task
        def tell(triggering_asset_events: Any = None) -> None:
            for batch_task_id, summary in breaches_of(triggering_asset_events).items():
                tell_people(f"Rollout {batch_task_id} is bad, and gets stopped", summary)

        @task
        def broken_rollouts(triggering_asset_events: Any = None) -> list[str]:
            return list(breaches_of(triggering_asset_events))

        tell()
        rollouts = broken_rollouts()
        # Left out of what is mapped over, targets mean the whole task.
        stop = StopBatchTaskOperator.partial(
            task_id="stop", deferrable=DEFERRABLE, iotda_conn_id=CONNECTION
        ).expand(batch_task_id=rollouts)
        # Also where a stop has failed.
        collect = CollectFailedSubtasksOperator.partial(
            task_id="collect_failures", trigger_rule="all_done", iotda_conn_id=CONNECTION
        ).expand(batch_task_id=rollouts)

        @task(trigger_rule="all_done")
        def report(stopped: Any, collected: Any, rollouts: list[str] | None) -> int:
            """What is to be done about it is up to you: a ticket, a message, a branch."""
            stopped, collected = list(stopped or ()), list(collected or ())
            rollouts = rollouts or []
            failures = [row for some in collected for row in some]
            lines = [f"{len(failures)} device(s) failed in all."]
            if len(stopped) < len(rollouts):
                lines.append(f"NOT STOPPED: {len(rollouts) - len(stopped)}. See the logs of stop.")
            if len(collected) < len(rollouts):
                unknown = len(rollouts) - len(collected)
                lines.append(f"Of {unknown} of them it could not be found out which devices.")
            if rollouts:
                tell_people(f"{len(rollouts)} bad rollout(s)", " ".join(lines))
            return len(failures)

        stop >> collect
        report(stop.output, collect.output, rollouts)

    rollout_guard_event()
