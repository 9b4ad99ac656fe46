"""What befalls the batch tasks of single waves: a console's confirmation, a quota, a death."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from tests.system.pipeline import BAD, VERSION, WEAK
from tests.system.virtual_time import after_each

from iotda_provider.release.worker import WorkerReleaseIO

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


@pytest.mark.slow
def test_70_000_devices_in_three_waves_the_last_of_which_is_bad(
    release: Any, fleet: Any, hurried: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And a worker dies before it has noted the first of the second wave's batch tasks."""
    sizes = {"small": 700, "large": 30_100, "cold": 39_200}
    ids = {name: f"0000000{letter}-0000" for name, letter in zip(sizes, "bcd", strict=True)}
    platform = fleet(
        devices=70_000,
        groups=[{"name": name, "group_id": ids[name], "count": sizes[name]} for name in sizes],
        segments=[{"name": "cold", "group": "cold", "failure_rate": 0.3}],
        failure_mix={BAD: 3, WEAK: 1},
    )
    # With so many batch tasks a guard looks at the list of them.
    instance = platform.emulator.instance
    after_each(platform.emulator, "list_batch_tasks", lambda _: instance.advance(20))
    file, path = hurried(3), (tmp_path / "waves.json").as_uri()
    text = file.read_text()
    for before, now in (("MANIFEST_PATH = None", repr(path)), ("DEFERRABLE = True", "False")):
        assert text.count(before) == 1
        text = text.replace(before, f"{before.split()[0]} = {now}")
    file.write_text(text)
    really_perform, made = WorkerReleaseIO.perform, []

    async def perform(io: Any, call: Any) -> Any:
        answer = await really_perform(io, call)
        if call.method == "POST" and call.path.endswith("/batchtasks"):
            made.append(answer)
            if len(made) == 2:
                raise RuntimeError("the worker dies")
        return answer

    monkeypatch.setattr(WorkerReleaseIO, "perform", perform)
    waves = f"group:{ids['small']}, group:{ids['large']}, rest"
    run = release(file, waves=waves, group_ids=list(ids.values()))

    outcome, found = run.xcom("rollout.outcome"), run.xcom("reconcile")
    assert outcome["verdict"] == "breached", run.log[-4000:]
    tasks = [platform.rows(task_id) for task_id in outcome["batch_task_ids"]]
    assert [len(rows) for rows in tasks] == [700, 30_000, 100, 30_000, 9_200]
    assert len(platform.emulator.journal("create_batch_task")) == 5, "none is created twice"
    members = [platform.group(name) for name in sizes]
    assert [set(tasks[0]), set(tasks[1]) | set(tasks[2]), set(tasks[3]) | set(tasks[4])] == members
    # Whom it has reached: all of the first two waves, and of the bad one what a look allows.
    confirmed = platform.confirmed
    exposed = set(confirmed)
    assert len(confirmed) == len(exposed) == outcome["exposed"] == found["exposed"]
    assert members[0] | members[1] < exposed
    assert 0 < len(exposed & members[2]) < 6_000, "30,800 good ones before weigh, too"
    rows = {device: row for one in tasks for device, row in one.items()}
    never = set(rows) - exposed
    assert {rows[device][0] for device in never} == {"Stopped"}
    failed = {device: code for device, (status, code) in rows.items() if status == "Fail"}
    weak, bad = (
        {device for device, one in failed.items() if one == code.split("|")[0]}
        for code in (WEAK, BAD)
    )
    assert weak | bad == set(failed) < members[2]
    assert platform.group(f"quarantine_{VERSION}") == bad
    assert run.states["try_again"] == "skipped", "it was stopped for the firmware's fault"
    counts = found["counts"]
    assert (counts["firmware"], counts["environment"]) == (len(bad), len(weak))
    assert counts["never_started"] == len(never)
    versions = platform.versions()
    assert {versions[device] for device in members[0] | members[1]} == {VERSION}
    largest = max(len(json.dumps(value, default=str)) for value in run.xcoms.values())
    assert largest < 100_000, "ids go by file"
