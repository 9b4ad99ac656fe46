"""Which path a wave's result opens, and what a release is said to have come to."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException

from iotda_provider.guards import MaxFailures
from iotda_provider.operators.release.gate import WaveGateOperator
from iotda_provider.operators.release.outcome import RolloutOutcomeOperator

PLAN = {
    "batch_task_id": "aa",
    "waves": [{"cumulative": 10}, {"cumulative": 100}],
    "manifest_path": None,
    "digest": "0123456789abcdef",
}


@pytest.fixture(autouse=True)
def no_xcoms(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody has written down anything."""
    xcoms = SimpleNamespace(get_one=lambda **ids: None)
    monkeypatch.setattr("iotda_provider.release.storage._xcom", lambda: xcoms)


class TaskInstance:
    dag_id, run_id, task_id, map_index = "d", "r", "t", -1

    def __init__(self, **results: Any) -> None:
        self.results = {("plan", "return_value"): PLAN}
        for name, value in results.items():
            task_id, _, key = name.partition("__")
            self.results[task_id, key or "return_value"] = value

    def xcom_pull(self, task_ids: str, key: str = "return_value") -> Any:
        return self.results.get((task_ids, key))


def result(verdict: str, **more: Any) -> dict[str, Any]:
    return {"verdict": verdict, "summary": f"It is {verdict}.", **more}


def path(verdict: str, *, wave: int = 1, approval: str = "never", asks: bool = True) -> Any:
    gate = WaveGateOperator(
        task_id="gate",
        wave=wave,
        plan_task_id="plan",
        watch_task_id="watch",
        if_passed="next",
        if_ask="ask" if asks else None,
        if_stop="stop",
        if_over="over",
        approval=approval,
    )
    followed: list[str] = []
    object.__setattr__(gate, "follow", lambda context, ids, why: followed.extend(ids))
    gate.execute({"ti": TaskInstance(watch=result(verdict))})  # type: ignore[typeddict-item]
    (task_id,) = followed
    return task_id


@pytest.mark.parametrize(
    ("verdict", "never", "unproven", "always"),
    [
        ("passed", "next", "next", "ask"),
        ("unproven", "stop", "ask", "ask"),
        ("rejected", "stop", "stop", "stop"),
        ("breached", "over", "over", "over"),
        ("stopped_elsewhere", "over", "over", "over"),
        ("lost", "over", "over", "over"),
        ("a word of next year", "over", "over", "over"),
    ],
)
def test_nothing_but_passed_goes_on_by_itself(
    verdict: str, never: str, unproven: str, always: str
) -> None:
    assert path(verdict, approval="never") == never
    assert path(verdict, approval="when unproven") == unproven
    assert path(verdict, approval="before every wave") == always


def test_after_the_last_wave_there_is_nothing_to_ask() -> None:
    assert path("passed", wave=2, approval="before every wave") == "over"
    assert path("unproven", wave=2, approval="when unproven") == "ask"


def test_where_nobody_can_be_asked_what_is_unproven_stops() -> None:
    assert path("unproven", approval="when unproven", asks=False) == "stop"


def test_an_approval_that_is_no_word_of_ours_is_an_error() -> None:
    with pytest.raises(ValueError, match="approval"):
        path("passed", approval="")


def outcome(**results: Any) -> Any:
    names = {"confirm": "c", "watch": "w", "gate": "g", "ask": "a", "stop": "s"}
    steps = [{step: f"{name}{n}" for step, name in names.items()} for n in (1, 2, 3)]
    operator = RolloutOutcomeOperator(
        task_id="outcome", plan_task_id="plan", steps=steps, rules=MaxFailures(1)
    )
    return operator.execute({"ti": TaskInstance(**results)})  # type: ignore[typeddict-item]


def test_released_only_where_every_wave_has_passed() -> None:
    found = outcome(w1=result("passed"), w2=result("passed"))
    assert (found["verdict"], found["exposed"], found["wave"]) == ("released", 100, 2)
    with pytest.raises(AirflowFailException, match="not announced"):
        outcome(w1=result("passed"))
    with pytest.raises(AirflowFailException, match="not announced"):
        outcome()


def test_a_persons_word_makes_a_wave_pass() -> None:
    found = outcome(w1=result("unproven"), g1__branch=["a1"], w2=result("passed"))
    assert (found["verdict"], found["approved_by_person"]) == ("released", [1])


def test_a_persons_no_is_told_from_a_wave_that_nobody_was_asked_about() -> None:
    stopped = {"outcome": "stopped"}
    asked = outcome(w1=result("unproven"), g1__branch=["a1"], s1=stopped)
    assert (asked["verdict"], asked["exposed"]) == ("refused", 10)
    refused = outcome(w1=result("passed"), g1__branch=["a1"], s1=stopped)
    assert refused["verdict"] == "refused"
    for verdict in ("unproven", "rejected"):
        alone = outcome(w1=result(verdict), g1__branch=["s1"], s1=stopped)
        assert alone["verdict"] == verdict


def test_a_persons_no_counts_where_the_stop_was_only_marked_as_done() -> None:
    said_no = {"option": "Stop the release", "by": "ann"}
    found = outcome(w1=result("unproven"), g1__branch=["a1"], a1__answer=said_no)
    assert found["verdict"] == "refused"


@pytest.mark.parametrize("verdict", ["unproven", "rejected"])
def test_a_stop_after_a_persons_yes_is_that_of_the_later_wave(verdict: str) -> None:
    found = outcome(
        w1=result("unproven"),
        g1__branch=["a1"],
        a1__answer={"option": "Go on", "by": "ann"},
        w2=result(verdict),
        g2__branch=["s2"],
        s2={"outcome": "stopped"},
    )
    assert (found["verdict"], found["wave"], found["exposed"]) == (verdict, 2, 100)
    assert found["approved_by_person"] == [1]


@pytest.mark.parametrize("verdict", ["breached", "stopped_elsewhere", "lost"])
def test_a_release_that_was_over_in_the_middle_of_a_wave(verdict: str) -> None:
    found = outcome(w1=result("passed"), w2=result(verdict), c2=result(verdict, unconfirmed=60))
    assert (found["verdict"], found["wave"]) == (verdict, 2)
    assert (found["exposed"], found["unconfirmed_from"]) == (40, "c2")
