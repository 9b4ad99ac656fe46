"""No secret turns up anywhere: marked ones go through every operator, sensor and trigger there is.

What is new in the provider is picked up by itself. A parameter that this file does not know yet is
an error that says so.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import traceback
from pathlib import Path
from typing import Any, get_origin

import pytest
from airflow.providers.common.compat.sdk import (
    AirflowOptionalProviderFeatureException,
    BaseOperator,
    redact,
)
from airflow.triggers.base import BaseTrigger

from iotda_provider import guards
from iotda_provider.connection.settings import ConnectionSettings
from iotda_provider.exceptions import IoTDAError
from iotda_provider.get_provider_info import get_provider_info
from iotda_provider.hooks.iotda import IoTDAHook
from iotda_provider.hooks.iotda_async import IoTDAAsyncHook
from iotda_provider.operators.batch_task.create import CreateBatchTaskOperator
from iotda_provider.operators.batch_task.stop import StopBatchTaskOperator
from iotda_provider.rollout_guard.plan import GuardPlan

#: What to give for a parameter, as it stands in a DAG file; ``{task}`` is a batch task's id.
VALUES = {
    "batch_task_id": "'{task}'",
    "task_name": "'canary_{task}'",
    "task_type": "'firmwareUpgrade'",
    "targets": "['device-00001']",
    "document": "{{'package_ids': ['32822e5744a45ede319d2c50']}}",
    "rules": "[MaxFailures(count=1)]",
    "failures": "[{{'target': 'device-00001', 'error_code': 'X', 'error_msg': 'y'}}]",
    "requested": "1",
    "if_some": "'after'",
    "verdict": "{{'verdict': 'breached'}}",
    "if_breached": "'after'",
    "if_completed": "'after'",
    "plan": "GuardPlan(batch_task_ids=('{task}',), rules=(MaxFailures(count=1),)).to_dict()",
    "package_id": "'32822e5744a45ede319d2c50'",
    "package_type": "'firmwarePackage'",
    "obs_location": "{{'region_name': 'r', 'bucket_name': 'canary', 'object_key': 'canary'}}",
    "group_ids": "['ca0a']",
    "wave": "1",
    "waves": "['50 %', '100 %']",
    "gate": "EnoughSuccess(0.05)",
    "version": "'2.0.0'",
    "outcome": "{{'outcome': 'stopped'}}",
    "result": "{{'verdict': 'breached'}}",
    "group_name": "'quarantine'",
    "plan_task_id": "'after'",
    "confirm_task_id": "'after'",
    "watch_task_id": "'after'",
    "if_passed": "'after'",
    "if_ask": "'after'",
    "if_stop": "'after'",
    "if_over": "'after'",
    "steps": "[{{'gate': 'after', 'ask': None}}]",
    "owner": "{{'dag_id': 'd', 'run_id': 'r', 'task_id': 't', 'map_index': -1}}",
    "poll_interval": "0.2",
    "poke_interval": "0.2",
    "timeout": "4",
    "max_outage": "1",
}
#: Optional parameters that are given nevertheless, where there are such.
WANTED = {
    "targets",
    "document",
    "requested",
    "if_some",
    "poll_interval",
    "poke_interval",
    "timeout",
    "max_outage",
}
#: What their constructors take from Airflow's own classes.
INHERITED = {"WaveApprovalOperator": {"subject": "'Go on?'", "options": "['yes', 'no']"}}
#: They wait for a person, and talk to Airflow alone.
FOR_PEOPLE = {"WaveApprovalOperator"}
RULES = {name: getattr(guards, name) for name in guards.__all__}
#: Waits for a person, who is not here, and has no connection; needs Airflow 3.1.
WAITS_FOR_A_PERSON = "iotda_provider.operators.release.approval"
#: These act on every device or wait for people; they are tried without targets.
WHOLE = {"CollectFailedSubtasksOperator"}
#: What succeeds with these values alone; others need the tasks of a release before them.
SUFFICIENT = {
    "AnnounceBreachOperator",
    "BatchTaskSensor",
    "BranchOnTargetFailuresOperator",
    "BranchOnVerdictOperator",
    "CollectFailedSubtasksOperator",
    "ConfirmBatchTaskOperator",
    "CreateBatchTaskOperator",
    "CreateOtaPackageOperator",
    "DeleteBatchTaskOperator",
    "ListBatchTasksOperator",
    "RetryBatchTaskOperator",
    "RolloutGuardSensor",
    "StopBatchTaskOperator",
}
GOOD = ("aksk", "token", "agency", "federation")
BAD = ("wrong", "forbidden", "echoing", "down")

HEAD = """
from airflow.providers.common.compat.sdk import DAG
from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.providers.standard.operators.python import PythonOperator
from iotda_provider.guards import EnoughSuccess, MaxFailures
{imports}

with DAG("canary", schedule=None):
    after = EmptyOperator(task_id="after", trigger_rule="all_done")
