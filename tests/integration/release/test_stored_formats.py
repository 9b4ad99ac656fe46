"""What a release leaves in other people's databases, and that later code goes on with it.

``tests/stored_formats.py`` says how it is compared with the golden files in ``tests/golden``.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime, timezone
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from airflow.providers.common.compat.notifier import BaseNotifier
from airflow.providers.common.compat.sdk import AirflowException, AirflowFailException
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_1_PLUS
from tests import stored_formats
from tests.integration.release import conftest
from tests.integration.release.conftest import PACKAGE, Rollout, TaskInstance
from tests.integration.release.test_guard_while_asked import desk

from iotda_provider.exceptions import IoTDAError
from iotda_provider.guards import MaxFailures, SequentialFailureTest, Stalled
from iotda_provider.operators.batch_task import (
    CollectFailedSubtasksOperator,
    CreateBatchTaskOperator,
    ListBatchTasksOperator,
    StopBatchTaskOperator,
)
from iotda_provider.operators.release.at_rest import WaitUntilAtRestOperator
from iotda_provider.operators.release.check import CheckReleaseOperator
from iotda_provider.operators.release.find_way_back import FindDevicesToRollBackOperator
from iotda_provider.operators.release.gate import WaveGateOperator
from iotda_provider.operators.release.plan import plan_of
from iotda_provider.operators.release.quarantine import QuarantineDevicesOperator
from iotda_provider.sensors.batch_task import BatchTaskSensor

__all__ = ["desk"]

#: When all of it begins: a Friday.
START = datetime(2030, 1, 4, 20, tzinfo=timezone.utc)
GROUP = "0000000a-0000"
WORLD: dict[str, Any] = {
    "devices": 60,
    "start_time": f"{START:%Y%m%dT%H%M%SZ}",
    "groups": [{"name": "all", "group_id": GROUP, "count": 60}],
}
GOOD: dict[str, Any] = {
    "failure_rate": 0.1,
    "segments": [
        {"name": "older", "count": 10, "fw_version": "0.9.0"},
        {"name": "slow", "count": 2, "success_after": 1500},
        {"name": "hanging", "count": 1, "hang_rate": 1, "failure_rate": 0},
    ],
}
RULES = [SequentialFailureTest(0.2), MaxFailures(40), Stalled(3600)]


class Chat(BaseNotifier):
    """Says nothing to nobody."""

    template_fields = ("text",)

    def __init__(self, text: str = "{{ message }}", *, most: float = 1.5) -> None:
        super().__init__()
        self.text, self.most = text, most

    def notify(self, context: Any) -> None:
        """Do nothing."""


class Left:
    """The tasks of one release, and what they leave behind.

    :param run: the release
    :param old: what an older version has left (a golden file): each task finds that instead of what
        tasks before it have left, its trigger is made of it, and its event is one of it
    """

    def __init__(self, run: Rollout, variables: dict[str, str], old: Any = None) -> None:
        self.run = run
        self.old = old
        self.triggers: list[dict[str, Any]] = []
        self.events: list[Any] = []
        self._variables = variables
        self._seen: dict[str, str] = {}

    def fire(self, real: Callable[[Any], Any], trigger: Any) -> Any:
        """Run a trigger to its event, as a triggerer does."""
        place = len(self.triggers)
        classpath, arguments = trigger.serialize()
        self.triggers.append({"classpath": classpath, "arguments": arguments})
        # A release that has ended takes its note out of its list again.
        self._seen |= {name: text for name, text in self._variables.items() if text != "[]"}
        if self.old is None:
            self.events.append(real(trigger))
            return self.events[-1]
        then = self.old["triggers"][place]
        assert then["classpath"] == classpath
        self.events.append(real(type(trigger)(**self._of_now(then["arguments"]))))
        return self._of_now(self.old["events"][place])

    def __call__(self, operator: Any) -> Any:
        """Run an operator, as the next try of its task."""
        if self.old is not None:
            for name in self.run.xcoms:
                if name[0] != operator.task_id and (then := self.old["xcoms"].get(" ".join(name))):
                    self.run.xcoms[name] = self._of_now(then)
        return self.run.run(operator)

    def _of_now(self, value: Any) -> Any:
        """A value of the older version, about the batch tasks of now."""
        text = json.dumps(value)
        for then, now in zip(self.old["batch_task_ids"], self.run.task_ids, strict=False):
            text = text.replace(then, now)
        return json.loads(text)

    def as_json(self) -> dict[str, Any]:
        """All of it."""
        return {
            "batch_task_ids": self.run.task_ids,
            "triggers": self.triggers,
            "events": self.events,
            "xcoms": {" ".join(name): value for name, value in self.run.xcoms.items()},
            "task_state_store": {name: store for name, store in self.run.stores.items() if store},
            "variables": {name: json.loads(text) for name, text in self._seen.items()},
        }


@pytest.fixture
def begin(
    rollout: Callable[..., Rollout],
    passing: Any,
    variables: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> Callable[..., Left]:
    """Starts a platform with a fleet, for one release."""
    real = conftest.fired
    monkeypatch.setattr(WaveGateOperator, "do_branch", lambda self, context, chosen: chosen)

    def start(old: Any = None, **world: Any) -> Left:
        passing.go_to(START.timestamp())
        made = Left(rollout(**{**WORLD, **world}), variables, old)
        monkeypatch.setattr(conftest, "fired", lambda trigger: made.fire(real, trigger))
        return made

    return start


@pytest.fixture
def deferrable() -> bool:
    """Wait in the triggerer, but where a test says otherwise."""
    return True


def plan(it: Left, **given: Any) -> Any:
    """Check and plan a release."""
    run = it.run
    it(CheckReleaseOperator(task_id="check", package_id=PACKAGE, group_ids=[GROUP]))
    older = {"0.9.0": run.devices[:10], "1.0.0": run.devices[10:]}
    return run.plan(
        "50%, 100%",
        gate=0.5,
        seed="seed",
        rules=RULES,
        group_ids=[GROUP],
        versions=older,
        **given,
    )


def wave(it: Left, number: int, answers: Any = (), **timing: Any) -> Any:
    """One wave, which waits wherever a wave may wait."""
    run, common = it.run, {"rules": RULES, "notifiers": [Chat()]}
    it(run.creating(number, window="fri 20:01-23:00", **common))
    it(run.confirming(number, max_in_flight=10, rehearse_stop=True, **common))
    if answers:
        timing["evidence"] = lambda facts: next(answers)
    result = it(run.watching(number, gate=0.5, evidence_interval=1, **timing, **common))
    then = {"if_passed": "next", "if_ask": "ask", "if_stop": "stop", "if_over": "over"}
    it(WaveGateOperator(task_id=f"gate_{number}", watch_task_id=f"watch_{number}", **then))
    return result


def released(it: Left) -> dict[str, Any]:
    """A release in two waves, with a trial, which comes to its end; its outcome."""
    timing = {"bake_time": 3, "wave_timeout": 10, "trial": "can stop"}
    plan(it, **timing)
    wave(it, 1, iter(["wait", "go"]), **timing)
    wave(it, 2, iter(["go"]), **timing)
    outcome = it.run.outcome(2, rules=RULES)
    rest = WaitUntilAtRestOperator(
        task_id="rest",
        batch_task_id=outcome["batch_task_ids"],
        exposed=outcome["exposed"],
        timeout=6,
        poll_interval=1,
        deferrable=True,
    )
    it(rest)
    it.run.reconcile(outcome)
    targets = it.run.xcoms["reconcile", "to_quarantine"]
    it(QuarantineDevicesOperator(task_id="quarantine", targets=targets, group_name="q"))
    return dict(outcome)


def breached(it: Left, path: Path) -> dict[str, Any]:
    """A release of bad firmware, written down in files; its outcome."""
    plan(it, manifest_path=path.as_uri())
    assert wave(it, 1)["verdict"] == "breached"
    return dict(it.run.outcome(1, rules=RULES))


#: The package that is released, the one before, and one for another product.
PACKAGES = [
    {"package_id": PACKAGE, "version": "2.0.0"},
    {"package_id": "01d", "version": "1.0.0"},
    {"package_id": "02d", "version": "1.0.0", "product_id": "other"},
]


def found_back(it: Left, path: Path) -> dict[str, Any]:
    """Who gets the old package back after a release that was stopped; a check that refuses."""
    run = it.run
    refuses = CheckReleaseOperator(
        task_id="refuses",
        package_id=PACKAGE,
        group_ids=[GROUP],
        rollback="at once",
        rollback_package_id="02d",
    )
    with pytest.raises(AirflowFailException):
        it(refuses)
    plan(it)
    it(run.creating(1, rules=RULES))
    it(run.confirming(1, rules=RULES))
    run.time.sleep(1000)
    run.said("breached")
    run.outcome(1, rules=RULES)
    find = FindDevicesToRollBackOperator(
        task_id="find",
        release_dag_id="dag",
        release_run_id="run",
        plan_task_id="plan",
        keeper_task_id="outcome",
        package_id="01d",
        report_path=path.as_uri(),
    )
    return dict(it(find))


def asked(it: Left) -> Any:
    """A release that a person lets go on, or whose guard breaks it meanwhile; the answer."""
    from tests.integration.release.test_guard_while_asked import asking

    it(it.run.creating(1, rules=RULES))
    it(it.run.confirming(1, rules=RULES))
    unproven = it(it.run.watching(1, rules=RULES, gate=0.5, wave_timeout=0.2))
    assert unproven["verdict"] == "unproven"
    it(asking(rules=RULES, notifiers=[Chat()]))
    return it.run.xcoms["ask_1", "answer"]


def tasks(it: Left) -> None:
    """Tasks that are no release's: they create, stop, list, wait for and look into batch tasks."""
    it(
        CreateBatchTaskOperator(
            task_id="create",
            task_name="canary",
            task_type="firmwareUpgrade",
            targets=it.run.devices[:20],
            document={"package_ids": [PACKAGE]},
        )
    )
    task_id = it.run.xcoms["create", "batch_task_id"]
    common = {"batch_task_id": task_id}
    it(StopBatchTaskOperator(task_id="stop", deferrable=True, poll_interval=0.05, **common))
    it(BatchTaskSensor(task_id="sensor", deferrable=True, target_statuses=["Stopped"], **common))
    it(CollectFailedSubtasksOperator(task_id="collect", **common))
    it(ListBatchTasksOperator(task_id="list", task_type="firmwareUpgrade"))


