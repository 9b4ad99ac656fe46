"""A guard whose worker hangs after a minute, as a machine that swaps: for `make ui`.

The page says that there is no news, while Airflow says that the task is running.
"""

from __future__ import annotations

import os
import signal
import threading
from datetime import timedelta
from typing import Any

import pendulum
from airflow.providers.common.compat.sdk import DAG

from iotda_provider.guards import SequentialFailureTest
from iotda_provider.sensors.batch_task import RolloutGuardSensor

SECONDS = 45.0


def hang_soon(context: Any) -> None:
    timer = threading.Timer(SECONDS, os.kill, (os.getpid(), signal.SIGSTOP))
    timer.daemon = True
    timer.start()


with DAG(
    "guard_on_a_hung_worker",
    schedule=None,
    start_date=pendulum.datetime(2026, 1, 1, tz="UTC"),
    default_args={"retries": 10, "retry_delay": timedelta(seconds=5)},
    tags=["iotda", "demo"],
    params={"batch_task_id": ""},
):
    RolloutGuardSensor(
        task_id="guard",
        batch_task_id="{{ params.batch_task_id }}",
        rules=[SequentialFailureTest(0.02)],
        stop_on_breach=True,
        poke_interval=5,
        deferrable=False,
        on_execute_callback=hang_soon,
    )