"""


def leaves(kind: type) -> list[type]:
    """Every class of this kind in the provider that is not merely a base of others."""
    packages = [f"iotda_provider.{name}" for name in ("operators", "sensors", "triggers")]
    modules = {
        module.name
        for package in packages
        for module in pkgutil.walk_packages(
            importlib.import_module(package).__path__, prefix=f"{package}."
        )
    }
    info = get_provider_info()
    for section in ("operators", "sensors", "triggers"):
        for entry in info.get(section, ()):
            modules |= set(entry["python-modules"])
    modules.discard(WAITS_FOR_A_PERSON)
    loaded = []
    for module in modules:
        try:
            loaded.append(importlib.import_module(module))
        except AirflowOptionalProviderFeatureException:  # Airflow 2: nobody in the loop
            continue
    found = {
        thing
        for module in loaded
        for thing in vars(module).values()
        if inspect.isclass(thing)
        and not get_origin(thing)  # in Python 3.10 types with parameters count as classes
        and issubclass(thing, kind)
        and thing.__module__.startswith("iotda_provider.")
    }
    bases = {base for thing in found for base in thing.__mro__[1:]}
    bases -= {CreateBatchTaskOperator, StopBatchTaskOperator}
    return sorted(found - bases, key=lambda thing: thing.__name__)


def parameters(thing: type) -> dict[str, inspect.Parameter]:
    """The keyword parameters that the provider's own constructors take."""
    found: dict[str, inspect.Parameter] = {}
    for base in thing.__mro__:
        if base.__module__.startswith("iotda_provider.") and "__init__" in vars(base):
            for name, parameter in inspect.signature(base.__init__).parameters.items():
                if parameter.kind is inspect.Parameter.KEYWORD_ONLY:
                    found.setdefault(name, parameter)
    return found


def guessed(parameter: inspect.Parameter) -> str:
    """A value for a parameter that VALUES does not know, by its name and annotation."""
    name, annotation = parameter.name, str(parameter.annotation)
    if name.endswith("task_id") or name.startswith("if_"):
        return "'after'"
    for word, value in (
        ("Mapping", "{{}}"),
        ("dict", "{{}}"),
        ("Sequence", "['canary']"),
        ("list", "['canary']"),
        ("bool", "False"),
        ("int", "1"),
        ("float", "1.0"),
    ):
        if word in annotation:
            return value
    return "'canary'"


def arguments(thing: type, task: str, **more: str) -> dict[str, str]:
    """Arguments for one of them, as source text."""
    known = parameters(thing)
    needed = [name for name, p in known.items() if p.default is inspect.Parameter.empty]
    wanted = needed + [name for name in known if name in WANTED and name not in needed]
    if issubclass(thing, BaseOperator) and "Sensor" in thing.__name__:
        wanted += ["timeout", "poke_interval"]
    given = {
        name: (VALUES.get(name) or guessed(known[name])).format(task=task)
        for name in dict.fromkeys(wanted)
    }
    given |= INHERITED.get(thing.__name__, {})
    return given | {name: text for name, text in more.items() if name in known}


def made(thing: type, task: str, **more: str) -> Any:
    """One of them; where it can't be made, VALUES needs an entry."""
    given = arguments(thing, task, **more)
    if issubclass(thing, BaseOperator):
        given["task_id"] = "'one'"
    text = ", ".join(f"{key}={value}" for key, value in given.items())
    try:
        return eval(f"Thing({text})", {**RULES, "GuardPlan": GuardPlan, "Thing": thing})
    except Exception as error:  # noqa: BLE001 - whatever it dislikes
        pytest.fail(f"{thing.__name__}({text}): {error}. Say in VALUES what to give it")


def task_id(number: int) -> str:
    return f"{number:024x}"


# --- the tests ----------------------------------------------------------------------------------


def canary_dag(file: Path) -> set[str]:
    """Every operator and sensor, blocking and deferred, with good and with bad connections."""
    operators = leaves(BaseOperator)
    imports = "\n".join(f"from {op.__module__} import {op.__name__}" for op in operators)
    lines = [HEAD.format(imports=imports)]
    tasks: set[str] = set()

    def add(operator: type, connection: str, **more: str) -> None:
        task = task_id(len(tasks))
        name = "_".join([operator.__name__, connection, *(f"{k}_{v}" for k, v in more.items())])
        given = arguments(operator, task, iotda_conn_id=repr(connection), **more)
        if operator.__name__ in WHOLE:
            given.pop("targets", None)
        text = ", ".join(f"{key}={value}" for key, value in given.items())
        lines.append(f"    {operator.__name__}(task_id={name!r}, {text}) >> after\n")
        tasks.add(name)

    for position, operator in enumerate(operators):
        if operator.__name__ in FOR_PEOPLE:
            continue
        talks = "iotda_conn_id" in parameters(operator)
        modes = [{}]
        if "deferrable" in parameters(operator):
            modes = [{"deferrable": "False"}, {"deferrable": "True"}]
        for mode in modes:
            add(operator, GOOD[position % len(GOOD)] if talks else "none", **mode)
            position += 1
        for mode in modes if talks else ():
            add(operator, "echoing", **mode)
            add(operator, BAD[position % len(BAD)].replace("echoing", "wrong"), **mode)
            position += 1
    file.write_text("".join(lines))
    return tasks


