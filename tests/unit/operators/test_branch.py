"""Which path is followed for which failures; that Airflow follows it is tested in tests/system."""

from __future__ import annotations

from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException

from iotda_provider.exceptions import IoTDAConfigError
from iotda_provider.operators.branch import BranchOnTargetFailuresOperator

STRANGER = {"target": "a", "error_code": "IOTDA.014219", "error_msg": "not in the task"}
OFFLINE = {"target": "b", "error_code": "IOTDA.014016", "error_msg": "The device is not online."}
BROKEN = {"target": "c", "error_code": "IOTDA.005010", "error_msg": "Firmware update failed."}
ODD = {"target": "d", "error_code": None, "error_msg": None}


@pytest.fixture
def follow(ti, monkeypatch) -> Any:
    """The task ids that an operator follows, where Airflow would skip the others."""

    def choose(**parameters: Any) -> list[str]:
        operator = BranchOnTargetFailuresOperator(task_id="branch", **parameters)
        followed: list[Any] = []
        monkeypatch.setattr(
            operator, "do_branch", lambda context, ids: followed.append((dict(ti.xcoms), ids))
        )
        operator.execute({"ti": ti})
        ((pushed, ids),) = followed
        assert pushed == {"branch": ids or []}, "the choice is pushed before anything is skipped"
        return ids or []

    return choose


def test_no_failure_follows_if_none(follow):
    assert follow(failures=[], if_none="fine", if_some="repair") == ["fine"]


def test_no_failure_without_if_none_follows_nothing(follow):
    assert follow(failures=[], if_some="repair") == []


def test_some_failures_follow_if_some(follow):
    assert follow(failures=[STRANGER], if_none="fine", if_some=["a", "group"]) == ["a", "group"]


@pytest.mark.parametrize("failures", [str([STRANGER]), '[{"target": "a"}]', (STRANGER,)])
def test_failures_are_taken_in_every_form(follow, failures):
    assert follow(failures=failures, if_some="repair") == ["repair"]


@pytest.mark.parametrize(
    ("requested", "followed"), [(2, "all"), (3, "some"), ("2", "all"), (["a", "b"], "all")]
)
def test_if_all_is_followed_where_every_requested_target_failed(follow, requested, followed):
    failures = [STRANGER, OFFLINE]
    paths = {"if_some": "some", "if_all": "all"}
    assert follow(failures=failures, requested=requested, **paths) == [followed]


def test_if_all_counts_what_was_cut_off(follow):
    paths = {"if_some": "some", "if_all": "all", "requested": 3000}
    assert follow(failures=[STRANGER] * 10, failed=3000, **paths) == ["all"]
    assert follow(failures=[STRANGER] * 10, failed=2999, **paths) == ["some"]
    assert follow(failures=[STRANGER] * 10, **paths) == ["some"]
    assert follow(failures=[], failed=3000, **paths) == ["all"]


def test_zero_requested_targets_have_not_all_failed(follow):
    paths = {"if_none": "none", "if_some": "some", "if_all": "all"}
    assert follow(failures=[], requested=0, **paths) == ["none"]


def test_each_error_code_follows_its_own_path_and_the_rest_if_some(follow):
    codes = {"IOTDA.014219": "forget", "IOTDA.014016": ["retry", "tell"]}
    paths = {"by_error_code": codes, "if_some": "repair"}
    assert follow(failures=[STRANGER], **paths) == ["forget"]
    assert follow(failures=[OFFLINE, STRANGER], **paths) == ["retry", "tell", "forget"]
    assert follow(failures=[BROKEN, STRANGER], **paths) == ["repair", "forget"]
    assert follow(failures=[ODD], **paths) == ["repair"]


def test_a_failure_that_no_path_covers_follows_nothing(follow):
    assert follow(failures=[BROKEN], by_error_code={"IOTDA.014219": "forget"}) == []


