"""Which path a wave's result opens, and what a release is said to have come to."""

from __future__ import annotations

from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException

from iotda_provider.guards import MaxFailures
from iotda_provider.operators.release.gate import WaveGateOperator
from iotda_provider.operators.release.outcome import RolloutOutcomeOperator
from iotda_provider.release.ledger import Ledger
from iotda_provider.release.manifest import BegunWave, Part
from iotda_provider.release.planning import Membership
from iotda_provider.release.storage import ReleaseFiles

IDS = [[f"device-{n:03}" for n in range(10)], [f"device-{n:03}" for n in range(10, 100)]]
FILES = ReleaseFiles("d", "r", "plan")
TASKS = ["aa", "bb"]


class XComs(dict[tuple[str, str], Any]):
    """The XComs of the run, in which everything is written down."""

    def get_one(self, *, key: str, task_id: str, **ids: Any) -> Any:
        return self.get((task_id, key))

    def set(self, key: str, value: Any, *, task_id: str, **ids: Any) -> None:
        self[task_id, key] = value


@pytest.fixture(autouse=True)
def xcoms(monkeypatch: pytest.MonkeyPatch) -> XComs:
    """Two waves are planned, and nothing has begun."""
    kept = XComs()
    monkeypatch.setattr("iotda_provider.release.storage._xcom", lambda: kept)
    manifest = FILES.write_waves("r", Membership("s", ("10%", "100%"), tuple(map(tuple, IDS))))
    PLAN["digest"] = manifest.digest
    return kept


PLAN: dict[str, Any] = {
    "waves": [{"cumulative": 10}, {"cumulative": 100}],
    "devices": 100,
    "manifest_path": None,
}


def begin(*confirmed: int) -> None:
    """Write down that waves have begun, and how many devices of each were confirmed."""
    for wave, count in enumerate(confirmed, start=1):
        ids = IDS[wave - 1]
        part = Part(wave, 1, f"release_wave_{wave}", len(ids), TASKS[wave - 1])
        FILES.write(f"begun_{wave}", BegunWave(wave, len(ids), (part,)).to_json())
        ledger = Ledger(TASKS[wave - 1], ids)
        ledger.note_answer(ids[:count], ids[:count])
        FILES.write(part.key, ledger.to_json())


class TaskInstance:
    dag_id, run_id, task_id, map_index = "d", "r", "t", -1

    def __init__(self, **results: Any) -> None:
        self.results = {("plan", "return_value"): PLAN}
        for name, value in results.items():
            task_id, _, key = name.partition("__")
            self.results[task_id, key or "return_value"] = value

    def xcom_pull(self, task_ids: str, key: str = "return_value") -> Any:
        return self.results.get((task_ids, key))


def result(verdict: str, *, is_last: bool = False, **more: Any) -> dict[str, Any]:
    said = f"It is {verdict}."
    return {"verdict": verdict, "summary": said, "is_last": is_last, "rule": None, **more}


def path(verdict: str, *, is_last: bool = False, approval: str = "never", asks: bool = True) -> Any:
    gate = WaveGateOperator(
        task_id="gate",
        watch_task_id="watch",
        if_passed="next",
        if_ask="ask" if asks else None,
        if_stop="stop",
        if_over="over",
        approval=approval,
    )
    followed: list[str] = []
    object.__setattr__(gate, "follow", lambda context, ids, why: followed.extend(ids))
    gate.execute({"ti": TaskInstance(watch=result(verdict, is_last=is_last))})  # type: ignore[typeddict-item]
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
    assert path("passed", is_last=True, approval="before every wave") == "over"
    assert path("unproven", is_last=True, approval="when unproven") == "ask"


def test_where_nobody_can_be_asked_what_is_unproven_stops() -> None:
    assert path("unproven", approval="when unproven", asks=False) == "stop"


def test_an_approval_that_is_no_word_of_ours_is_an_error() -> None:
    with pytest.raises(ValueError, match="approval"):
        path("passed", approval="")


def outcome(**results: Any) -> Any:
    names = {"watch": "w", "gate": "g", "ask": "a", "stop": "s"}
    steps = [{step: f"{name}{n}" for step, name in names.items()} for n in (1, 2, 3)]
    operator = RolloutOutcomeOperator(
        task_id="outcome", plan_task_id="plan", steps=steps, rules=MaxFailures(1)
    )
    return operator.execute({"ti": TaskInstance(**results)})  # type: ignore[typeddict-item]


def test_released_only_where_every_wave_has_passed() -> None:
    begin(10, 90)
    found = outcome(w1=result("passed"), w2=result("passed", is_last=True))
    assert found["batch_task_ids"] == TASKS
    assert (found["verdict"], found["exposed"], found["wave"]) == ("released", 100, 2)
    with pytest.raises(AirflowFailException, match="not announced"):
        outcome(w1=result("passed"))
    with pytest.raises(AirflowFailException, match="not announced"):
        outcome()


def test_a_persons_word_makes_a_wave_pass() -> None:
    begin(10, 90)
    last = result("passed", is_last=True)
    found = outcome(w1=result("unproven"), g1__branch=["a1"], w2=last)
    assert (found["verdict"], found["approved_by_person"]) == ("released", [1])


def test_a_persons_no_is_told_from_a_wave_that_nobody_was_asked_about() -> None:
    begin(10)
    stopped = {"outcomes": {"aa": "stopped"}}
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


@pytest.mark.parametrize("verdict", ["breached", "stopped_elsewhere", "lost"])
def test_what_the_guard_has_seen_while_the_question_was_open_is_the_outcome(verdict: str) -> None:
    begin(10)
    said = {"option": "Stop the release", "by": "the guard", "verdict": verdict, "rule": "Rule"}
    found = outcome(
        w1=result("unproven"),
        g1__branch=["a1"],
        a1__answer={**said, "summary": "The guard has closed it."},
        s1={"outcomes": {"aa": "already_ended"}},
    )
    assert (found["verdict"], found["rule"], found["exposed"]) == (verdict, "Rule", 10)
    assert found["summary"] == "It is unproven. The guard has closed it."
    assert found["approved_by_person"] == []


@pytest.mark.parametrize("verdict", ["unproven", "rejected"])
def test_a_stop_after_a_persons_yes_is_that_of_the_later_wave(verdict: str) -> None:
    begin(10, 90)
    found = outcome(
        w1=result("unproven"),
        g1__branch=["a1"],
        a1__answer={"option": "Go on", "by": "ann"},
        w2=result(verdict, is_last=True),
        g2__branch=["s2"],
        s2={"outcomes": {"aa": "stopped"}},
    )
    assert (found["verdict"], found["wave"], found["exposed"]) == (verdict, 2, 100)
    assert found["approved_by_person"] == [1]


@pytest.mark.parametrize("verdict", ["breached", "stopped_elsewhere", "lost"])
def test_a_release_that_was_over_in_the_middle_of_a_wave(verdict: str) -> None:
    begin(10, 30)
    found = outcome(w1=result("passed"), w2=result(verdict, is_last=True, rule="MaxFailures"))
    assert (found["verdict"], found["wave"], found["rule"]) == (verdict, 2, "MaxFailures")
    assert (found["exposed"], found["devices"]) == (40, 100)


def test_whom_somebody_else_has_started_counts_too() -> None:
    begin(10, 30)
    found = outcome(w1=result("passed"), w2=result("breached", is_last=True, started_elsewhere=7))
    assert (found["exposed"], found["started_elsewhere"]) == (47, 7)
