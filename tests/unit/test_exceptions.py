"""Errors: caught by type, carrying the facts, printed in one line that helps."""

from __future__ import annotations

import pickle

import pytest
from airflow.providers.common.compat.sdk import AirflowException, AirflowFailException

from iotda_provider import exceptions
from iotda_provider.exceptions import (
    IoTDAApiError,
    IoTDAAuthError,
    IoTDAConfigError,
    IoTDAError,
    IoTDAThrottledError,
    IoTDATransportError,
    TargetFailuresError,
    TaskNotStoppableError,
)
from iotda_provider.models import TargetResult, TaskStatus

FAMILY = [
    kind
    for kind in vars(exceptions).values()
    if isinstance(kind, type) and issubclass(kind, IoTDAError)
]


@pytest.mark.parametrize("kind", FAMILY)
def test_everything_is_an_airflow_exception_of_one_family(kind):
    assert issubclass(kind, AirflowException)


def test_the_family_is_the_documented_one():
    assert {kind.__name__ for kind in FAMILY} >= {
        "IoTDAError",
        "IoTDAApiError",
        "IoTDAAuthError",
        "IoTDANotFoundError",
        "IoTDAThrottledError",
        "IoTDAServerError",
        "IoTDATransportError",
        "IoTDAConfigError",
        "TaskNotStoppableError",
        "BatchTaskFailedError",
        "BatchTaskTimeoutError",
        "TargetFailuresError",
    }
    assert issubclass(IoTDAAuthError, IoTDAApiError)
    assert not issubclass(IoTDATransportError, IoTDAApiError)


def test_an_api_error_says_what_was_done_what_came_and_what_to_do():
    error = IoTDAAuthError(
        403, "APIGW.0302", "not allowed", "req-7", action="stop batch task abc", hint="Ask IAM"
    )

    assert str(error) == (
        "Could not stop batch task abc: HTTP 403: APIGW.0302 not allowed. Ask IAM "
        "(request id req-7)"
    )
    assert (error.status_code, error.error_code, error.request_id) == (403, "APIGW.0302", "req-7")


def test_an_api_error_with_nothing_but_a_status_is_still_a_sentence():
    assert str(IoTDAApiError(502)) == "HTTP 502"


@pytest.mark.parametrize(
    "error",
    [
        IoTDAThrottledError(429, "APIGW.0308", "slow", "req", action="read", retry_after=3.0),
        IoTDATransportError("cut off", sent=False),
        IoTDAConfigError("no project id"),
        TaskNotStoppableError("has ended", TaskStatus.SUCCESS),
        TargetFailuresError("1 of 2", [TargetResult("a", False, "X")]),
    ],
)
def test_an_error_survives_a_process_boundary_whole(error):
    again = pickle.loads(pickle.dumps(error))

    assert type(again) is type(error)
    assert str(again) == str(error)
    assert vars(again) == vars(error)


def test_failed_targets_are_not_retried_by_airflow():
    assert issubclass(TargetFailuresError, AirflowFailException)
    assert TargetFailuresError("x", [TargetResult("a", False)]).failed[0].target == "a"
