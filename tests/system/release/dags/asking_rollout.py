"""A staged rollout that asks a person where the numbers can't tell."""

from __future__ import annotations

import pendulum
from airflow.providers.common.compat.sdk import DAG

from iotda_provider.guards import SequentialFailureTest
from iotda_provider.operators.release import staged_rollout

with DAG("asking_rollout", start_date=pendulum.datetime(2026, 1, 1, tz="UTC"), schedule=None):
    staged_rollout(
        rehearse_stop=False,
        batch_task_id="5c8fb9d0e2f14a5b9c0d1e2f",
        rules=SequentialFailureTest(0.02),
        waves=["50%", "100%"],
        gate=0.1,
        max_waves=3,
        wave_timeout=1,
        poll_interval=0.1,
        approval="when unproven",
    )
