"""What the platform says, read strictly where it matters and kindly where it may grow."""

from __future__ import annotations

import json
import pickle
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from iotda_provider.models import (
    BatchTask,
    Subtask,
    SubtaskStatus,
    TargetResult,
    TargetResults,
    TaskProgress,
    TaskStatus,
    TaskType,
)

TASK_ID = "5c8f9e2d7a6b4c3d1e0f9a8b"
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=5,
)
COUNTS = {"total": 10, "processing": 1, "success": 2, "fail": 3, "waitting": 1}
COUNTS |= {"fail_wait_retry": 1, "stopped": 1, "removed": 1}


def test_statuses_know_what_they_mean():
    ended = {"Success", "Fail", "PartialSuccess", "Stopped"}
    assert {str(status) for status in TaskStatus if status.is_terminal} == ended
    assert {str(status) for status in TaskStatus if status.is_completed} == ended - {"Stopped"}
    assert {str(status) for status in TaskStatus if status.is_stop} == {"Stopped", "Stopping"}
    stoppable = {"Processing", "Waitting", "FailWaitRetry"}
    assert {str(status) for status in SubtaskStatus if status.is_stoppable} == stoppable
    assert not any(status.is_stoppable and status.is_terminal for status in SubtaskStatus)


def test_only_firmware_and_software_upgrades_are_stopped_and_module_upgrades_confirmed_too():
    upgrades = {"softwareUpgrade", "firmwareUpgrade"}
    assert {str(kind) for kind in TaskType if kind.is_stoppable} == upgrades
    assert {str(kind) for kind in TaskType if kind.is_confirmable} == upgrades | {"moduleUpgrade"}


@pytest.mark.parametrize("word", [*TaskStatus, *SubtaskStatus, *TaskType])
def test_words_keep_their_spelling_on_the_wire(word):
    assert {json.loads(json.dumps(word)), word.value, f"{word}"} == {str(word)}
    assert type(word)(str(word)) is word
    assert {str(word)} == {word}


@given(word=st.text(max_size=200))
def test_a_status_added_later_means_nothing_and_survives_a_process_boundary(word):
    status = TaskStatus.from_wire(f"new {word}")

    assert not any((status.is_terminal, status.is_completed, status.is_stop))
    assert len(str(status).splitlines()) == 1
    again = pickle.loads(pickle.dumps(status))
    assert (again, type(again), again.name) == (status, TaskStatus, "UNKNOWN")


@pytest.mark.parametrize("value", [7, ["Success"], {"a": 1}, True, 1.5])
def test_a_status_that_is_no_text_is_refused(value):
    with pytest.raises(ValueError, match="TaskStatus is no text"):
        TaskStatus.from_wire(value)


def test_a_word_of_the_users_is_refused_where_it_is_unknown():
    with pytest.raises(ValueError):
        TaskStatus("Waiting")


def test_progress_reads_every_count_and_derives_the_rest():
    progress = TaskProgress.from_wire(COUNTS)

    assert progress.to_dict() == {
        "total": 10,
        "processing": 1,
        "success": 2,
        "fail": 3,
        "waiting": 1,
        "fail_wait_retry": 1,
        "stopped": 1,
        "removed": 1,
        "started": 7,
        "finished": 5,
    }
    assert progress.adds_up
    assert str(progress) == (
        "2 succeeded, 3 failed, 1 running, 1 waiting to retry, 1 waiting, 1 stopped, 1 removed "
        "of 10"
    )


@pytest.mark.parametrize("nothing", [None, {}, {"total": None}])
def test_counts_left_out_are_zero(nothing):
    assert TaskProgress.from_wire(nothing) == TaskProgress()


@pytest.mark.parametrize("value", [-1, "-1", 1.5, True, "many", [1], {}, "1.0", "", 10**4000])
def test_a_count_that_makes_no_sense_is_refused_by_name(value):
    with pytest.raises(ValueError, match="fail"):
        TaskProgress.from_wire({"fail": value})


def test_a_torn_read_is_told_from_counts_that_add_up():
    assert not TaskProgress(total=3, success=1).adds_up


