"""Which path is followed for which verdict: nothing but a completed rollout is ever let through."""

from __future__ import annotations

import json
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException

from iotda_provider.exceptions import IoTDAConfigError
from iotda_provider.operators.branch import BranchOnTargetFailuresOperator, BranchOnVerdictOperator

PATHS = {"if_breached": "bad", "if_completed": "good"}


@pytest.fixture
def follow(ti, monkeypatch) -> Any:
    """The task ids that an operator follows, where Airflow would skip the others."""

    def choose(kind: Any = BranchOnVerdictOperator, **parameters: Any) -> list[str]:
        operator = kind(task_id="branch", **parameters)
        followed: list[Any] = []
        monkeypatch.setattr(
            operator, "do_branch", lambda context, ids: followed.append((dict(ti.xcoms), ids))
        )
        operator.execute({"ti": ti})
        ((pushed, ids),) = followed
        assert pushed == {"branch": ids or []}, "the choice is pushed before anything is skipped"
        return ids or []

    return choose


def result(word: str) -> dict[str, Any]:
    return {"batch_task_id": "ab", "verdict": word, "summary": "Because of 'this' {and} that."}


@pytest.mark.parametrize(
    ("word", "path"),
    [("breached", "bad"), ("completed", "good"), ("stopped_elsewhere", "bad"), ("lost", "bad")],
)
@pytest.mark.parametrize("form", [lambda r: r, json.dumps, str, lambda r: r["verdict"]])
def test_only_a_completed_rollout_is_let_through(follow, word, path, form):
    assert follow(verdict=form(result(word)), **PATHS) == [path]


def test_every_verdict_may_have_its_own_path(follow):
    paths = {**PATHS, "if_stopped_elsewhere": ["ask", "wait"], "if_lost": "search"}

    assert follow(verdict=result("stopped_elsewhere"), **paths) == ["ask", "wait"]
    assert follow(verdict=result("lost"), **paths) == ["search"]


@pytest.mark.parametrize("verdict", [None, "", "None", "fine", {}, {"verdict": None}, "[1]", "{"])
def test_no_verdict_is_an_error_and_never_a_path(follow, verdict):
    with pytest.raises(IoTDAConfigError, match="verdict"):
        follow(verdict=verdict, **PATHS)


def test_it_refuses_to_run_mapped(follow, ti):
    ti.map_index = 0

    with pytest.raises(AirflowFailException, match="TriggerDagRunOperator"):
        follow(verdict="completed", **PATHS)


@pytest.mark.parametrize("missing", ["if_breached", "if_completed"])
@pytest.mark.parametrize("path", [None, "", [], [1]])
def test_a_path_that_is_none_is_refused_when_the_dag_is_parsed(missing, path):
    with pytest.raises(ValueError, match=missing):
        BranchOnVerdictOperator(task_id="branch", verdict="x", **{**PATHS, missing: path})


def test_failures_are_classed_as_the_user_says_where_their_rows_do_not(follow):
    row = {"target": "a", "error_code": "IOTDA.005010", "error_msg": "installation failed"}
    paths = {"by_failure_class": {"environment": "again", "firmware": "report"}}

    def branch(failures: Any, **more: Any) -> list[str]:
        return follow(BranchOnTargetFailuresOperator, failures=failures, **paths, **more)

    assert branch([row]) == ["report"]
    assert branch([row], failure_classes={"IOTDA.005010": "environment"}) == ["again"]
    assert branch([{**row, "failure_class": "environment"}]) == ["again"]
