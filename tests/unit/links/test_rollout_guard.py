"""The link from a guard to the page that explains its decision."""

from __future__ import annotations

import importlib
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_0_PLUS

from iotda_provider.get_provider_info import get_provider_info
from iotda_provider.links import RolloutGuardLink
from iotda_provider.sensors.batch_task import RolloutGuardSensor


@pytest.fixture(autouse=True)
def _base_url(monkeypatch: pytest.MonkeyPatch) -> None:
    for section in ("API", "WEBSERVER"):
        monkeypatch.setenv(f"AIRFLOW__{section}__BASE_URL", "https://airflow.example/root/")


def link(map_index: int = -1) -> str:
    key: Any = SimpleNamespace(
        dag_id="a dag", run_id="guard__ab+c/d", task_id="group.guard", map_index=map_index
    )
    return RolloutGuardLink().get_link(None, ti_key=key)  # type: ignore[arg-type]


def test_it_leads_to_the_page_of_the_run_or_on_airflow_2_to_the_xcoms() -> None:
    if AIRFLOW_V_3_0_PLUS:
        page = "https://airflow.example/root/plugin/rollouts"
        assert link() == link(3) == f"{page}#/run/a%20dag/guard__ab%2Bc%2Fd"
    else:
        grid = "https://airflow.example/root/dags/a%20dag/grid?dag_run_id=guard__ab%2Bc%2Fd"
        assert link() == f"{grid}&task_id=group.guard&tab=xcom"
        assert link(3) == f"{grid}&task_id=group.guard&tab=xcom&map_index=3"


def test_the_guard_has_it_and_airflow_2_may_load_it_by_the_path_that_it_stores() -> None:
    (item,) = RolloutGuardSensor.operator_extra_links
    assert type(item) is RolloutGuardLink
    stored = f"{type(item).__module__}.{type(item).__qualname__}"
    assert stored in get_provider_info()["extra-links"]


@pytest.mark.parametrize("path", get_provider_info()["extra-links"])
def test_every_path_that_airflow_is_told_leads_to_it(path: str) -> None:
    module, _, name = path.rpartition(".")
    assert getattr(importlib.import_module(module), name) is RolloutGuardLink