@given(data=st.dictionaries(st.sampled_from([*COUNTS, "other"]), JSON))
def test_any_progress_is_read_whole_or_refused(data):
    try:
        progress = TaskProgress.from_wire(data)
    except ValueError:
        return
    assert all(count >= 0 for count in progress.to_dict().values())


def test_a_task_is_read_and_becomes_plain_json():
    wire = {
        "task_id": TASK_ID,
        "task_name": "canary",
        "task_type": "firmwareUpgrade",
        "status": "Processing",
        "status_desc": "x",
        "task_progress": COUNTS,
        "create_time": "20260129T101112Z",
        "targets": ["a"],
    }
    task = BatchTask.from_wire(wire)

    assert task.batch_task_id == TASK_ID
    assert json.loads(json.dumps(task.to_dict())) == {
        "batch_task_id": TASK_ID,
        "task_name": "canary",
        "task_type": "firmwareUpgrade",
        "status": "Processing",
        "status_desc": "x",
        "progress": task.progress.to_dict(),
        "create_time": "20260129T101112Z",
    }
    assert task.raw == wire
    assert "targets" not in repr(task)


@pytest.mark.parametrize("task_id", [None, "", 7, ["a"], "a\nb", "a" * 1000])
def test_a_task_without_a_usable_id_is_refused(task_id):
    with pytest.raises(ValueError, match="task_id"):
        BatchTask.from_wire({"task_id": task_id})


FIELDS = [
    "task_id",
    "status",
    "task_type",
    "task_name",
    "task_progress",
    "status_desc",
    "create_time",
    "target",
    "error",
    "error_code",
    "error_msg",
    "output",
]


@pytest.mark.parametrize("model", [BatchTask, Subtask, TargetResult])
@settings(max_examples=40)
@given(data=st.dictionaries(st.sampled_from(FIELDS), JSON))
def test_hostile_rows_are_read_into_short_plain_text_or_refused(model: Any, data: dict[str, Any]):
    try:
        read = model.from_wire(data)
    except (ValueError, TypeError, AttributeError):
        return  # what read_answer() turns into an error that says so
    said = read.to_dict() if isinstance(read, BatchTask) else vars(read)
    texts = [value for value in said.values() if value is not None]
    assert all(isinstance(value, (str, bool, dict)) for value in texts)
    assert all(len(str(text).splitlines()) <= 1 for text in texts if not isinstance(text, dict))


def test_a_subtask_carries_its_error():
    error = {"error_code": "IOTDA.014016", "error_msg": "offline"}
    row = Subtask.from_wire({"target": "a", "status": "Fail", "error": error, "output": None})

    assert (row.target, row.status, row.error_code, row.error_msg) == (
        "a",
        SubtaskStatus.FAIL,
        "IOTDA.014016",
        "offline",
    )


@pytest.mark.parametrize("status", ["failure", "Succeeded", "", None, 7, ["success"]])
def test_anything_but_success_is_a_failure(status):
    assert not TargetResult.from_wire({"target": "a", "status": status}).succeeded
    assert TargetResult.from_wire({"target": "a", "status": "success"}).succeeded


@pytest.mark.parametrize("target", [None, "", 7, {}])
def test_a_row_without_a_target_is_refused(target):
    for model in (Subtask, TargetResult):
        with pytest.raises(ValueError, match="without a target"):
            model.from_wire({"target": target, "status": "success"})


def test_results_are_a_sequence_that_knows_who_succeeded():
    good, bad = TargetResult("a", True), TargetResult("b", False, "X", "y")
    results = TargetResults([good, bad])

    assert (len(results), list(results), results[0], results[1:]) == (
        2,
        [good, bad],
        good,
        TargetResults([bad]),
    )
    assert (results.succeeded, results.failed) == ([good], [bad])
    assert bad.to_failure() == {"target": "b", "error_code": "X", "error_msg": "y"}
    assert results == TargetResults((good, bad)) != [good, bad]
    assert hash(results) == hash(TargetResults((good, bad)))
    assert repr(results) == "<TargetResults: 1 succeeded, 1 failed>"
    assert not TargetResults()
