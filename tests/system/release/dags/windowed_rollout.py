"""A staged rollout whose maintenance window is open for the first wave alone."""

from __future__ import annotations

from datetime import timedelta

import pendulum
from airflow.providers.common.compat.sdk import DAG

from iotda_provider.guards import SequentialFailureTest
from iotda_provider.operators.release import staged_rollout

with DAG(
    "windowed_rollout",
    start_date=pendulum.datetime(2026, 1, 1, tz="UTC"),
    schedule=None,
    params={"closed": "22:00-05:00", "devices": [f"device-{n:05}" for n in range(2000)]},
):
    staged_rollout(
        rehearse_stop=False,
        devices="{{ params.devices }}",
        task_type="firmwareUpgrade",
        document={"package_ids": ["32822e5744a45ede319d2c50"]},
        rules=SequentialFailureTest(0.02),
        waves=["50%", "100%"],
        gate=0.12,
        max_waves=2,
        window="{{ '' if '_1_' in ti.task_id else params.closed }}",
        poll_interval=0.02,
        deferrable=True,
        # Whatever sleeps until the window opens is found out sooner than it opens.
        execution_timeout=timedelta(minutes=5),
    )
