"""Every parameter with values that it can't have: each is taken, or refused in one line."""

from __future__ import annotations

import asyncio
import inspect
import json
import logging
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timezone
from itertools import islice
from types import SimpleNamespace
from typing import Any

import pytest
import requests_mock
from airflow.providers.common.compat.sdk import DAG, AirflowException
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_1_PLUS
from tests import inventory

from iotda_provider.airflow_support import questions
from iotda_provider.airflow_support.trigger_events import error_from_json
from iotda_provider.exceptions import IoTDANotFoundError, IoTDATransportError
from iotda_provider.guards import (
    Combined,
    EnoughSuccess,
    FailureClasses,
    MaxFailureRate,
    MaxFailures,
    Overdue,
    ReportingDelay,
    SequentialFailureTest,
    Stalled,
)
from iotda_provider.guards.serialization import RULES as ALL_RULES
from iotda_provider.hooks.iotda import IoTDAHook
from iotda_provider.hooks.iotda_async import IoTDAAsyncHook
from iotda_provider.operators import batch_task, branch
from iotda_provider.operators.announce import AnnounceBreachOperator
from iotda_provider.operators.base import CONNECTION_FIELDS
from iotda_provider.operators.guard_runs import (
    FindUnfinishedOfReleaseOperator,
    FindUnguardedRolloutsOperator,
)
from iotda_provider.operators.release import staged_rollout
from iotda_provider.operators.release.at_rest import WaitUntilAtRestOperator
from iotda_provider.operators.release.check import CheckReleaseOperator
from iotda_provider.operators.release.confirm import ConfirmWaveOperator
from iotda_provider.operators.release.create import CreateWaveOperator
from iotda_provider.operators.release.find_way_back import FindDevicesToRollBackOperator
from iotda_provider.operators.release.gate import WaveGateOperator
from iotda_provider.operators.release.outcome import RolloutOutcomeOperator
from iotda_provider.operators.release.plan import PlanWavesOperator
from iotda_provider.operators.release.preview import PreviewReleaseOperator
from iotda_provider.operators.release.quarantine import QuarantineDevicesOperator
from iotda_provider.operators.release.reconcile import ReconcileReleaseOperator
from iotda_provider.operators.release.report import ReportReleaseOperator, ReportWayBackOperator
from iotda_provider.operators.release.stop import StopReleaseOperator
from iotda_provider.operators.release.try_again import TryAgainOperator
from iotda_provider.operators.release.watch import WatchWaveOperator
from iotda_provider.release.at_rest import RestJob
from iotda_provider.release.confirm_job import ConfirmJob
from iotda_provider.release.create_job import CreateJob
from iotda_provider.release.maintenance_window import MaintenanceWindow
from iotda_provider.release.manifest import Part
from iotda_provider.release.open_question import QuestionJob
from iotda_provider.release.storage import ReleaseFiles
from iotda_provider.release.watch_wave import WatchJob
from iotda_provider.rollout_guard import GuardPlan
from iotda_provider.rollout_guard.memory_store import TriggererMemoryStore
from iotda_provider.sensors.batch_task import BatchTaskSensor, RolloutGuardSensor
from iotda_provider.task_io.connected import ConnectedTask
from iotda_provider.trials import DeviceTrial
from iotda_provider.triggers.base import IoTDATrigger
from iotda_provider.triggers.batch_task import BatchTaskTrigger
from iotda_provider.triggers.open_question import OpenQuestionTrigger
from iotda_provider.triggers.release import (
    AtRestTrigger,
    ConfirmWaveTrigger,
    CreateWaveTrigger,
    WatchWaveTrigger,
)
from iotda_provider.triggers.rollout_guard import RolloutGuardTrigger

TASK, GROUP = "5c8f9e2d7a6b4c3d1e0f9a8b", "e495cf17-ff79-4294-8f64-4d367919d665"
RULES = '[{"rule": "MaxFailures", "count": 5}]'
WAVE = {"wave": 1, "plan_task_id": "p", "rules": RULES}
PACKAGE = {
    "app_id": "a",
    "package_type": "firmwarePackage",
    "product_id": "a",
    "version": "1",
    "obs_location": {"region_name": "r", "bucket_name": "bkt", "object_key": "k"},
}
UPGRADED = {
    "task_name": "a",
    "task_type": "firmwareUpgrade",
    "document": {"package_ids": ["a"]},
}
UPGRADE = {
    "devices": ["a"],
    "task_type": "firmwareUpgrade",
    "document": {"package_ids": ["a"]},
}
ONE, TWO = {"batch_task_id": TASK}, {"if_breached": "a", "if_completed": "b"}


