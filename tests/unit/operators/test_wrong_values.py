"""Numbers that were versions, lists that were numbers: what templates make of values."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowException

from iotda_provider.exceptions import IoTDAConfigError
from iotda_provider.operators.batch_task import (
    CollectFailedSubtasksOperator,
    ConfirmBatchTaskOperator,
    CreateBatchTaskOperator,
    ListBatchTasksOperator,
    StopBatchTaskOperator,
)
from iotda_provider.operators.branch import BranchOnTargetFailuresOperator, BranchOnVerdictOperator
from iotda_provider.operators.release.check import CheckReleaseOperator
from iotda_provider.operators.release.plan import PlanWavesOperator
from iotda_provider.operators.release.quarantine import QuarantineDevicesOperator
from iotda_provider.operators.release.reconcile import ReconcileReleaseOperator

TASK = "5c8f9e2d7a6b4c3d1e0f9a8b"
UPGRADE = {"task_name": "a", "task_type": "firmwareUpgrade", "targets": ["a"]}
RECONCILE = {
    "version": "1.10",
    "outcome": {"verdict": "released", "wave": 1, "waves": 1, "approved_by_person": []},
    "plan_task_id": "plan",
    "gate": 0.05,
}
PLAN = {
    "devices": ["a"],
    "task_type": "firmwareUpgrade",
    "document": {"package_ids": ["a"]},
    "waves": "100%",
    "gate": 0.05,
}
#: What native rendering makes of 1.10, 2026.10, 1e3, 0x10, 1_0, an IMEI, True and 1,2.
NUMBERS = [1.1, 2026.1, 1000.0, 16, 10, 861234567890123, True, (1, 2)]

TEXTS: list[tuple[type[Any], dict[str, Any], str]] = [
    (StopBatchTaskOperator, {"batch_task_id": TASK}, "batch_task_id"),
    (ConfirmBatchTaskOperator, {"batch_task_id": TASK}, "batch_task_id"),
    (StopBatchTaskOperator, {"batch_task_id": TASK}, "iotda_conn_id"),
    (StopBatchTaskOperator, {"batch_task_id": TASK}, "project_id"),
    (StopBatchTaskOperator, {"batch_task_id": TASK}, "instance_id"),
    (StopBatchTaskOperator, {"batch_task_id": TASK}, "report_path"),
    (CreateBatchTaskOperator, UPGRADE, "task_name"),
    (CreateBatchTaskOperator, UPGRADE, "app_id"),
    (ListBatchTasksOperator, {}, "app_id"),
    (CheckReleaseOperator, {"package_id": "a", "group_ids": ["a"]}, "package_id"),
    (ReconcileReleaseOperator, RECONCILE, "version"),
    (ReconcileReleaseOperator, RECONCILE, "product_id"),
    (QuarantineDevicesOperator, {"targets": ["a"], "group_name": "a"}, "group_name"),
    (QuarantineDevicesOperator, {"targets": ["a"], "group_name": "a"}, "description"),
    (PlanWavesOperator, PLAN, "manifest_path"),
]


@pytest.mark.parametrize(("kind", "good", "name"), TEXTS)
@pytest.mark.parametrize("value", NUMBERS)
def test_a_number_is_no_text_neither_in_a_dag_nor_out_of_a_template(
    iotda, run, kind, good, name, value
):
    with pytest.raises(ValueError, match=rf"^{name} must be .*got (the|a) {type(value).__name__}"):
        kind(task_id="t", **{**good, name: value})
    operator = kind(task_id="t", **{**good, name: "{{ x }}"})
    setattr(operator, name, value)
    with pytest.raises(AirflowException, match=name) as refusal:
        run(operator)
    said = str(refusal.value)
    assert type(value).__name__ in said
    assert ("mapped" if isinstance(value, tuple) else "native") in said
    assert f"'{value}'" not in said, "no id that looks valid"
    assert len(said.splitlines()) == 1
    assert iotda.sent == []


@pytest.mark.parametrize(
    ("kind", "good", "name", "value"),
    [
        (StopBatchTaskOperator, {"batch_task_id": TASK}, "targets", [861234567890123]),
        (CreateBatchTaskOperator, UPGRADE, "targets", [861234567890123]),
        (CreateBatchTaskOperator, UPGRADE, "group_ids", [12345]),
        (CreateBatchTaskOperator, UPGRADE, "document", {"package_ids": [328225744]}),
        (CreateBatchTaskOperator, UPGRADE, "document", {"package_id": 328225744}),
        (CreateBatchTaskOperator, UPGRADE, "document", {"package_ids": ["a"], "version": 1.1}),
        (CollectFailedSubtasksOperator, {"batch_task_id": TASK}, "batch_task_id", [12345]),
        (QuarantineDevicesOperator, {"targets": [], "group_name": "a"}, "targets", [86123456]),
    ],
)
def test_a_number_within_a_list_or_an_object_is_no_text_either(iotda, run, kind, good, name, value):
    operator = kind(task_id="t", **{**good, name: "{{ x }}"})
    setattr(operator, name, value)
    with pytest.raises(IoTDAConfigError, match=rf"{name}.*(int|float).*native"):
        run(operator)
    assert iotda.sent == []


# --- mapped tasks ---------------------------------------------------------------------------------


class LazyXComSequence(Sequence[Any]):
    """What Airflow hands over for the XCom of a mapped task: its items, one at a time."""

    def __init__(self, items: list[Any]) -> None:
        self._items = items

    def __len__(self) -> int:
        return len(self._items)

    def __getitem__(self, at: Any) -> Any:
        return self._items[at]

    def __iter__(self) -> Iterator[Any]:
        return iter(self._items)


ROW = {"target": "a", "error_code": "IOTDA.014219", "error_msg": "x", "failure_class": "unknown"}
FORMS = {"list": list, "xcom": LazyXComSequence, "rendered": str}


@pytest.fixture
def follow(ti, monkeypatch) -> Any:
    """The task ids that a branch follows."""

    def choose(**parameters: Any) -> Any:
        operator = BranchOnTargetFailuresOperator(
            task_id="branch", if_none="none", if_some="some", if_all="all", **parameters
        )
        monkeypatch.setattr(operator, "do_branch", lambda context, chosen: chosen)
        return operator.execute({"ti": ti})

    return choose


@pytest.mark.parametrize("form", FORMS)
def test_the_numbers_of_a_mapped_task_are_added_up(follow, form):
    make = FORMS[form]
    assert follow(failures=[], requested=make([100, 200]), failed=make([0, 0])) == ["none"]
    assert follow(failures=[ROW], requested=make([100, 200]), failed=make([1, 1])) == ["some"]
    assert follow(failures=[ROW], requested=make([1, 1]), failed=make([2])) == ["all"]
    assert follow(failures=[ROW], requested=make([300]), failed=make([2])) == ["some"]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("failures", [[[ROW], [ROW]], [[], [ROW, ROW]], [[ROW, ROW]], [ROW, ROW]])
def test_the_rows_of_a_mapped_task_are_one_list(follow, form, failures):
    assert follow(failures=FORMS[form](failures), requested=2) == ["all"]
    assert follow(failures=FORMS[form](failures), requested=3) == ["some"]


@pytest.mark.parametrize("failures", [[[]], [[], []]])
def test_where_no_instance_has_failures_there_are_none(follow, failures):
    assert follow(failures=LazyXComSequence(failures), requested=2) == ["none"]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("failures", [[ROW], ROW]),
        ("failures", [[ROW], None]),
        ("failures", [[[ROW]]]),
        ("failures", "LazySelectSequence([2 items])"),
        ("requested", [1, None]),
        ("requested", [1, "a"]),
        ("requested", [1.5]),
        ("requested", [True]),
        ("requested", [["a"], ["b"]]),
        ("requested", "LazySelectSequence([2 items])"),
    ],
)
def test_what_is_neither_is_refused_and_may_be_of_a_mapped_task(follow, name, value):
    with pytest.raises(IoTDAConfigError, match=rf"^{name}.*mapped"):
        follow(**{"failures": [ROW], "requested": 2, name: value})


def test_ids_that_became_numbers_are_no_count(follow):
    with pytest.raises(IoTDAConfigError, match="requested must be a whole number from 0 to"):
        follow(failures=[ROW], requested=[861234567890123, 861234567890124])


@pytest.mark.parametrize("form", FORMS)
def test_one_task_is_not_the_list_of_a_mapped_task(iotda, run, form):
    operator = StopBatchTaskOperator(task_id="t", batch_task_id="{{ x }}")
    operator.batch_task_id = FORMS[form]([TASK])
    with pytest.raises(IoTDAConfigError, match=r"^batch_task_id must be .*mapped"):
        run(operator)
    with pytest.raises(IoTDAConfigError, match="mapped"):
        run(StopBatchTaskOperator(task_id="t", batch_task_id=TASK, targets=[["a"], ["b"]]))
    assert iotda.sent == []


def test_the_verdict_of_a_mapped_guard_is_none(run):
    paths = {"if_breached": "a", "if_completed": "b"}
    with pytest.raises(IoTDAConfigError, match=r"verdict must be .*mapped"):
        run(BranchOnVerdictOperator(task_id="t", verdict=[{"verdict": "completed"}], **paths))


@pytest.mark.parametrize("name", ["task_type", "status", "app_id"])
@pytest.mark.parametrize("rendered", ["", " ", "None", "null", None])
def test_a_filter_that_is_rendered_to_nothing_does_not_list_everything(iotda, run, name, rendered):
    operator = ListBatchTasksOperator(task_id="list", **{name: "{{ x }}"})
    setattr(operator, "batch_task_type" if name == "task_type" else name, rendered)

    with pytest.raises(AirflowException, match=f"^{name} was rendered to nothing"):
        run(operator)
    assert iotda.requests == []
