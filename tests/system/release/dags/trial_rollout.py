"""A staged rollout in which every wave has to show that its devices are no worse off."""

from __future__ import annotations

import pendulum
from airflow.providers.common.compat.sdk import DAG

from iotda_provider.guards import SequentialFailureTest
from iotda_provider.operators.release import staged_rollout
from iotda_provider.trials import DeviceTrial

with DAG("trial_rollout", start_date=pendulum.datetime(2026, 1, 1, tz="UTC"), schedule=None):
    staged_rollout(
        devices=[f"device-{n:05}" for n in range(900)],
        task_type="firmwareUpgrade",
        document={"package_ids": ["a1b2c3d4e5f60718293a4b5c"]},
        rehearse_stop=False,
        rules=SequentialFailureTest(0.02),
        waves=["200", "500", "100%"],
        gate=0.1,
        max_waves=3,
        bake_time=900,
        wave_timeout=4000,
        poll_interval=0.05,
        trial=DeviceTrial(required=True, margin=0.15, method="product"),
        deferrable=True,
    )
