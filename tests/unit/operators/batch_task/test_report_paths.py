"""Where reports go: never upwards, and never over another instance's."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from iotda_provider.exceptions import IoTDAConfigError
from iotda_provider.operators.batch_task import CollectFailedSubtasksOperator, StopBatchTaskOperator
from iotda_provider.operators.release.plan import PlanWavesOperator
from iotda_provider.sensors.batch_task import RolloutGuardSensor
from iotda_provider.task_io.reports import check_report_path

TASK = "5c8f9e2d7a6b4c3d1e0f9a8b"
UPWARDS = [
    "..",
    "../x",
    "/reports/../x",
    "/reports/..",
    "s3://bucket/../x",
    "s3://conn@bucket/a/../../x",
    "file:///reports/../x",
    "/reports/%2e%2e/x",
    "/reports/%2E./x",
    "/reports/.%2e%2fx",
    "/reports/%252e%252e/x",
    "/reports%2f..%2fx",
    "\\reports\\..\\x",
    "/reports/..\\x",
    "/reports/%5c..%5cx",
    "/reports/.. /x",
    "/reports/..;/x",
    "/reports/..?x",
]


@pytest.mark.parametrize("path", UPWARDS)
def test_no_path_leads_upwards(path):
    with pytest.raises(IoTDAConfigError, match=r"^report_path must not hold '\.\.'"):
        check_report_path(path)


@pytest.mark.parametrize("path", ["/a\nb", "/a\x00b", "/" + "a" * 2000])
def test_a_path_is_one_line_of_bounded_length(path):
    with pytest.raises(IoTDAConfigError, match="report_path must be a path or URL of at most"):
        check_report_path(path)


@pytest.mark.parametrize(
    "path", ["/reports/a..b/x..jsonl", "/reports/...", "/reports/./x", "reports/50%/x", "/r/a+b:c"]
)
def test_other_dots_are_part_of_a_name(path):
    assert check_report_path(path) == path


def test_a_run_id_of_two_dots_writes_nothing(iotda, run, tmp_path):
    operator = StopBatchTaskOperator(
        task_id="t", batch_task_id=TASK, report_path="/r/{{ run_id }}/x.jsonl"
    )
    operator.report_path = f"{tmp_path}/../x.jsonl"
    with pytest.raises(IoTDAConfigError, match="report_path must not hold"):
        run(operator)
    guard = RolloutGuardSensor(
        task_id="g", batch_task_id=TASK, rules='[{"rule": "MaxFailures", "count": 1}]'
    )
    guard.report_path = f"{tmp_path}/../x.jsonl"
    with pytest.raises(IoTDAConfigError, match="report_path must not hold"):
        run(guard)
    upgrade = {"task_type": "firmwareUpgrade", "document": {"package_ids": ["a"]}}
    plan = PlanWavesOperator(task_id="p", devices=["a"], waves="100%", gate=0.05, **upgrade)
    plan.manifest_path = f"{tmp_path}/../x.json"
    with pytest.raises(IoTDAConfigError, match="manifest_path must not hold"):
        run(plan)
    assert iotda.sent == []


# --- mapped -----------------------------------------------------------------------------------


class MappedArgument:
    """What Airflow puts into an operator of a task group that is mapped over this parameter."""


def refusal(ti: Any, kind: Any, template: Any, rendered: str, **mapped: Any) -> str:
    """Why the second instance of a mapped task does not run; "" where that is not its report."""
    operator = kind(task_id="t", batch_task_id=TASK, report_path="{{ x }}")
    operator._report_template, operator.report_path = template, rendered
    ti.map_index = 1
    dag = SimpleNamespace(get_task=lambda task_id: SimpleNamespace(**mapped))
    try:
        operator.execute({"ti": ti, "dag": dag})
    except IoTDAConfigError as error:
        return str(error)
    except Exception:  # noqa: BLE001 - it came as far as the platform
        return ""
    return ""


def over(**values: Any) -> dict[str, Any]:
    return {"expand_input": SimpleNamespace(value=values), "partial_kwargs": {}}


def rows(*values: Any) -> dict[str, Any]:
    return {"expand_input": SimpleNamespace(value=list(values)), "partial_kwargs": {}}


A, B = {"batch_task_id": "a"}, {"batch_task_id": "b"}


@pytest.mark.parametrize("kind", [StopBatchTaskOperator, CollectFailedSubtasksOperator])
@pytest.mark.parametrize(
    ("template", "mapped"),
    [
        ("/r/x", over(batch_task_id=["a", "b"])),
        ("/r/{{ run_id }}", over(batch_task_id=["a", "b"])),
        ("/r/x", over(batch_task_id=["a", "b"], report_path=["/r/x"])),
        ("/r/x", over(report_path=["/r/x", "/r/x"])),
        ("/r/x", rows(A, B)),
        ("/r/x", rows({**A, "report_path": "/r/x"}, {**B, "report_path": "/r/x"})),
        ("/r/x", {}),
    ],
)
def test_mapped_instances_that_share_a_report_are_refused(iotda, ti, kind, template, mapped):
    said = refusal(ti, kind, template, "/r/x", **mapped)
    assert "each would overwrite the others' report: put {{ ti.map_index }} into it" in said
    assert iotda.sent == []


@pytest.mark.parametrize("kind", [StopBatchTaskOperator, CollectFailedSubtasksOperator])
@pytest.mark.parametrize(
    ("template", "mapped"),
    [
        ("/r/{{ ti.map_index }}", over(batch_task_id=["a", "b"])),
        ("/r/{{ task_instance.map_index }}", {}),
        ("/r/x", over(report_path=["/r/x", "/r/y"])),
        ("/r/x", rows({**A, "report_path": "/r/x"}, {**B, "report_path": "/r/y"})),
        (MappedArgument(), {}),
    ],
)
def test_mapped_instances_with_reports_of_their_own_run(iotda, ti, kind, template, mapped):
    assert refusal(ti, kind, template, "/r/x", **mapped) == ""


@pytest.mark.parametrize(
    ("path", "environment", "warns"),
    [
        ("/reports/x", {"AIRFLOW_IS_K8S_EXECUTOR_POD": "True"}, True),
        ("file:///reports/x", {"AIRFLOW__CORE__EXECUTOR": "KubernetesExecutor"}, True),
        ("/reports/x", {"AIRFLOW__CORE__EXECUTOR": "LocalExecutor,KubernetesExecutor"}, True),
        ("/reports/x", {"AIRFLOW__CORE__EXECUTOR": "CeleryExecutor"}, False),
    ],
)
def test_a_local_report_that_goes_with_its_pod_is_warned_of(
    path, environment, warns, monkeypatch, caplog
):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)

    assert check_report_path(path) == path

    assert ("file goes with it" in caplog.text) is warns
