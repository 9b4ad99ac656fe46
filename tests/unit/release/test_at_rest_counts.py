"""A batch task without counts does not say that no device is installing."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any, cast

import pytest

from iotda_provider.models import BatchTask
from iotda_provider.release.at_rest import RestJob, UntilAtRest
from iotda_provider.release.release_io import ReleaseIO
from iotda_provider.transport.runner import run_blocking

TASK = "5c8f9e2d7a6b4c3d1e0f9a8b"


def shown(status: str, counts: Any) -> BatchTask:
    wire = {"task_id": TASK, "task_type": "firmwareUpgrade", "status": status}
    return BatchTask.from_wire({**wire, "task_progress": counts})


class Platform:
    """Answers from a list; the last answer is repeated."""

    def __init__(self, *answers: BatchTask) -> None:
        self.answers, self.now, self.looks = list(answers), 0.0, 0

    async def read_tasks(self, batch_task_ids: Sequence[str]) -> list[BatchTask]:
        self.looks += 1
        return [self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]]

    async def sleep(self, seconds: float) -> None:
        self.now += max(1.0, seconds)


@pytest.mark.parametrize("status", ["Processing", "Success"])
@pytest.mark.parametrize("counts", [None, {}])
def test_it_is_not_at_rest_until_it_shows_counts(status: str, counts: Any) -> None:
    end = shown("Success", {"total": 5, "success": 5})
    platform = Platform(shown(status, counts), shown(status, counts), end)
    job = RestJob(
        batch_task_ids=(TASK,), grace=0.0, poll_interval=10.0, max_outage=900.0, deadline=1000.0
    )
    waiting = UntilAtRest(job, logging.getLogger("rest"), clock=lambda: platform.now)
    found = run_blocking(waiting.run(cast("ReleaseIO", platform)))
    assert platform.looks == 3
    assert (found["at_rest"], found["progress"]["success"]) == (True, 5)
