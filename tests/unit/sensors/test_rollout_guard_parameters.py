"""A guard's parameters: those that would leave a rollout unguarded are refused at once."""

from __future__ import annotations

import json
from functools import partial
from typing import Any

import pytest

from iotda_provider.exceptions import IoTDAConfigError
from iotda_provider.guards import (
    Combined,
    EnoughSuccess,
    MaxFailures,
    SequentialFailureTest,
    rules_to_json,
)
from iotda_provider.sensors.batch_task import RolloutGuardSensor
from iotda_provider.task_io.dag_parameters import importable_path

TASK = "5c8f9e2d7a6b4c3d1e0f9a8b"


def tell(alert: Any) -> None:
    """A user's function."""


def guard(**parameters: Any) -> RolloutGuardSensor:
    given = {"task_id": "guard", "batch_task_id": TASK, "rules": MaxFailures(5)}
    return RolloutGuardSensor(**{**given, "deferrable": False, **parameters})


@pytest.mark.parametrize(
    ("parameters", "says"),
    [
        ({"rules": []}, "at least one rule"),
        ({"rules": "MaxFailures(5)"}, "not JSON"),
        ({"rules": [{"rule": "MaxFailures", "count": 0}]}, "count"),
        ({"rules": EnoughSuccess(0.05)}, "gate between waves"),
        ({"rules": SequentialFailureTest(0.02, leave_worst_out=True)}, "cluster_of"),
        ({"rules": Combined([SequentialFailureTest(0.02, leave_worst_out=True)])}, "cluster_of"),
        ({"cluster_of": "lyon"}, "one group"),
        ({"cluster_of": "(("}, "cluster_of"),
        ({"cluster_of": 5}, "cluster_of"),
        ({"failure_classes": {"X": "bad"}}, "failure_classes"),
        ({"on_guard_lost": "shrug"}, "on_guard_lost"),
        ({"poke_interval": 0}, "poke_interval"),
        ({"stop_timeout": 0}, "stop_timeout"),
        ({"max_outage": -1}, "max_outage"),
        ({"audit_limit": 3}, "audit_limit"),
        ({"mode": "reschedule"}, "mode"),
        ({"soft_fail": True}, "soft_fail"),
        ({"silent_fail": True}, "silent_fail"),
        ({"never_fail": True}, "never_fail"),
        ({"shadow": True, "stop_on_kill": True}, "stop_on_kill"),
        ({"deferrable": True, "on_alert": lambda alert: None}, "on_alert"),
    ],
)
def test_what_makes_no_sense_is_refused_when_the_dag_is_parsed(
    parameters: dict[str, Any], says: str
) -> None:
    with pytest.raises(ValueError, match=says):
        guard(**parameters)


@pytest.mark.parametrize(
    "rules",
    [
        MaxFailures(5),
        [MaxFailures(5)],
        (MaxFailures(5),),
        {"rule": "MaxFailures", "count": 5},
        [{"rule": "MaxFailures", "count": 5}],
        '[{"rule": "MaxFailures", "count": 5}]',
        rules_to_json(MaxFailures(5)),
    ],
)
def test_rules_are_objects_or_json_of_them(rules: Any) -> None:
    assert guard(rules=rules)._plan().rules == (MaxFailures(5),)


def test_rules_that_are_rendered_later_are_checked_later() -> None:
    sensor = guard(rules='[{"rule": "MaxFailures", "count": {{ params.count }}}]')

    sensor.rules = '[{"rule": "MaxFailures", "count": 0}]'
    with pytest.raises(ValueError, match="count"):
        sensor._plan()


@pytest.mark.parametrize("ids", [[TASK, "ab"], f'["{TASK}", "ab"]', f"['{TASK}', 'ab', 'ab']"])
def test_a_rollout_may_be_several_tasks_in_any_form_of_a_list(ids: Any) -> None:
    assert guard(batch_task_id=ids)._plan().batch_task_ids == (TASK, "ab")


@pytest.mark.parametrize("ids", ["None", "", "[]", [], [None], "x y", None])
def test_an_id_that_is_none_guards_nothing_and_says_so(ids: Any) -> None:
    with pytest.raises(IoTDAConfigError, match="batch_task_id"):
        guard(batch_task_id=ids)._plan()


def test_a_deferred_guard_names_its_function_by_its_path() -> None:
    assert importable_path("json.dumps", "on_alert") == "json.dumps"
    assert importable_path(json.dumps, "on_alert") == "json.dumps"
    assert importable_path(None, "on_alert") is None
    for local in (lambda alert: None, partial(print, "alert")):
        with pytest.raises(ValueError, match=r"^on_alert: what is deferred needs a function"):
            guard(deferrable=True, on_alert=local)


def test_a_plan_survives_the_way_to_the_triggerer() -> None:
    sensor = guard(
        batch_task_id=[TASK, "ab"],
        rules=[SequentialFailureTest(0.02, leave_worst_out=True), MaxFailures(7)],
        cluster_of={"a": "lyon"},
        failure_classes={"X": "firmware"},
        stop_on_breach=True,
        on_guard_lost="stop",
    )
    plan = sensor._plan()

    assert type(plan).from_dict(plan.to_dict()) == plan