def files_of(path: Path) -> dict[str, Any]:
    """What is written down of a release, by the ends of the files' names; ids are texts."""

    def read(file: Path) -> Any:
        text = file.read_text()
        return json.loads(text) if text.startswith(("{", "[")) else text.splitlines()

    found = sorted(path.parent.glob(f"{path.name}*"))
    return {file.name.removeprefix(path.name) or "(manifest)": read(file) for file in found}


def test_a_release_leaves_what_the_golden_file_says(begin: Callable[..., Left]) -> None:
    it = begin(**GOOD)
    assert released(it)["verdict"] == "released"
    waited_for = {one["classpath"].rpartition(".")[2] for one in it.triggers}
    assert waited_for == {
        *("CreateWaveTrigger", "ConfirmWaveTrigger", "WatchWaveTrigger", "AtRestTrigger")
    }
    assert {event["status"] for event in it.events} == {"over", "ask"}
    stored_formats.check("release", it.as_json())


@pytest.mark.parametrize("has_store", [False])
def test_a_release_that_is_stopped_leaves_what_the_golden_file_says(
    begin: Callable[..., Left], tmp_path: Path
) -> None:
    it = begin(failure_rate=0.9)
    path = tmp_path / "manifest.json"
    assert breached(it, path)["verdict"] == "breached"
    text = json.dumps({**it.as_json(), "files": files_of(path)})
    stored_formats.check("breached_release", json.loads(text.replace(str(tmp_path), "/tmp/there")))