class Odd:
    """A value of a type that nobody expects."""


WRONG: dict[str, Callable[[], Any]] = {
    "None": lambda: None,
    "a number": lambda: 5,
    "a negative number": lambda: -1,
    "a fraction": lambda: 1.5,
    "a flag": lambda: True,
    "no number": lambda: float("nan"),
    "infinity": lambda: float("inf"),
    "a huge number": lambda: 10**5000,
    "bytes": lambda: b"x",
    "an object": lambda: {"a": 1},
    "nested lists": lambda: [[1, [2]], None],
    "a list of objects": lambda: [{"a": object()}],
    "a huge text": lambda: "x" * 300_000,
    "two lines": lambda: "a\nb",
    "half a character": lambda: "\ud800",
    "a set": lambda: {1, "a"},
    "a generator": lambda: (n for n in (1, "a")),
    "a date": lambda: datetime.now(timezone.utc),
    "something odd": Odd,
}
OUTLINE = {
    "labels": ["100%"],
    "cumulative": [1],
    "has_groups": False,
    **dict.fromkeys(("late", "late_waves", "in_groups", "groups"), 0),
    **dict.fromkeys(("of_product", "asked_when_online", "packages"), 1),
}
OPERATORS: list[tuple[type[Any], dict[str, Any]]] = [
    (batch_task.StopBatchTaskOperator, ONE),
    (StopReleaseOperator, {"create_task_id": "c"}),
    (batch_task.ConfirmBatchTaskOperator, ONE),
    (batch_task.RetryBatchTaskOperator, ONE),
    (batch_task.DeleteBatchTaskOperator, ONE),
    (batch_task.ListBatchTasksOperator, {}),
    (batch_task.CollectFailedSubtasksOperator, ONE),
    (
        batch_task.CreateBatchTaskOperator,
        {"task_name": "a", "task_type": "firmwareUpgrade", "targets": ["a"]},
    ),
    (TryAgainOperator, {"task_name": "a", "task_type": "firmwareUpgrade", "targets": ["a"]}),
    (batch_task.CreateOtaPackageOperator, PACKAGE),
    (branch.BranchOnTargetFailuresOperator, {"failures": [], "if_some": "a"}),
    (branch.BranchOnVerdictOperator, {"verdict": "completed", **TWO}),
    (WaitUntilAtRestOperator, ONE),
    (QuarantineDevicesOperator, {"targets": ["a"], "group_name": "a"}),
    (
        ReconcileReleaseOperator,
        {
            "version": "1",
            "outcome": {"verdict": "x", "wave": 1, "waves": 1, "approved_by_person": []},
            "plan_task_id": "p",
            "gate": 0.05,
        },
    ),
    (CheckReleaseOperator, {"package_id": "a", "group_ids": [GROUP]}),
    (FindDevicesToRollBackOperator, {"release_run_id": "r", "package_id": "a"}),
    (
        PreviewReleaseOperator,
        {"checked": {"outline": OUTLINE, "late": 0}, "rules": RULES},
    ),
    (PlanWavesOperator, {**UPGRADE, "waves": "100%", "gate": 0.05}),
    (CreateWaveOperator, {**WAVE, **UPGRADED}),
    (ConfirmWaveOperator, {**WAVE, "create_task_id": "c"}),
    (WatchWaveOperator, {**WAVE, "confirm_task_id": "c", "gate": 0.05}),
    (RolloutOutcomeOperator, {"plan_task_id": "p", "rules": RULES, "steps": []}),
    (
        WaveGateOperator,
        {
            "watch_task_id": "w",
            "if_passed": "a",
            "if_ask": None,
            "if_stop": "b",
            "if_over": "c",
        },
    ),
    (AnnounceBreachOperator, {"result": {"verdict": "completed"}}),
    (ReportReleaseOperator, {"package_id": "a"}),
    (ReportWayBackOperator, {"release_run_id": "r"}),
    (FindUnguardedRolloutsOperator, {}),
    (FindUnfinishedOfReleaseOperator, {}),
    (BatchTaskSensor, {**ONE, "timeout": 0.01, "poke_interval": 0.001}),
    (RolloutGuardSensor, {**ONE, "rules": RULES, "timeout": 0.01, "poke_interval": 0.001}),
]
if AIRFLOW_V_3_1_PLUS:
    from iotda_provider.operators.release.approval import (
        BranchByAnswerOperator,
        WaveApprovalOperator,
    )

    ASKED = {"subject": "a", "body": "a", "if_go_on": "a", "if_stop": "b"}
    OPERATORS += [
        (BranchByAnswerOperator, {"subject": "a", "options": ["a"]}),
        (WaveApprovalOperator, {**WAVE, "create_task_id": "c", **ASKED}),
    ]


