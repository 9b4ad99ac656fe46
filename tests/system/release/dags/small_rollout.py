"""A staged rollout with tries to spare."""

from __future__ import annotations

from datetime import timedelta

import pendulum
from airflow.providers.common.compat.sdk import DAG

from iotda_provider.guards import SequentialFailureTest
from iotda_provider.operators.release import staged_rollout

with DAG(
    "small_rollout",
    start_date=pendulum.datetime(2026, 1, 1, tz="UTC"),
    schedule=None,
    params={"devices": []},
):
    staged_rollout(
        rehearse_stop=False,
        devices="{{ params.devices }}",
        task_type="firmwareUpgrade",
        document={"package_ids": ["32822e5744a45ede319d2c50"]},
        rules=SequentialFailureTest(0.02),
        waves=["10%", "25%", "50%", "100%"],
        gate=0.1,
        max_waves=4,
        chunk=30,
        wave_timeout=3600,
        poll_interval=0.02,
        deferrable=False,
        retries=4,
        retry_delay=timedelta(0),
    )
