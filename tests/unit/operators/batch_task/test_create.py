"""Creating a batch task: what is sent, and what is refused before it is; once only elsewhere."""

from __future__ import annotations

import json
import logging
from datetime import datetime, timezone
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iotda_provider.exceptions import IoTDAConfigError
from iotda_provider.operators.batch_task import CreateBatchTaskOperator
from iotda_provider.procedures.create_once import is_of_release, stamp_in, stamp_of, stamped_name

TASK_ID = "5c8f9e2d7a6b4c3d1e0f9a8b"


def create(**parameters: Any) -> CreateBatchTaskOperator:
    """The operator, with what every upgrade needs."""
    parameters = {
        "task_name": "canary",
        "task_type": "firmwareUpgrade",
        "targets": ["a", "b"],
        "document": {"package_ids": ["p"]},
        **parameters,
    }
    return CreateBatchTaskOperator(task_id="create", **parameters)


@pytest.fixture
def creations(iotda) -> Any:
    """The bodies of the creations that were sent."""
    iotda.answers("GET", "", {"batchtasks": [], "page": {"count": 0}})
    iotda.answers("POST", "", {"json": iotda.task("Initializing"), "status_code": 201})
    return lambda: [r.json() for r in iotda.requests if r.method == "POST"]


def test_the_task_is_returned_and_its_id_is_an_xcom(creations, run):
    xcoms = run(create())

    assert xcoms["batch_task_id"] == xcoms["return_value"]["batch_task_id"] == TASK_ID
    assert xcoms["return_value"]["status"] == "Initializing"
    assert xcoms["return_value"]["created"] is True
    (body,) = creations()
    assert body == {
        "task_name": stamped_name("canary", stamp_of("tests", "dag", "run", "task", -1)),
        "task_type": "firmwareUpgrade",
        "targets": ["a", "b"],
        "document": {"package_ids": ["p"]},
    }


@pytest.mark.parametrize("targets", ['["a", "b"]', "['a', 'b']", ("a", "b"), ["a", "b", "a"]])
@pytest.mark.parametrize("document", [{"package_ids": ["p"]}, '{"package_ids": ["p"]}'])
def test_lists_and_objects_are_taken_in_every_form(creations, run, targets, document):
    run(create(targets=targets, document=document))

    (body,) = creations()
    assert body["targets"] == ["a", "b"]
    assert body["document"] == {"package_ids": ["p"]}


@pytest.mark.parametrize("rendered", [None, "None", ""])
def test_options_rendered_to_nothing_are_not_sent(creations, run, rendered):
    run(create(app_id=rendered, task_policy=rendered, task_ext_info=rendered))

    (body,) = creations()
    assert set(body) == {"task_name", "task_type", "targets", "document"}


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"task_name": "my-rollout"}, r"^task_name must be 1 to 128 letters.*my-rollout"),
        ({"task_name": ""}, r"^task_name was rendered to nothing"),
        ({"task_name": "None"}, r"^task_name was rendered to nothing"),
        ({"task_type": "firmware"}, r"^task_type must be one of"),
        ({"targets": "None"}, r"^targets was rendered to None"),
        ({"targets": "[]"}, r"takes 1 to 30000 targets, got 0"),
        ({"targets": ["a/b"]}, r"^targets\[0\] is not a device id"),
        ({"targets": None}, r"needs targets or group_ids"),
        ({"targets": None, "group_ids": "''"}, r"^group_ids must be a list"),
        ({"document": "[1]"}, r"^document must be an object"),
        ({"task_policy": "soon"}, r"^task_policy must be"),
        ({"app_id": "a/b"}, r"^app_id must be"),
        ({"document": {"other": {1}}}, r"Could not create batch task .*not plain JSON"),
    ],
)
def test_bad_input_is_refused_in_one_line_before_anything_is_created(
    creations, run, parameters, message
):
    with pytest.raises(IoTDAConfigError, match=message) as error:
        run(create(**parameters))
    assert len(str(error.value).splitlines()) == 1
    assert creations() == []