@pytest.mark.parametrize("deferrable", [False])
def test_a_way_back_and_a_refusal_leave_what_the_golden_file_says(
    begin: Callable[..., Left], tmp_path: Path
) -> None:
    it = begin(**GOOD, packages=PACKAGES)
    path = tmp_path / "decisions.jsonl"
    found = found_back(it, path)
    assert found["devices"] > found["from_another"] > 0
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert {row["outcome"] for row in rows} >= {"roll_back", "runs_another_version"}
    text = json.dumps({**it.as_json(), "rows": rows})
    stored_formats.check("way_back", json.loads(text.replace(str(tmp_path), "/tmp/there")))


@pytest.mark.parametrize("deferrable", [False])
@pytest.mark.parametrize("version", stored_formats.versions("way_back"))
def test_the_way_back_from_a_release_of_an_earlier_version_is_found(
    begin: Callable[..., Left], tmp_path: Path, version: str
) -> None:
    """All that it reads of the release was left by the earlier version."""
    old = stored_formats.golden("way_back", version)
    found = found_back(begin(old, **GOOD, packages=PACKAGES), tmp_path / "decisions.jsonl")
    then = old["xcoms"]["find return_value"]
    for name in ("devices", "counts", "from_another", "version", "old_version", "waves"):
        assert found[name] == then[name]


@pytest.mark.parametrize("version", stored_formats.versions("release"))
def test_a_release_that_an_earlier_version_has_begun_goes_on(
    begin: Callable[..., Left], version: str
) -> None:
    """Everything that was stored is that of the earlier version, at each step; nobody is lost."""
    old = stored_formats.golden("release", version)
    outcome = released(begin(old, **GOOD))
    then = old["xcoms"]["outcome return_value"]
    for name in ("verdict", "devices", "exposed", "wave", "approved_by_person"):
        assert outcome[name] == then[name]