@pytest.mark.skipif(not AIRFLOW_V_3_1_PLUS, reason="two operators are for Airflow 3.1 and later")
def test_every_operator_and_sensor_is_tried() -> None:
    every = {**inventory.classes("operators"), **inventory.classes("sensors")}
    assert {kind.__name__ for kind, _ in OPERATORS} == set(every)


@pytest.mark.parametrize("kind", [kind for kind, _ in OPERATORS if issubclass(kind, ConnectedTask)])
def test_the_connection_may_be_a_template(kind: type[Any]) -> None:
    assert set(kind.template_fields) >= set(CONNECTION_FIELDS)


def parameters_of(kind: type[Any]) -> list[str]:
    """What of a class's parameters is ours."""
    names: list[str] = []
    for cls in (kind, *kind.__mro__[1:]):
        own = inspect.unwrap(vars(cls).get("__init__", object.__init__))
        if getattr(own, "__module__", "").startswith("iotda_provider"):
            names += inspect.signature(own).parameters
    return [name for name in dict.fromkeys(names) if name not in ("self", "kwargs", "args")]


def in_one_line(error: BaseException) -> None:
    said = str(error)
    assert said.strip(), "it says something"
    assert len(said.splitlines()) == 1, said[:500]
    assert len(said) < 1500, said[:500]


def tried(act: Callable[[], Any]) -> Any:
    """What comes of it; None where it is refused as it should be."""
    began = time.process_time()
    try:
        return act()
    except (ValueError, AirflowException) as refusal:
        in_one_line(refusal)
        return None
    finally:
        assert time.process_time() - began < 20, "it does not hang"


@pytest.fixture
def no_log() -> Iterator[None]:
    """Lone surrogates are logged, which no test process can send to the one that reports.

    Not by the attribute of the manager: loggers that have logged before do not look at it.
    """
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


@pytest.fixture
def no_waiting(iotda, no_log, monkeypatch) -> Any:
    """A platform that refuses whatever comes as far as it, and nobody who waits."""
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    iotda._mocker.register_uri(requests_mock.ANY, requests_mock.ANY, status_code=403, json={})
    return iotda


CASES = [(kind, good, name) for kind, good in OPERATORS for name in parameters_of(kind)]


@pytest.mark.parametrize(
    ("kind", "good", "name"), CASES, ids=[f"{kind.__name__}-{name}" for kind, _, name in CASES]
)
def test_an_operator_takes_a_value_or_refuses_it_in_one_line(
    no_waiting, monkeypatch, ti, kind, good, name
):
    monkeypatch.setattr(branch.BranchOperator, "do_branch", lambda self, *given: given)
    monkeypatch.setattr(questions, "put", lambda ti_id, **question: None)
    field = "batch_task_type" if name == "task_type" else name
    ti.xcom_pull = lambda **named: None
    ti.get_task_states = lambda **named: {}
    dag_run = SimpleNamespace(get_task_instances=list)
    for make in WRONG.values():
        context = {"ti": ti, "dag": None, "dag_run": dag_run}
        operator = tried(lambda make=make: kind(task_id="t", **{**good, name: make()}))
        if operator is not None:
            tried(lambda operator=operator, context=context: operator.execute(context))
        if field in kind.template_fields:
            operator = tried(lambda: kind(task_id="t", **{**good, name: "{{ x }}"}))
            assert operator is not None, "a template is taken"
            setattr(operator, field, make())
            tried(lambda operator=operator, context=context: operator.execute(context))
    assert "/stop" not in str(no_waiting.sent), "nothing is stopped by mistake"