@pytest.mark.parametrize(
    ("parameter", "value"), [("need_confirm", "true"), ("need_confirm", 1), ("on_existing", "x")]
)
def test_a_wrong_parameter_is_named_when_the_dag_is_parsed(parameter, value):
    with pytest.raises(ValueError, match=f"^{parameter} must be"):
        create(**{parameter: value})


def test_a_held_rollout_is_sent_as_one(creations, run):
    run(create(need_confirm=True))

    assert creations()[0]["need_confirm"] is True


@given(
    name=st.text(st.characters(categories=["L", "Nd"]), min_size=1, max_size=200),
    identity=st.tuples(*[st.text()] * 4, st.integers(-1, 1024), st.integers(0, 40)),
    of_release=st.booleans(),
)
def test_a_stamp_fits_the_platform_and_belongs_to_one_task_instance(name, identity, of_release):
    stamp = stamp_of(*identity)
    stamped = stamped_name(name, stamp, of_release=of_release)

    assert len(stamped) <= 128
    assert stamped.replace("_", "a").isalnum()
    assert stamped == stamped_name(name, stamp_of(*identity), of_release=of_release)
    assert (stamp_in(stamped), is_of_release(stamped)) == (stamp, of_release)
    for at, part in enumerate(identity):
        other = part + "x" if isinstance(part, str) else part + 1
        assert stamp_of(*identity[:at], other, *identity[at + 1 :]) != stamp


@pytest.mark.parametrize("name", ["rollout", "x_af" + "a" * 26, "af" + "A" * 26, "_af" + "1" * 26])
def test_other_names_have_no_stamp(name):
    assert (stamp_in(name), is_of_release(name)) == ("", False)


def test_every_documented_template_field_is_one():
    assert set(CreateBatchTaskOperator.template_fields) >= {
        *("task_name", "targets", "group_ids", "document", "task_policy", "app_id"),
        *("iotda_conn_id", "project_id", "instance_id"),
    }


def test_what_is_sent_is_json_that_keeps_every_letter(creations, run):
    run(create(task_name="固件"))

    (body,) = creations()
    assert body["task_name"].startswith("固件_af")
    assert json.loads(json.dumps(body)) == body


@pytest.fixture
def said(monkeypatch) -> list[str]:
    """The warnings in the task's log."""
    lines: list[str] = []
    log = logging.getLogger("create")
    monkeypatch.setattr(log, "warning", lambda text, *values: lines.append(text % values))
    monkeypatch.setattr(CreateBatchTaskOperator, "log", log)
    return lines


@pytest.mark.parametrize(
    ("policy", "words"),
    [
        ({"retry_count": 5, "retry_interval": 60}, "only after 6 attempts and 5 h of waiting"),
        ('{"retry_count": 1, "retry_interval": 30}', "is tried again once, 30 min after"),
        ({"retry_count": 2, "retry_interval": 0}, "no count ever shows its failed attempt"),
    ],
)
def test_it_warns_of_retries_which_hide_failures_from_rules(creations, run, said, policy, words):
    run(create(task_policy=policy))

    assert any(words in line for line in said)
    assert any("counts='attempts'" in line for line in said)


def test_without_retries_it_warns_of_nothing(creations, run, said):
    run(create())
    assert not any("task_policy" in line for line in said)


@pytest.mark.parametrize("field", ["run_after", "data_interval_end"])
@pytest.mark.parametrize(
    ("start", "is_taken"),
    [("20200301T023000Z", True), ("20200301T200000Z", True), ("20200228T220000Z", False)],
    ids=["passed a moment before the run", "has passed since", "yesterday's"],
)
def test_a_start_that_had_passed_before_the_run_does_not_mean_at_once(
    creations, ti, field, start, is_taken
):
    dag_run = SimpleNamespace(**{field: datetime(2020, 3, 1, 3, tzinfo=timezone.utc)})
    context: Any = {"ti": ti, "dag_run": dag_run}
    operator = create(task_policy={"schedule_time": start})
    if is_taken:
        operator.execute(context)
        assert [body["task_policy"] for body in creations()] == [{"schedule_time": start}]
        return
    with pytest.raises(IoTDAConfigError, match=rf"schedule_time {start} had passed long before"):
        operator.execute(context)
    assert creations() == []
