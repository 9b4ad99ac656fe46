"""The release pipeline with a small fleet: what it announces, and what ends it before it begins."""

from __future__ import annotations

from typing import Any

import pytest
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_0_PLUS

PACKAGE = "a1b2c3d4e5f60718293a4b5c"


def events(run: Any) -> list[dict[str, Any]]:
    """What was said with every asset event of a run."""
    from airflow.utils.session import create_session

    try:
        from airflow.models.asset import AssetEvent as Event
    except ImportError:  # Airflow 2:
        from airflow.models.dataset import DatasetEvent as Event  # type: ignore[import-not-found, no-redef]
    with create_session() as session:
        found = session.query(Event).filter_by(source_run_id=run.run_id).all()
        return [dict(event.extra) for event in found]


def test_the_released_version_is_an_asset_event(release: Any, fleet: Any) -> None:
    platform = fleet(devices=200)
    run = release(waves="50%, 100%")
    assert run.state == "success", run.log[-4000:]
    assert run.xcom("report")["announced"]
    assert sorted(platform.confirmed) == [f"device-{n:05}" for n in range(200)]
    if not AIRFLOW_V_3_0_PLUS:
        pytest.skip("dag.test() of Airflow 2 knows no datasets, and so keeps no events of them")
    (event,) = events(run)
    assert {name: event[name] for name in ("version", "package_id", "kind", "devices")} == {
        "version": "2.0.0",
        "package_id": PACKAGE,
        "kind": "firmware",
        "devices": 200,
    }


def test_devices_of_another_product_are_no_reason_to_begin(release: Any, fleet: Any) -> None:
    fleet(devices=200, packages=[{"package_id": PACKAGE, "version": "2.0.0", "product_id": "p1"}])
    run = release(waves="100%")
    assert (run.state, run.states["check"]) == ("failed", "failed")
    assert not events(run)


def test_another_upgrade_of_the_same_devices_ends_it_before_anything_is_made(
    release: Any, fleet: Any
) -> None:
    busy = [{"task_name": "other", "targets": 5, "need_confirm": True}]
    platform = fleet(devices=200, batch_tasks=busy)
    run = release()
    assert run.state == "failed"
    assert run.states["check"] == "failed"
    assert not platform.emulator.journal("create_batch_task")
    assert not platform.confirmed
