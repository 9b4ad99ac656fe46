"""What befalls the batch tasks of single waves: a console's confirmation, a quota."""

from __future__ import annotations

from collections import Counter
from typing import Any

from tests.system.virtual_time import after_each

LIMIT = {"status": 403, "body": {"error_code": "IOTDA.014111", "error_msg": "quota exceeded"}}


def waves_of(run: Any, count: int) -> list[set[str]]:
    return [set(run.xcom("rollout.plan", f"wave_{wave}")) for wave in range(1, count + 1)]


def test_one_wave_is_confirmed_at_the_console_and_a_quota_refuses_the_next(
    release: Any, fleet: Any
) -> None:
    platform = fleet(devices=400)
    existing: list[int] = []
    calls = 0

    def console(entry: Any) -> None:
        """Confirms the second wave's batch task, once half of it is confirmed."""
        nonlocal calls
        calls += 1
        if calls == 2:
            task_id = entry["path"].split("/")[-2]
            platform.emulator.instance.run("confirm", task_id=task_id)
            existing.append(len(platform.emulator.instance.present()._tasks))

    after_each(platform.emulator, "confirm_batch_task", console)
    platform.emulator.add_fault("status", call="create_batch_task", after=2, count=3, **LIMIT)
    run = release(waves="25%, 75%, 100%")
    assert run.state == "success", run.log[-4000:]

    first, second, third = waves_of(run, 3)
    assert existing == [2], "no device of the third wave was in any batch task"
    assert run.xcom("rollout.wave_2_confirm")["started_elsewhere"] == 100
    # The quota was waited for, and people were told.
    assert len(platform.emulator.journal("create_batch_task")) == 3 + 3
    alert = run.xcom("rollout.wave_3_create", "alert")
    assert alert["kind"] == "create_refused"
    assert "quota exceeded" in alert["sentence"]
    outcome = run.xcom("rollout.outcome")
    own = [set(platform.rows(task_id)) for task_id in outcome["batch_task_ids"]]
    assert own == [first, second, third]
    by_console = second - set(platform.confirmed)
    assert len(by_console) == 100
    assert Counter(platform.confirmed) == Counter((first | second | third) - by_console)
    assert outcome["exposed"] == 400
    assert not platform.asked("stop")
    assert run.states["try_again"] == run.states["quarantine"] == "skipped"
    assert set(platform.versions().values()) == {"2.0.0"}
