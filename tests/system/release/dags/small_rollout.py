"""A staged rollout of a batch task that exists, with tries to spare."""

from __future__ import annotations

from datetime import timedelta

import pendulum
from airflow.providers.common.compat.sdk import DAG

from iotda_provider.guards import SequentialFailureTest
from iotda_provider.operators.release import staged_rollout

with DAG("small_rollout", start_date=pendulum.datetime(2026, 1, 1, tz="UTC"), schedule=None):
    staged_rollout(
        rehearse_stop=False,
        batch_task_id="5c8fb9d0e2f14a5b9c0d1e2f",
        rules=SequentialFailureTest(0.02),
        waves=["10%", "25%", "50%", "100%"],
        gate=0.1,
        max_waves=4,
        chunk=15,
        wave_timeout=3600,
        poll_interval=0.1,
        deferrable=False,
        retries=4,
        retry_delay=timedelta(0),
    )