def test_no_secret_is_kept_or_logged_even_without_airflows_masker(
    secrets, without_masker, run_dag, assert_absent, everything_kept, tmp_path
):
    file = tmp_path / "canary.py"
    tasks = canary_dag(file)
    run = run_dag(file)

    ended = {task: state for task, state in run.states.items() if task in tasks}
    assert set(ended) == tasks
    assert set(ended.values()) <= {"success", "failed", "skipped"}, ended
    good = {f"{name}_{kind}" for name in SUFFICIENT for kind in (*GOOD, "none")}
    good = [task for task in tasks if task.split("_deferrable")[0] in good]
    assert len(good) >= len(SUFFICIENT)
    assert not [task for task in good if ended[task] == "failed"], ended
    assert "failed" in ended.values()
    assert len(secrets.signatures) >= len(good), "what is looked for did exist"
    assert secrets.emulator.instance.iam.given_secrets()
    assert "refused: " in run.log, "and there were answers that echo what they were sent"
    assert_absent(everything_kept(run))


LEAKS = """
from airflow.providers.common.compat.sdk import DAG
from airflow.providers.standard.operators.python import PythonOperator


def leak(conn_id):
    import asyncio
    from iotda_provider.hooks.iotda import IoTDAHook
    from iotda_provider.hooks.iotda_async import IoTDAAsyncHook

    with IoTDAHook(conn_id) as hook:
        hook.test_connection()
        held = (
            getattr(hook._transport.authenticator, "_token", None)
            or hook._transport.authenticator._key
        )
        print("what was obtained:", vars(held.value))
        answer = hook.run("batchtasks", params={"task_type": "firmwareUpgrade"})
        print("sent by the blocking hook:", dict(answer.request.headers))
        print("the settings:", vars(hook.settings))
        raised = ValueError("an error with " + str(dict(answer.request.headers)))

    async def again():
        async with IoTDAAsyncHook(conn_id) as hook:
            answer = await hook.run("batchtasks", params={"task_type": "firmwareUpgrade"})
            print("sent by the other:", dict(answer.request_info.headers))

    asyncio.run(again())
    raise raised


with DAG("leaks", schedule=None):
    for name in ("aksk", "token", "agency", "federation"):
        PythonOperator(task_id=name, python_callable=leak, op_args=[name])
"""


def test_task_that_prints_its_secrets_prints_stars(secrets, run_dag, assert_absent, tmp_path):
    """All of them are known to Airflow's masker: those of the connection, what was obtained for
    them, and the signatures of requests that are handed out."""
    file = tmp_path / "leaks.py"
    file.write_text(LEAKS)
    run = run_dag(file)

    assert set(run.states.values()) == {"failed"}
    assert run.log.count("what was obtained:") == 4
    assert run.log.count("sent by the blocking hook:") == 4
    assert run.log.count("sent by the other:") == 4
    # dag.test() lets output through as it is; a task's own process redacts it, with this function.
    assert_absent({"the log": redact(run.log).encode()})
    with pytest.raises(AssertionError):
        assert_absent({"the log": run.log.encode()})


def test_reprs_and_errors_show_no_secret(secrets, without_masker, assert_absent):
    places: dict[str, bytes] = {}

    def keep(name: str, thing: object) -> None:
        texts = [repr(thing), str(thing)]
        if not isinstance(thing, ConnectionSettings):  # which is there to hold them
            texts.append(repr(getattr(thing, "__dict__", None)))
        if isinstance(thing, BaseException):
            texts += traceback.format_exception(thing)
            texts += [repr(thing.__cause__), repr(thing.__context__), repr(thing.args)]
        places[name] = "\n".join(texts).encode()

    for name in (*GOOD, *BAD):
        with IoTDAHook(name) as hook:
            try:
                hook.get_batch_task(task_id(1))
            except IoTDAError as error:
                keep(f"{name}: error", error)
            works, text = hook.test_connection()
            assert works is (name in GOOD), (name, text)
            places[f"{name}: test"] = text.encode()
            keep(f"{name}: hook", hook)
            keep(f"{name}: settings", hook.settings)
            keep(f"{name}: authenticator", hook._transport.authenticator)
            keep(f"{name}: asynchronous hook", IoTDAAsyncHook(name))
    assert len([place for place in places if place.endswith("error")]) == len(BAD)

    for thing in (*leaves(BaseOperator), *leaves(BaseTrigger)):
        thing_itself = made(thing, task_id(1), iotda_conn_id="'aksk'")
        keep(thing.__name__, thing_itself)
        if isinstance(thing_itself, BaseTrigger):
            keep(f"{thing.__name__}, serialized", thing_itself.serialize())
    assert secrets.signatures
    assert_absent(places)


def test_canary_knows_every_operator_sensor_and_trigger():
    names = {thing.__name__ for thing in leaves(BaseOperator)}

    assert {"StopBatchTaskOperator", "BatchTaskSensor", "CreateBatchTaskOperator"} <= names
    assert leaves(BaseTrigger)
    for thing in (*leaves(BaseOperator), *leaves(BaseTrigger)):
        made(thing, task_id(0))