@pytest.mark.parametrize("has_store", [False])
@pytest.mark.parametrize("version", stored_formats.versions("breached_release"))
def test_a_stop_that_an_earlier_version_has_sent_is_known(
    begin: Callable[..., Left], tmp_path: Path, version: str
) -> None:
    old = stored_formats.golden("breached_release", version)
    text = json.dumps(old).replace("/tmp/there", str(tmp_path))
    outcome = breached(begin(json.loads(text), failure_rate=0.9), tmp_path / "manifest.json")
    then = old["xcoms"]["outcome return_value"]
    for name in ("verdict", "rule", "exposed"):
        assert outcome[name] == then[name]


@pytest.mark.skipif(not AIRFLOW_V_3_1_PLUS, reason="asking a person needs Airflow 3.1")
@pytest.mark.parametrize("case", ["answered_release", "release_broken_while_asked"])
def test_a_question_leaves_what_the_golden_file_says(
    begin: Callable[..., Left], desk: Any, monkeypatch: pytest.MonkeyPatch, case: str
) -> None:
    monkeypatch.setattr(TaskInstance, "id", UUID(int=1), raising=False)
    late = {"failure_rate": 0.9, "failure_after": 600, "success_after": 90_000}
    it = begin(**late)
    plan(it)
    if case == "answered_release":
        desk.at_read = lambda number: desk.answer("Go on") if number == 2 else None
    answer = asked(it)
    assert answer["verdict"] == ("answered" if case == "answered_release" else "breached")
    stored_formats.check(case, it.as_json())


@pytest.fixture
def at_once(passing: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """All tasks live in the release's time."""
    for name in ("operators.batch_task.stop", "notifications.telling_task", "sensors.batch_task"):
        monkeypatch.setattr(f"iotda_provider.{name}.time", passing)


@pytest.mark.usefixtures("at_once")
def test_other_tasks_leave_what_the_golden_file_says(begin: Callable[..., Left]) -> None:
    it = begin(
        failure_rate=0.5,
        failure_after=1,
        success_after=600,
        switches={"initializing": 0, "stop_after": 60},
        batch_tasks=[],
    )
    tasks(it)
    assert {one["classpath"].rpartition(".")[2] for one in it.triggers} == {"BatchTaskTrigger"}
    stored_formats.check("other_tasks", it.as_json())


@pytest.mark.usefixtures("at_once")
@pytest.mark.parametrize("version", stored_formats.versions("other_tasks"))
def test_a_stop_that_an_earlier_version_has_deferred_goes_on(
    begin: Callable[..., Left], version: str
) -> None:
    old = stored_formats.golden("other_tasks", version)
    it = begin(
        old,
        failure_rate=0.5,
        failure_after=1,
        success_after=600,
        switches={"initializing": 0, "stop_after": 60},
        batch_tasks=[],
    )
    tasks(it)
    assert it.run.xcoms["stop", "return_value"] == old["xcoms"]["stop return_value"]


def begins(it: Left) -> dict[str, Callable[[], Any]]:
    """How the tasks of the second wave begin, with what tasks before them have returned."""
    run = it.run

    def begin_wave(operator: Any) -> Any:
        context = run.context(operator)
        plan = plan_of(context["ti"], "plan")
        return operator.begin(context, plan, operator.guarded(context))

    then = {"if_passed": "next", "if_ask": "ask", "if_stop": "stop", "if_over": "over"}
    gate = WaveGateOperator(task_id="gate_2", watch_task_id="watch_2", **then)
    return {
        "create_2": lambda: begin_wave(run.creating(2)),
        "confirm_2": lambda: begin_wave(run.confirming(2)),
        "watch_2": lambda: begin_wave(run.watching(2, gate=0.5, trial="can stop")),
        "gate_2": lambda: gate.execute(run.context(gate)),
    }


@pytest.mark.parametrize("of", ["plan", "create_1", "create_2", "confirm_2", "watch_2"])
def test_a_result_that_lacks_something_is_refused_in_a_sentence(
    begin: Callable[..., Left], of: str
) -> None:
    """Another version may have written it: never a KeyError, nor a TypeError."""
    it, old = begin(devices=5, groups=[]), stored_formats.golden("release")
    whole = {tuple(name.split(" ")): value for name, value in old["xcoms"].items()}
    steps = begins(it)
    for field in whole[of, "return_value"]:
        for wrong in ("gone", None, {}):
            result = {**whole[of, "return_value"], field: wrong}
            if wrong == "gone":
                del result[field]
            for step in steps.values():
                it.run.xcoms.clear()
                it.run.xcoms.update({**whole, (of, "return_value"): result})
                with suppress(ValueError, IoTDAError, AirflowException):
                    step()
