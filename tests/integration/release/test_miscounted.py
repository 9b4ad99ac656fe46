"""A release on a platform whose counts are one device off, always: nothing is blind for good."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from iotda_provider.models import TaskProgress
from iotda_provider.operators.release.at_rest import WaitUntilAtRestOperator

VERSION = "2.0.0"
RELEASED: dict[str, Any] = {
    "verdict": "released",
    "wave": 2,
    "waves": 2,
    "approved_by_person": [],
}


@pytest.fixture(params=[1, -1], ids=["one too many", "one too few"])
def off(request: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every batch task is shown with a total that its parts do not sum to."""
    read = TaskProgress.from_wire.__func__  # type: ignore[attr-defined]

    def shown(cls: type[TaskProgress], data: Mapping[str, Any] | None) -> TaskProgress:
        progress: TaskProgress = read(cls, data)
        return replace(progress, total=progress.total + request.param)

    monkeypatch.setattr(TaskProgress, "from_wire", classmethod(shown))


@pytest.mark.usefixtures("off")
def test_a_good_one_passes_its_gates_comes_to_rest_and_is_proven(rollout: Any) -> None:
    run = rollout(success_after=100)
    run.plan("50%, 100%")
    for wave in (1, 2):
        assert run.confirm(wave)["verdict"] == "confirmed"
        watched = run.watch(wave)
        assert (watched["verdict"], watched["started_elsewhere"]) == ("passed", 0)
    rest = run.run(
        WaitUntilAtRestOperator(
            task_id="rest",
            batch_task_id=run.task_ids,
            grace=0,
            poll_interval=0.05,
            timeout=60,
            deferrable=run.deferrable,
        )
    )
    assert rest["at_rest"]
    assert run.reconcile(RELEASED, version=VERSION)["proven"]


@pytest.mark.usefixtures("off")
def test_a_bad_one_is_stopped(rollout: Any) -> None:
    run = rollout(failure_rate=0.8, success_after=6000)
    run.plan("50%, 100%")
    run.confirm(1)
    assert run.watch(1)["verdict"] == "breached"
    assert run.stops == 1