def test_failure_classes_are_told_by_code_and_message_unless_the_row_says_it(follow):
    classes = {"environment": "retry", "firmware": "roll_back", "unknown": "look"}
    assert follow(failures=[OFFLINE], by_failure_class=classes) == ["retry"]
    assert follow(failures=[BROKEN], by_failure_class=classes) == ["roll_back"]
    assert follow(failures=[ODD], by_failure_class=classes) == ["look"]
    said = {**OFFLINE, "failure_class": "firmware"}
    assert follow(failures=[said], by_failure_class=classes) == ["roll_back"]


def test_an_error_code_wins_over_the_failure_class(follow):
    paths = {"by_error_code": {"IOTDA.014016": "code"}, "by_failure_class": {"environment": "c"}}
    assert follow(failures=[OFFLINE], **paths) == ["code"]


def test_a_path_cut_off_from_the_mappings_follows_if_some(follow):
    paths = {"by_error_code": {"IOTDA.014219": "forget"}, "if_some": "repair"}
    assert follow(failures=[STRANGER], failed=2, **paths) == ["forget", "repair"]


def test_if_all_is_followed_beside_the_paths_of_the_codes(follow):
    paths = {"by_error_code": {"IOTDA.014219": "forget"}, "if_some": "repair", "if_all": "call"}
    assert follow(failures=[STRANGER], requested=1, **paths) == ["call", "forget"]


@pytest.mark.parametrize("failures", [None, "None", "", "null"])
def test_failures_that_nobody_pushed_are_an_error_not_none(follow, failures, ti):
    with pytest.raises(IoTDAConfigError, match=r"^failures was rendered to None.*skipped"):
        follow(failures=failures, if_none="fine")
    assert ti.xcoms == {}


@pytest.mark.parametrize("row", ["a", None, {"error_code": "X"}, ["a"]])
def test_what_is_no_row_of_failed_targets_is_an_error_that_says_where(follow, row):
    with pytest.raises(IoTDAConfigError, match=r"failures\[1\] is not a row of failed_targets"):
        follow(failures=[STRANGER, row], if_some="repair")


@pytest.mark.parametrize("name", ["requested", "failed"])
def test_a_count_that_nobody_pushed_is_an_error_not_a_guess(ti, name):
    operator = BranchOnTargetFailuresOperator(
        task_id="branch",
        failures=[STRANGER],
        if_all="all",
        if_some="some",
        **{"requested": 1, name: "{{ ti.xcom_pull(task_ids='stop')[...] }}"},
    )
    setattr(operator, name, None)  # as an XComArg is rendered where there is no XCom

    with pytest.raises(IoTDAConfigError, match=f"^{name} was rendered to None"):
        operator.execute({"ti": ti})


def test_a_mapped_branch_is_refused_before_it_chooses(ti):
    ti.map_index = 0
    operator = BranchOnTargetFailuresOperator(task_id="branch", failures=[], if_none="fine")

    with pytest.raises(AirflowFailException, match=r"can't run mapped .*TriggerDagRunOperator"):
        operator.execute({"ti": ti})
    assert ti.xcoms == {}


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({}, r"at least one of if_none, if_some, if_all, by_error_code, by_failure_class"),
        ({"if_none": ""}, r"^if_none must be a task id or a list"),
        ({"if_some": []}, r"^if_some must be a task id or a list"),
        ({"if_some": [1]}, r"^if_some must be a task id or a list"),
        ({"if_all": "x"}, r"^if_all needs requested"),
        ({"by_error_code": ["X"]}, r"^by_error_code must be a mapping"),
        ({"by_error_code": {"X": None}}, r"^by_error_code\['X'\] must be a task id"),
        ({"by_failure_class": {"hardware": "x"}}, r"^by_failure_class takes environment"),
    ],
)
def test_a_wrong_parameter_is_named_when_the_dag_is_parsed(parameters, message):
    with pytest.raises(ValueError, match=message):
        BranchOnTargetFailuresOperator(task_id="branch", failures=[], **parameters)
