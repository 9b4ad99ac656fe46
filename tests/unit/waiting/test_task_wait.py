"""Whether a batch task has reached the status that is waited for."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iotda_provider.exceptions import (
    BatchTaskFailedError,
)
from iotda_provider.models import BatchTask, TaskStatus
from iotda_provider.waiting.task_wait import ENDED, Judgement, TaskWait, task_statuses


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
