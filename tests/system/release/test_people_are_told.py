"""Whatever becomes of a release, people are told; and what they answer outvotes no fleet."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_1_PLUS
from tests.system.pipeline import PACKAGE
from tests.system.virtual_time import after_each


def once_confirmed(platform: Any, act: Callable[[str], object]) -> None:
    """Somebody else at work, as soon as the first device was confirmed."""
    tasks: set[str] = set()

    def see(entry: Any) -> None:
        task_id = entry["path"].split("/")[-2]
        if task_id not in tasks:
            tasks.add(task_id)
            act(task_id)

    after_each(platform.emulator, "confirm_batch_task", see)


def test_a_step_that_fails_for_good_is_told(release: Any, fleet: Any) -> None:
    platform = fleet(devices=200, hang_rate=0.5)
    platform.emulator.add_fault("status", call="stop_batch_task", status=403, body={})
    run = release(waves="50%, 100%", wave_hours=2 / 3600)
    assert run.state == "failed"
    told = run.xcom("report")
    assert (told["announced"], told["failed_tasks"]) == (False, ["rollout.wave_1_confirm"])
    assert "FAILED: rollout.wave_1_confirm" in run.log


def test_a_batch_task_that_was_deleted_is_told(release: Any, fleet: Any) -> None:
    platform = fleet(devices=400, success_after=1200)

    instance = platform.emulator.instance

    def delete(task_id: str) -> None:
        instance.run("stop", task_id=task_id)
        instance.advance(3600)
        instance.run("delete_task", task_id=task_id)

    once_confirmed(platform, delete)
    run = release(waves="25%, 100%")
    assert run.state == "failed"
    assert "Release of firmware 2.0.0 NOT announced" in run.log
    # Of a batch task that is gone, only the versions tell what came of its devices.
    assert run.states["collect"] == "skipped"
    found = run.xcom("reconcile")
    assert (found["status"], found["proven"]) == ("gone", False)
    assert found["counts"]["wave_not_begun"] == 300


def test_a_typo_is_told_before_anything_is_created(release: Any, fleet: Any) -> None:
    platform = fleet(devices=200)
    run = release(window="22:00-05:00", timezone="Asia/Shangai")
    told = run.xcom("report")
    assert (told["verdict"], told["failed_tasks"]) == ("refused before it began", ["check"])
    assert "Asia/Shanghai" in told["summary"]
    assert f"Release of package {PACKAGE} NOT announced: refused before it began" in run.log
    assert "clear them" not in run.log
    assert not platform.emulator.journal("create_batch_task")


@pytest.mark.skipif(not AIRFLOW_V_3_1_PLUS, reason="asking a person needs Airflow 3.1")
def test_a_yes_announces_nothing_that_was_stopped_meanwhile(
    release: Any, fleet: Any, answer: Any
) -> None:
    """The last wave is unproven; a colleague stops the task while the question is open."""
    platform = fleet(devices=200, hang_rate=0.2)
    begun: list[str] = []

    def stop() -> None:
        platform.emulator._on_loop(lambda: platform.emulator.instance.run("stop", task_id=begun[0]))

    once_confirmed(platform, begun.append)
    answer("rollout.wave_1_ask", "Go on", before=stop)
    run = release(waves="100%", approval="when unproven", wave_hours=2 / 3600)
    assert run.xcom("rollout.wave_1_ask", "answer")["option"] == "Go on"
    assert run.xcom("rollout.outcome")["verdict"] == "stopped_elsewhere"
    assert run.states["announce"] != "success"
    assert run.state == "failed"
    # Who had to answer was told what about.
    assert "May the firmware 2.0.0 for 200 device(s) go on after wave 1?" in run.log