WHOLE_PACKAGE = {
    **PACKAGE,
    "support_source_versions": ["0.9"],
    "description": "a",
    "custom_info": "a",
    "module_name": None,
}
METHODS: dict[str, dict[str, Any]] = {
    "create_batch_task": {"task_name": "a", "task_type": "firmwareUpgrade", "targets": ["a"]},
    "create_batch_task_once": {"task_name": "a", "task_type": "firmwareUpgrade", "targets": ["a"]},
    "get_batch_task": {"batch_task_id": TASK},
    "list_batch_tasks": {"task_type": "firmwareUpgrade", "status": "Success", "app_id": "a"},
    "iter_subtasks": {"batch_task_id": TASK, "status": "Fail", "target": "a"},
    "stop_batch_task": {"batch_task_id": TASK, "targets": ["a"]},
    "stop_whole_tasks": {"batch_task_ids": [TASK]},
    "rehearse_stop": {"batch_task_id": TASK},
    "read_stopped_targets": {"batch_task_id": TASK, "targets": ["a"]},
    "retry_batch_task": {"batch_task_id": TASK, "targets": ["a"]},
    "confirm_batch_task": {"batch_task_id": TASK, "targets": ["a"]},
    "delete_batch_task": {"batch_task_id": TASK},
    "get_device": {"device_id": "a"},
    "read_devices": {"device_ids": ["a"], "product_id": "a"},
    "list_devices": {"product_id": "a", "app_id": "a"},
    "search_devices": {"sql": "select * from device"},
    "list_device_groups": {"name": "a"},
    "create_device_group": {"name": "a", "description": "a"},
    "iter_group_devices": {"group_id": GROUP},
    "change_device_group": {"group_id": GROUP, "device_id": "a", "add": True},
    "list_ota_packages": {"package_type": "firmwarePackage", "product_id": "a", "version": "1"},
    "get_ota_package": {"package_id": "a"},
    "create_ota_package": WHOLE_PACKAGE,
    "create_ota_package_once": WHOLE_PACKAGE,
    "delete_ota_package": {"package_id": "a"},
    "run": {
        "endpoint": "devices",
        "data": None,
        "headers": None,
        "extra_options": None,
        "method": None,
        "params": None,
        "json": None,
    },
}
OPTIONAL = {
    **dict.fromkeys(
        ("group_ids", "document", "task_policy", "need_confirm", "app_id", "task_mode"), None
    ),
    "task_ext_info": None,
}


def test_every_method_of_both_hooks_is_tried() -> None:
    both = vars(IoTDAHook).keys() & vars(IoTDAAsyncHook).keys()
    functions = {name: vars(IoTDAHook)[name] for name in both if not name.startswith("_")}
    takes = {
        name
        for name, function in functions.items()
        if inspect.isfunction(function) and len(inspect.signature(function).parameters) > 1
    }
    assert set(METHODS) == takes


@pytest.mark.parametrize("method", METHODS)
def test_a_hook_takes_an_argument_or_refuses_it_in_one_line(no_waiting, method):
    good = METHODS[method]
    names = [*good, *(OPTIONAL if method.startswith("create_batch_task") else ())]
    for name in names:
        for what, make in WRONG.items():
            if (name, what) == ("targets", "None"):
                continue  # which means the whole task, from code
            if (name, what) == ("extra_options", "an object"):
                continue  # whose unknown names are Python's own matter, as other arguments are

            def call(name: str = name, make: Callable[[], Any] = make) -> Any:
                with IoTDAHook() as hook:
                    got = getattr(hook, method)(**{**good, name: make()})
                    return list(islice(got, 3)) if isinstance(got, Iterator) else got

            tried(call)


async def refusal_of(call: Callable[[], Any]) -> str | None:
    """What is said where a call is refused before it is sent; None where it was sent."""
    try:
        found = call()
        if hasattr(found, "__aiter__"):
            async for _ in found:
                pass
        elif inspect.isawaitable(found):
            await found
        elif isinstance(found, Iterator):
            list(islice(found, 3))
    except IoTDATransportError as error:
        in_one_line(error)
        return None
    except (ValueError, AirflowException) as refusal:
        in_one_line(refusal)
        return str(refusal)
    return None


