"""What the forms of the shipped DAGs take."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest

DAGS = Path(__file__).resolve().parents[3] / "dags"
TASK, GROUP = "5c8f9e2d7a6b4c3d1e0f9a8b", "e495cf17-ff79-4294-8f64-4d367919d665"
GOOD = {
    "stop_batch_task": {"batch_task_id": TASK},
    "firmware_release": {"package_id": "0f7b1c2d3e4f", "group_ids": [GROUP]},
}


def filled(name: str, **values: Any) -> dict[str, Any]:
    """The form of a DAG, filled in and checked as Airflow does when a run is started."""
    spec: Any = importlib.util.spec_from_file_location(name, DAGS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    dag = getattr(module, name)()
    params = dag.params
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
        ("firmware_release", "group_ids", ["north"]),
        ("firmware_release", "group_ids", ["a" * 37]),
    ],
)
def test_a_form_takes_no_other_connection_and_no_unbounded_text(name, field, value):
    with pytest.raises(Exception, match=r"Invalid input|is not|does not match|too long"):
        filled(name, **{field: value})
