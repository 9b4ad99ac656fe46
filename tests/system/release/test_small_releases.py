"""The release pipeline with a small fleet: what it announces, and what ends it before it begins."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_0_PLUS
from tests.system.asset_events import events
from tests.system.pipeline import PACKAGE, WEAK

from iotda_provider.hooks.iotda import IoTDAHook


@pytest.fixture(params=["worker", "triggerer"])
def is_deferred(request: pytest.FixtureRequest) -> bool:
    """Where the release waits."""
    return bool(request.param == "triggerer")


@pytest.fixture
def hurried(is_deferred: bool, hurried: Callable[..., Path]) -> Callable[..., Path]:
    """The DAG file, for both ways of waiting."""

    def copy(waves: int) -> Path:
        file = hurried(waves)
        way = f"DEFERRABLE = {is_deferred}"
        text, count = re.subn(r"(?m)^DEFERRABLE = True", way, file.read_text())
        assert count == 1
        file.write_text(text)
        return file

    return copy


def test_a_release_survives_its_workers_and_its_notifiers_and_is_an_asset_event(
    release: Any,
    fleet: Any,
    hurried: Callable[..., Path],
    is_deferred: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A worker dies in any step, and no notifier reaches anybody."""
    platform = fleet(devices=200, success_after=300)
    died = []

    def dies_once(name: str) -> None:
        """The first call of it is made, and its caller never hears of it."""
        real = getattr(IoTDAHook, name)

        def call(*args: Any, **kwargs: Any) -> Any:
            result = real(*args, **kwargs)
            if name not in died:
                died.append(name)
                raise RuntimeError("the worker dies")
            return result

        monkeypatch.setattr(IoTDAHook, name, call)

    calls = ["get_ota_package", "list_batch_tasks", "iter_subtasks", "confirm_batch_task"]
    for name in calls:
        dies_once(name)
    file = hurried(1)
    nobody = "NOTIFIERS: list[Any] = []\n"
    assert file.read_text().count(nobody) == 1
    down = (
        "from airflow.providers.smtp.notifications.smtp import SmtpNotifier\n"
        'NOTIFIERS = [SmtpNotifier(to="a@example.com", smtp_conn_id="there_is_none")]\n'
    )
    file.write_text(file.read_text().replace(nobody, down))

    run = release(file, waves="100%", bake_minutes=1 / 60)

    assert run.state == "success", run.log[-4000:]
    assert sorted(died) == sorted(calls)
    assert "SmtpNotifier failed" in run.log
    assert run.xcom("report")["announced"]
    about = run.xcom("rollout.plan", "rollout")
    assert (about["kind"], about["package_ids"]) == ("release", [PACKAGE])
    # A deferred guard leaves its memory behind. At its first look no device has ended yet.
    was_deferred = run.xcom("rollout.wave_1_watch", "guard_memory") is not None
    assert was_deferred == is_deferred
    assert sorted(platform.confirmed) == [f"device-{n:05}" for n in range(200)]
    if AIRFLOW_V_3_0_PLUS:  # dag.test() of Airflow 2 knows no datasets, and so keeps no events
        (event,) = events(run)
        assert {name: event[name] for name in ("version", "package_id", "kind", "devices")} == {
            "version": "2.0.0",
            "package_id": PACKAGE,
            "kind": "firmware",
            "devices": 200,
        }


#: Nothing of it depends on where the release waits.
in_the_triggerer = pytest.mark.parametrize("is_deferred", [True], ids=["triggerer"])
#: Nothing waits before the check refuses.
in_the_worker = pytest.mark.parametrize("is_deferred", [False], ids=["worker"])


@in_the_triggerer
def test_what_a_failed_release_leaves_behind_is_named_to_people_and_to_the_next_one(
    release: Any, fleet: Any
) -> None:
    platform = fleet(devices=200, failure_rate=0.9, failure_mix={WEAK: 1})
    failed = release(waves="50%, 100%")
    again = failed.xcom("try_again", "batch_task_id")
    assert again
    assert f"Batch task {again} holds the {len(platform.rows(again))} device(s)" in failed.log
    assert set(platform.rows(again)) <= set(failed.xcom("rollout.plan", "wave_1"))
    begun = len(platform.confirmed)
    following = release(waves="50%, 100%")
    assert (following.state, following.states["check"]) == ("failed", "failed")
    assert f"Batch task {again} " in following.log
    assert "waits for somebody to confirm it" in following.log
    assert len(platform.confirmed) == begun


@in_the_worker
def test_devices_of_another_product_are_no_reason_to_begin(release: Any, fleet: Any) -> None:
    fleet(devices=200, packages=[{"package_id": PACKAGE, "version": "2.0.0", "product_id": "p1"}])
    run = release(waves="100%")
    assert (run.state, run.states["check"]) == ("failed", "failed")
    assert not events(run)


@in_the_worker
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