@pytest.mark.parametrize("method", METHODS)
async def test_the_asynchronous_hook_refuses_what_the_blocking_one_does(
    monkeypatch, no_log, method
):
    connection = {
        "conn_type": "iotda",
        "host": "http://127.0.0.1:1",  # where nobody listens
        "login": "a",
        "password": "b",
        "extra": {"project_id": "p", "region": "cn-north-4", "max_attempts": 1},
    }
    monkeypatch.setenv("AIRFLOW_CONN_IOTDA_DEFAULT", json.dumps(connection))
    good = METHODS[method]
    names = [*good, *(OPTIONAL if method.startswith("create_batch_task") else ())]
    with IoTDAHook() as hook:
        async with IoTDAAsyncHook() as async_hook:
            assert await refusal_of(lambda: getattr(hook, method)(**good)) is None
            for name in names:
                for what, make in WRONG.items():
                    if (name, what) == ("extra_options", "an object"):
                        continue  # as above
                    said = [
                        await refusal_of(
                            lambda one=one, name=name, make=make: getattr(one, method)(
                                **{**good, name: make()}
                            )
                        )
                        for one in (hook, async_hook)
                    ]
                    assert said[0] == said[1], (name, what)


RULE_PARAMETERS: list[tuple[Callable[..., Any], dict[str, Any]]] = [
    (MaxFailures, {"count": 5}),
    (MaxFailureRate, {"rate": 0.1, "min_sample": 10, "denominator": "started"}),
    (SequentialFailureTest, {"tolerated_rate": 0.02, "false_alarm": 0.01, "reporting": None}),
    (
        ReportingDelay,
        {"shares": {0: 1}, "floor": 0, "slack": 60, "counts": "failed", "retries": None},
    ),
    (ReportingDelay.learned, {"delays": [5] * 20, "floor": 0, "slack": 60, "retries": (5, 60)}),
    (Stalled, {"for_seconds": 60}),
    (Overdue, {"after_seconds": 60, "tolerated_rate": 0.1, "false_alarm": 0.1}),
    (Combined, {"rules": [MaxFailures(1)], "weights": None}),
    (EnoughSuccess, {"max_failure_rate": 0.1, "false_go": 0.05}),
    (
        DeviceTrial,
        {
            "metric": "online",
            "required": True,
            "margin": 0.1,
            "false_stop": 0.1,
            "false_go": 0.1,
            "control_size": 10,
            "online_within": 60,
            "method": "loss",
        },
    ),
    (FailureClasses, {"overrides": {}, "defaults": True}),
    (MaintenanceWindow, {"start": "1:00", "end": "2:00", "timezone": "UTC", "days": "mon"}),
    (MaintenanceWindow.of, {"value": "1:00-2:00", "timezone": "UTC"}),
]


def test_every_rule_is_tried() -> None:
    assert set(ALL_RULES.values()) <= {make for make, _ in RULE_PARAMETERS}


@pytest.mark.parametrize(("make_rule", "good"), RULE_PARAMETERS)
def test_a_rule_takes_a_value_or_refuses_it_in_one_line(make_rule, good):
    for name in good:
        for make in WRONG.values():
            tried(lambda name=name, make=make: make_rule(**{**good, name: make()}))


ROLLOUT = {**UPGRADE, "rules": RULES}


@pytest.mark.parametrize(
    "name",
    [name for name in inspect.signature(staged_rollout).parameters if name != "task_arguments"],
)
def test_a_rollout_takes_a_value_or_refuses_it_in_one_line(name):
    for make in WRONG.values():

        def build(make: Callable[[], Any] = make) -> Any:
            with DAG("d", schedule=None, start_date=datetime(2026, 1, 1, tzinfo=timezone.utc)):
                rest = {**ROLLOUT, name: make()}
                if name == "answer_within":
                    rest["on_no_answer"] = "stop"
                return staged_rollout(**{"max_waves": 4, **rest})

        tried(build)


