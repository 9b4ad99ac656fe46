"""What is waited for, whether it has come, and when trouble at the API is too much."""

from __future__ import annotations

from datetime import timedelta
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iotda_provider.exceptions import (
    BatchTaskFailedError,
    IoTDAApiError,
    IoTDAAuthError,
    IoTDAConfigError,
    IoTDAError,
    IoTDANotFoundError,
    IoTDAServerError,
    IoTDAThrottledError,
    IoTDATransportError,
)
from iotda_provider.models import BatchTask, TaskStatus
from iotda_provider.waiting.deadline import Deadline
from iotda_provider.waiting.outage import Outage, is_transient
from iotda_provider.waiting.task_wait import ENDED, Judgement, TaskWait, task_statuses

TROUBLE = [IoTDATransportError("gone"), IoTDAServerError(503), IoTDAThrottledError(429)]
TROUBLE += [IoTDAApiError(200, "IOTDA.000001", "internal")]
REFUSALS = [IoTDAAuthError(401), IoTDANotFoundError(404), IoTDAApiError(400), IoTDAConfigError("x")]
REFUSALS += [IoTDAAuthError(200, "APIGW.0301")]


def task(status: str) -> BatchTask:
    return BatchTask.from_wire({"task_id": "ab", "status": status})


@pytest.mark.parametrize("status", [str(status) for status in TaskStatus] + ["Paused"])
def test_a_wait_for_the_end_is_over_when_the_task_has_ended(status):
    over = status in {"Success", "Fail", "PartialSuccess", "Stopped"}
    assert TaskWait("ab").is_over(task(status)) is over


def test_failures_are_looked_at_first():
    wait = TaskWait("ab", ENDED, failure_statuses=("Fail",))
    assert wait.judge(task("Fail")) is Judgement.FAILED
    with pytest.raises(BatchTaskFailedError, match=r"^Batch task ab is Fail"):
        wait.is_over(task("Fail"))


@given(
    status=st.sampled_from([*map(str, TaskStatus), "Paused"]),
    targets=st.sets(st.sampled_from([*map(str, TaskStatus)]), min_size=1),
    failures=st.sets(st.sampled_from([*map(str, TaskStatus)])),
)
def test_no_wait_goes_on_for_a_task_that_will_not_change_any_more(status, targets, failures):
    judged = TaskWait("ab", tuple(targets), tuple(failures)).judge(task(status))

    if TaskStatus.from_wire(status).is_terminal:
        assert judged is not Judgement.WAIT
    assert (judged is Judgement.FAILED) == (status in failures)
    assert (judged is Judgement.REACHED) == (status in targets - failures)


def test_a_task_that_ended_otherwise_says_what_was_waited_for():
    wait = TaskWait("ab", ("Processing", "Stopping"))
    with pytest.raises(BatchTaskFailedError, match=r"ended as Success .* Processing or Stopping"):
        wait.is_over(task("Success"))


def test_statuses_are_taken_as_words_or_members_and_one_may_stand_alone():
    assert task_statuses("Stopped", "x") == ("Stopped",)
    assert task_statuses([TaskStatus.WAITING, "Fail"], "x") == ("Waitting", "Fail")
    with pytest.raises(ValueError, match=r"^failure_statuses must hold .*Waitting.*got \['Wait"):
        task_statuses(["Waiting"], "failure_statuses")


@pytest.mark.parametrize("error", TROUBLE)
def test_trouble_may_pass_by_itself(error):
    assert is_transient(error)


@pytest.mark.parametrize("error", REFUSALS)
def test_a_refusal_does_not_pass_by_itself(error):
    with pytest.raises(type(error)):
        Outage(900).tolerate(error, 0)


@given(
    moments=st.lists(st.floats(0, 600), min_size=1, max_size=200).map(sorted),
    error=st.sampled_from(TROUBLE),
)
def test_trouble_is_said_once_a_minute_at_most_and_outlived_up_to_max_outage(moments, error):
    outage = Outage(600)

    said = [moment for moment in moments if outage.tolerate(error, moment)]

    assert said[0] == moments[0]
    assert all(later - earlier >= 60 for earlier, later in pairwise(said))


def test_trouble_that_lasts_ends_in_an_error_with_its_length_and_cause():
    outage = Outage(100)
    assert "giving up after 100 s more" in str(outage.tolerate(IoTDATransportError("cut off"), 5))
    with pytest.raises(IoTDATransportError, match=r"for 101 s, .*\(100 s\)\. Last: cut") as error:
        outage.tolerate(IoTDATransportError("cut off"), 106)
    assert isinstance(error.value.__cause__, IoTDAError)


def test_a_good_answer_starts_the_count_anew_and_is_said_only_after_trouble():
    outage = Outage(100)
    assert outage.answered(0) is None
    outage.tolerate(IoTDAServerError(503), 10)
    assert outage.answered(50) == "IoTDA answers again, after 40 s."
    assert outage.answered(51) is None
    assert outage.tolerate(IoTDAServerError(503), 200), "no error: the count has begun anew"


@pytest.mark.parametrize(
    ("execution_timeout", "deadline"),
    [
        (None, Deadline(160, "timeout")),
        (timedelta(seconds=55), Deadline(145, "execution_timeout")),
        (timedelta(seconds=300), Deadline(160, "timeout")),
    ],
)
def test_the_earlier_limit_counts(execution_timeout: Any, deadline: Deadline):
    assert Deadline.of(60, execution_timeout, began=90, now=100) == deadline


@given(at=st.floats(0, 1e6), now=st.floats(0, 1e6), poll=st.floats(0.1, 3600))
def test_airflows_own_limit_is_later_than_the_triggers(at, now, poll):
    assert Deadline(at).for_airflow(poll, now=now) > timedelta(seconds=max(0, at - now) + poll)
