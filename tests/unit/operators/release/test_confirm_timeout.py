"""How long a wave may take to be confirmed where nobody says."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any

import pytest

from iotda_provider.guards import SequentialFailureTest
from iotda_provider.operators.release.confirm import ConfirmWaveOperator
from iotda_provider.release.manifest import Part

DAY = 86400
PLAN = {"installation": "tests", "waves": [{"cumulative": 10}], "late": 0}
PARTS = [Part(1, 1, "release", 10, "aa")]


@pytest.mark.parametrize(
    ("given", "days"),
    [
        ({}, 7),
        ({"window": "22:00-04:00"}, 7 * 4 + 16),
        ({"window": "sat, sun 00:00-00:00"}, 7 * 3.5 + 16),
        ({"window": "sun 02:00-03:00"}, 366),
        ({"window": "sun 02:00-03:00", "timeout": DAY}, 1),
    ],
)
def test_the_time_in_which_the_window_is_closed_does_not_count(given: Any, days: float) -> None:
    operator = ConfirmWaveOperator(
        task_id="confirm",
        wave=1,
        plan_task_id="plan",
        create_task_id="create",
        rules=SequentialFailureTest(0.02),
        **given,
    )
    created = {"verdict": "created"}
    context: Any = {"ti": SimpleNamespace(xcom_pull=lambda task_ids: created)}
    before = time.time()
    job: Any = operator.begin(context, PLAN, PARTS)
    assert job.timeout == pytest.approx(days * DAY)
    assert before - 0.001 <= job.deadline - job.timeout <= time.time() + 0.001