OVER = 1_000.0
PLAN = GuardPlan(
    batch_task_ids=(TASK,), rules=(MaxFailures(5),), cluster_of="(a)", deadline=OVER
).to_dict()
OWNER = {"dag_id": "d", "run_id": "r", "task_id": "t", "map_index": -1}
FILES = ReleaseFiles("d", "r", "p").to_json()
RELEASE = {"guard": PLAN, "files": FILES, "owner": OWNER, "began": 0.0}
PART = Part(1, 1, "a", 1, TASK)
WINDOW = MaintenanceWindow("1:00", "1:00")
IDENTITY = {"installation": "i", "dag_id": "d", "run_id": "r", "task_id": "t"}
CREATE = CreateJob(
    2, 3, 9, (PART,), "a", {"task_type": "firmwareUpgrade"}, IDENTITY, None, OVER, 600.0, WINDOW
)
CONFIRM = ConfirmJob(1, (PART,), False, OVER, 600.0, window=WINDOW)
WATCH = WatchJob(1, (TASK,), 1, True, EnoughSuccess(0.1), OVER, OVER)
REST = RestJob((TASK,), 600.0, 1.0, 0.0, OVER)
QUESTION = QuestionJob(1, (TASK,), "00000000-0000-0000-0000-000000000000", OVER)
TRIGGERS: list[tuple[type[IoTDATrigger], dict[str, Any]]] = [
    (BatchTaskTrigger, {"batch_task_id": TASK, "deadline": OVER}),
    (RolloutGuardTrigger, {"plan": PLAN, "owner": OWNER}),
    (AtRestTrigger, {"job": REST.to_json(), "began": 0.0}),
    (CreateWaveTrigger, {**RELEASE, "job": CREATE.to_json()}),
    (ConfirmWaveTrigger, {**RELEASE, "job": CONFIRM.to_json()}),
    (WatchWaveTrigger, {**RELEASE, "job": WATCH.to_json()}),
    (OpenQuestionTrigger, {**RELEASE, "job": QUESTION.to_json()}),
]


def test_every_trigger_is_tried() -> None:
    assert {kind.__name__ for kind, _ in TRIGGERS} == set(inventory.classes("triggers"))


def stored(kind: type[IoTDATrigger], good: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Arguments as Airflow's database may hold them: each missing, unknown, of another type, and so
    is each field of each object in them."""
    whole = kind(**good).serialize()[1]
    yield "as they are", whole
    yield "none", {}
    yield "unknown", {**whole, "no_such_argument": 1}
    for name, value in whole.items():
        yield f"no {name}", {key: one for key, one in whole.items() if key != name}
        for what, make in WRONG.items():
            yield f"{name}: {what}", {**whole, name: make()}
        if not isinstance(value, dict) or name == "memo":
            continue
        yield f"{name}: unknown field", {**whole, name: {**value, "no_such_field": 1}}
        for field in value:
            rest = {key: one for key, one in value.items() if key != field}
            yield f"{name}: no {field}", {**whole, name: rest}
            for what, make in WRONG.items():
                yield f"{name}: {field}: {what}", {**whole, name: {**value, field: make()}}


class Gone:
    """A hook for which nothing is there any more."""

    async def __aenter__(self) -> Gone:
        return self

    async def __aexit__(self, *error: object) -> None:
        return None

    async def close(self) -> None:
        return None

    def __getattr__(self, name: str) -> Any:
        raise IoTDANotFoundError(404, action=name)


async def first_event(trigger: IoTDATrigger) -> Any:
    async for event in trigger.run():
        return event.payload
    return None


@pytest.mark.parametrize(("kind", "good"), TRIGGERS)
async def test_a_trigger_takes_what_is_stored_of_it_or_refuses_it_in_one_line(
    monkeypatch, no_log, kind, good
):
    monkeypatch.setattr(IoTDATrigger, "hook", lambda self: Gone())
    monkeypatch.setattr(TriggererMemoryStore, "_set_xcom", lambda self, key, value: None)
    monkeypatch.setattr(TriggererMemoryStore, "_get_memories", lambda self: (None, None))

    def may_last(what: str) -> bool:
        """Whether another deadline is tried, with which it may go on looking."""
        return "deadline" in what or "until" in what

    async def take(what: str, arguments: dict[str, Any]) -> bool:
        """Whether they are taken."""
        try:
            trigger = kind(**arguments)
            # A busy machine is slow.
            patience = 0.5 if may_last(what) else 10
            payload = await asyncio.wait_for(first_event(trigger), patience)
            assert payload["batch_task_ids"] == list(trigger.batch_task_ids)
            if "error" in payload:
                in_one_line(error_from_json(payload["error"]))
            return True
        except (ValueError, AirflowException) as refusal:
            in_one_line(refusal)
        except asyncio.TimeoutError:
            assert may_last(what), "with the usual deadline it ends"
        except Exception as fault:
            raise AssertionError(what) from fault
        return False

    cases = list(stored(kind, good))
    ran = sum([await take(*case) for case in cases if not may_last(case[0])])
    await asyncio.gather(*(take(*case) for case in cases if may_last(case[0])))
    assert ran, "they are taken as they are"
