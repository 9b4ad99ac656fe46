"""A staged rollout that asks a person where the numbers can't tell."""

from __future__ import annotations

import pendulum
from airflow.providers.common.compat.sdk import DAG

from iotda_provider.guards import SequentialFailureTest
from iotda_provider.operators.release import staged_rollout

with DAG(
    "asking_rollout",
    start_date=pendulum.datetime(2026, 1, 1, tz="UTC"),
    schedule=None,
    params={"devices": [f"device-{n:05}" for n in range(100)]},
):
    staged_rollout(
        rehearse_stop=False,
        devices="{{ params.devices }}",
        task_type="firmwareUpgrade",
        document={"package_ids": ["32822e5744a45ede319d2c50"]},
        rules=SequentialFailureTest(0.02),
        waves=["50%", "100%"],
        gate=0.1,
        max_waves=3,
        wave_timeout=200,
        poll_interval=0.02,
        approval="when unproven",
    )
