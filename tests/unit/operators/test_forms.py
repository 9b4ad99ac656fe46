"""What the forms of the shipped DAGs take."""

from __future__ import annotations

import ast
import importlib.util
import json
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from iotda_provider.notifications.telling_task import TellingTask

DAGS = Path(__file__).resolve().parents[3] / "dags"
TASK, GROUP = "5c8f9e2d7a6b4c3d1e0f9a8b", "e495cf17-ff79-4294-8f64-4d367919d665"
GOOD = {
    "stop_batch_task": {"batch_task_id": TASK},
    "firmware_release": {"package_id": "0f7b1c2d3e4f", "group_ids": [GROUP]},
    "roll_back_release": {"release_run_id": "manual__1", "package_id": "0f7b1c2d3e4f"},
    "build_to_fleet": {
        "product_id": "64f0c1d2",
        "version": "2.0.0",
        "object_key": "sensor/2.0.0.bin",
        "group_ids": [GROUP],
    },
}
HOWTO = DAGS.parent / "docs" / "howto"


def loaded(name: str, file: Path) -> Any:
    """The DAG of a file."""
    spec: Any = importlib.util.spec_from_file_location(name, file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return getattr(module, name)()


def filled(name: str, **values: Any) -> dict[str, Any]:
    """The form of a DAG, filled in and checked as Airflow does when a run is started."""
    params = loaded(name, DAGS / f"{name}.py").params
    params.update({**GOOD[name], **values})
    return dict(params.validate())


@pytest.mark.parametrize("name", GOOD)
def test_a_form_that_is_filled_in_well_is_taken(name):
    assert GOOD[name].items() <= filled(name).items()


@pytest.mark.parametrize(
    ("name", "field", "value"),
    [
        ("stop_batch_task", "iotda_conn_id", "another"),
        ("stop_batch_task", "iotda_conn_id", "../../other/secret"),
        ("stop_batch_task", "iotda_conn_id", ""),
        ("stop_batch_task", "iotda_conn_id", None),
        ("stop_batch_task", "project_id", "../x"),
        ("stop_batch_task", "project_id", "a" * 65),
        ("stop_batch_task", "instance_id", "a b"),
        ("stop_batch_task", "instance_id", "a" * 65),
        ("stop_batch_task", "targets", ["device 1"]),
        ("stop_batch_task", "targets", ["a" * 129]),
        ("firmware_release", "group_ids", ["north"]),
        ("firmware_release", "group_ids", ["a" * 37]),
        ("roll_back_release", "release_run_id", ""),
        ("roll_back_release", "release_run_id", "a" * 251),
        ("roll_back_release", "package_id", "../x"),
        ("roll_back_release", "how", "never"),
        ("roll_back_release", "tolerated_rate", 0.3),
        ("roll_back_release", "report_within_minutes", 3000),
        ("roll_back_release", "bake_minutes", 0),
    ],
)
def test_a_form_takes_no_other_connection_and_no_unbounded_text(name, field, value):
    with pytest.raises(
        Exception, match=r"Invalid input|is not|does not match|too long|is (less|greater) than"
    ):
        filled(name, **{field: value})


@pytest.mark.parametrize(
    ("name", "field", "ids", "task_id", "parameter"),
    [
        ("stop_batch_task", "targets", ["device-1", "device-2"], "stop_some_devices", "targets"),
        ("firmware_release", "group_ids", [GROUP], "check", "group_ids"),
        ("firmware_release", "group_ids", [GROUP], "rollout.plan", "group_ids"),
        ("build_to_fleet", "source_versions", ["1.0"], "register", "support_source_versions"),
        ("build_to_fleet", "group_ids", [GROUP], "release", "conf"),
    ],
)
def test_blank_lines_and_spaces_in_a_list_do_not_count(name, field, ids, task_id, parameter):
    """Airflow 3 hands a list on as it was pasted, with the line break at its end."""
    pasted = ["", *(f" {one}\t" for one in ids), "", "  "]
    context = {
        "params": filled(name, **{field: pasted}),
        "ti": SimpleNamespace(xcom_pull=lambda *task, **key: "p"),
    }
    task = loaded(name, DAGS / f"{name}.py").get_task(task_id)
    found = json.loads(task.render_template(getattr(task, parameter), context))
    assert (found["group_ids"] if parameter == "conf" else found) == ids


@pytest.mark.parametrize("none", [None, [], ["", " "]])
def test_a_form_without_source_versions_names_none(none):
    params = filled("build_to_fleet", source_versions=none)
    task = loaded("build_to_fleet", DAGS / "build_to_fleet.py").get_task("register")
    rendered = task.render_template(task.support_source_versions, {"params": params})
    assert json.loads(rendered) is None


def adapted(name: str, folder: Path, before: str, now: str) -> Path:
    """A copy of a DAG file, in which a user has changed something at its top."""
    text = (DAGS / f"{name}.py").read_text(encoding="utf-8")
    assert text.count(before) == 1
    file = folder / f"{name}.py"
    file.write_text(text.replace(before, now), encoding="utf-8")
    return file


@pytest.mark.parametrize("name", ["firmware_release", "roll_back_release"])
def test_whoever_is_named_at_the_top_of_the_file_is_told_by_every_task_that_tells(name, tmp_path):
    somebody = (
        "from airflow.providers.smtp.notifications.smtp import SmtpNotifier\n"
        'NOTIFIERS = [SmtpNotifier(to="ann@example.com")]'
    )
    file = adapted(name, tmp_path, "NOTIFIERS: list[Any] = []", somebody)
    told_by = {
        task.task_id.split(".")[-1]: str(task.notifiers)
        for task in loaded(name, file).tasks
        if isinstance(task, TellingTask)
    }
    assert {"wave_1_confirm", "wave_1_watch", "wave_1_gate", "outcome", "report"} <= set(told_by)
    assert {task for task, whom in told_by.items() if "ann@example.com" not in whom} == set()


def test_whoever_is_named_there_is_told_of_a_stop_by_hand(tmp_path):
    somebody = (
        "from airflow.providers.smtp.notifications.smtp import SmtpNotifier\n"
        'NOTIFIERS = [SmtpNotifier(to="ann@example.com")]'
    )
    file = adapted("stop_batch_task", tmp_path, "NOTIFIERS: list[Any] = []", somebody)
    dag = loaded("stop_batch_task", file)
    for task_id in ("stop_the_whole_task", "stop_some_devices"):
        assert "ann@example.com" in str(dag.get_task(task_id).notifiers)


def test_a_way_back_ends_as_rolled_back():
    outcome = loaded("roll_back_release", DAGS / "roll_back_release.py").get_task(
        "way_back.outcome"
    )
    assert outcome.released_as == "rolled_back"


@pytest.mark.parametrize("name", ["firmware_release", "roll_back_release"])
def test_every_task_takes_the_connection_at_the_top_of_the_file(name, tmp_path):
    here, now = 'CONNECTION = "iotda_default"', 'CONNECTION = "of_the_plant"'
    file = adapted(name, tmp_path, here, now)
    of_task = {
        task.task_id: getattr(task, "iotda_conn_id", None) for task in loaded(name, file).tasks
    }
    assert {conn_id for conn_id in of_task.values() if conn_id} == {"of_the_plant"}
    assert {"at_rest", "reconcile", "report", "unfinished"} <= {
        task_id for task_id, conn_id in of_task.items() if conn_id
    }


def test_the_release_can_be_read_beside_its_form():
    text = (DAGS / "firmware_release.py").read_text(encoding="utf-8")
    (form,) = (
        node
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.keyword) and node.arg == "params"
    )
    of_form = form.end_lineno - form.lineno + 1
    assert of_form > 100, "it is the form"
    assert len(text.splitlines()) - of_form < 300


@pytest.mark.parametrize(
    "page", [HOWTO / "roll-back.md", DAGS / "roll_back_release.py", DAGS / "firmware_release.py"]
)
def test_the_form_takes_the_command_of_the_documentation(page):
    examples = re.findall(
        r"airflow dags trigger (\w+) --conf \\+\n *'(\{.*?\})'", page.read_text(encoding="utf-8")
    )
    assert examples
    for name, conf in examples:
        known = loaded(name, DAGS / f"{name}.py").params
        assert set(json.loads(conf)) <= set(known)
        assert json.loads(conf).items() <= filled(name, **json.loads(conf)).items()
