"""A resumed task raises the same error as one that was not deferred."""

from __future__ import annotations

import json

import pytest

from iotda_provider.airflow_support.trigger_events import error_from_json, error_to_json
from iotda_provider.exceptions import (
    BatchTaskFailedError,
    IoTDAApiError,
    IoTDAError,
    IoTDATransportError,
    TaskNotStoppableError,
)
from iotda_provider.models import BatchTask, TaskProgress, TaskStatus

TASK = BatchTask("5c8fb0d3", TaskStatus.FAIL, progress=TaskProgress(total=2, fail=2))
ERRORS = [
    IoTDATransportError("it was not sent", sent=False),
    IoTDATransportError("the connection broke"),
    TaskNotStoppableError("it has ended", TaskStatus.SUCCESS),
    TaskNotStoppableError("it is odd", TaskStatus.from_wire("Paused")),
    TaskNotStoppableError("it is gone"),
    BatchTaskFailedError("it failed", TASK),
    BatchTaskFailedError("it failed"),
    IoTDAApiError(400, "IOTDA.000006", "bad", "req-7", action="stop it", retry_after=3.0),
]


@pytest.mark.parametrize("error", ERRORS, ids=repr)
def test_type_text_and_facts_come_back(error):
    back = error_from_json(json.loads(json.dumps(error_to_json(error))))

    assert type(back) is type(error)
    assert str(back) == str(error)
    assert vars(back) == vars(error)


def test_where_nobody_says_that_it_was_not_sent_it_may_have_been():
    back = error_from_json({"type": "IoTDATransportError", "message": "the connection broke"})
    assert back.sent is True


@pytest.mark.parametrize(
    "facts", ["text", {"status": 5}, {"task": {"batch_task_id": "5c8f"}}, {"status_code": "400"}]
)
@pytest.mark.parametrize("kind", ["TaskNotStoppableError", "BatchTaskFailedError", "IoTDAApiError"])
def test_facts_that_make_no_sense_still_leave_an_error(kind, facts):
    back = error_from_json({"type": kind, "message": "it is so", "facts": facts})
    assert isinstance(back, IoTDAError)
    assert str(back) == "it is so"
