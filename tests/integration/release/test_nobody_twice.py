"""A device that was confirmed and is offline still waits at the platform: nobody asks for it twice.

Resumed after a death or a clear, a release asks again only for devices whose answer was lost.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import TaskDeferred

from iotda_provider.release import storage

#: Every third device is offline for longer than any test, and then waits as if nobody had let it.
OFFLINE: dict[str, Any] = {"offline_share": 0.34}
KILLED = "KilledError"


def dies(run: Any, *args: Any, **given: Any) -> None:
    """Run a confirmation that is killed in the middle."""
    with pytest.raises(BaseException) as death:
        run.confirm(*args, **given)
    assert type(death.value).__name__ == KILLED


def still_waiting(run: Any, devices: list[str]) -> list[str]:
    """Which of some devices the platform shows as waiting."""
    world = run.emulator.instance.present()
    tasks = [world.task(task_id) for task_id in run.task_ids]
    shown = [world.describe_row(task, row) for task in tasks for row in range(len(task))]
    waiting = {row["target"] for row in shown if row["status"] == "Waitting"}
    return [device for device in devices if device in waiting]


@pytest.fixture(params=["xcom", "file"])
def manifest(request: pytest.FixtureRequest, tmp_path: Any) -> dict[str, Any]:
    """Where waves and confirmations are written down."""
    if request.param == "xcom":
        return {}
    return {"manifest_path": (tmp_path / "releases" / "manifest.json").as_uri()}


@pytest.fixture
def has_store(manifest: dict[str, Any]) -> bool:
    """What was confirmed is kept in the same way in every Airflow."""
    return bool(manifest)


def test_an_accepted_confirmation_is_never_asked_for_again(
    rollout: Any, kill: Any, manifest: Any
) -> None:
    run = rollout(**OFFLINE)
    run.plan("50%, 100%", **manifest)
    kill(3, sent=False)
    dies(run, 1, chunk=50)
    first = run.confirmed
    assert len(first) == 100
    assert len(still_waiting(run, first)) > 20
    result = run.confirm(1, chunk=50)
    assert (result["verdict"], result["confirmed"], result["refused"]) == ("confirmed", 100, 0)
    assert Counter(run.confirmed).most_common(1)[0][1] == 1
    assert len(run.confirmed) == 200
    # Nor by a task that is cleared, nor by the next wave, which looks after the one before it.
    assert run.confirm(1, chunk=50)["confirmed"] == 0
    assert run.confirm(2, chunk=50)["confirmed"] == 200
    assert len(run.confirmed) == len(set(run.confirmed)) == 400


def test_one_whose_answer_was_lost_is_asked_for_again(
    rollout: Any, kill: Any, manifest: Any
) -> None:
    run = rollout(**OFFLINE)
    run.plan("50%, 100%", **manifest)
    kill(2, sent=True)
    dies(run, 1, chunk=50)
    first, second = run.confirmations
    unclear = still_waiting(run, second)
    assert unclear
    run.confirm(1, chunk=50)
    counts = Counter(run.confirmed)
    assert {device for device, count in counts.items() if count > 1} == set(unclear)
    # The platform says no more than that they can't be confirmed (again): it is asked for a while.
    assert 2 < max(counts.values()) < 10
    assert not set(first) & set(unclear)
    assert len(counts) == 200


def test_a_run_that_is_cleared_as_a_whole_asks_nobody_twice(
    rollout: Any, kill: Any, manifest: Any
) -> None:
    run = rollout(**OFFLINE)
    run.plan("50%, 100%", **manifest)
    kill(3, sent=False)
    dies(run, 1, chunk=50)
    # Other devices are offline by now, so that the waves may be others.
    run.plan("50%, 100%", late=["device-00001"], **manifest)
    run.confirm(1, chunk=50)
    run.confirm(2, chunk=50)
    run.confirm(3, chunk=50)
    assert len(run.confirmed) == len(set(run.confirmed)) == 400


def test_a_run_that_had_ended_remembers_too(rollout: Any, manifest: Any) -> None:
    run = rollout(**OFFLINE)
    run.plan("100%", **manifest)
    run.confirm(1)
    assert len(run.confirmed) == 400
    run.said("unproven")
    run.outcome()
    assert (("outcome", "confirmed_1_1") in run.xcoms) == (not manifest)
    run.plan("100%", **manifest)
    assert run.confirm(1)["confirmed"] == 0
    assert len(run.confirmed) == 400


def test_nobody_is_asked_for_whose_name_can_not_be_written_down_before(
    rollout: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = rollout(**OFFLINE)
    run.plan("50%, 100%")
    run.create(1)
    written, until = run.xcoms.set, run.time.time() + 3

    def fail(*args: Any, **given: Any) -> None:
        if run.time.time() < until:
            raise ConnectionError("the storage is away")
        written(*args, **given)

    monkeypatch.setattr(run.xcoms, "set", fail)
    assert run.confirm(1, chunk=50)["confirmed"] == 200
    assert run.time.time() >= until
    assert len(run.confirmed) == len(set(run.confirmed)) == 200


def test_what_can_not_be_read_for_a_while_is_not_forgotten(
    rollout: Any, kill: Any, manifest: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = rollout(**OFFLINE)
    run.plan("50%, 100%", **manifest)
    kill(3, sent=False)
    dies(run, 1, chunk=50)
    assert still_waiting(run, run.confirmed)
    failures = iter(range(3))
    read_file, read_xcom = storage.read_whole, run.xcoms.get_one

    def fail(is_record: bool) -> None:
        if is_record and next(failures, None) is not None:
            raise ConnectionError("the storage is away")

    def file(path: str) -> Any:
        fail(path.endswith(".confirmed_1_1"))
        return read_file(path)

    def xcom(**ids: Any) -> Any:
        fail(ids["key"] == "confirmed_1_1")
        return read_xcom(**ids)

    monkeypatch.setattr(storage, "read_whole", file)
    monkeypatch.setattr(run.xcoms, "get_one", xcom)
    assert run.confirm(1, chunk=50)["confirmed"] == 100
    assert next(failures, None) is None
    assert len(run.confirmed) == len(set(run.confirmed)) == 200


def test_a_file_is_never_seen_half_written(tmp_path: Any) -> None:
    files = storage.ReleaseFiles("d", "r", "plan", None, (tmp_path / "a" / "m.json").as_uri())
    record = {"accepted": "x" * 50_000}
    files.write("begun_1", record)
    seen: list[Any] = []
    begun, over = threading.Event(), threading.Event()

    def read() -> None:
        while not over.is_set():
            seen.append(files.read("begun_1"))
            begun.set()

    reader = threading.Thread(target=read)
    reader.start()
    assert begun.wait(60)
    for _ in range(300):
        files.write("begun_1", record)
    over.set()
    reader.join()
    assert all(found == [record] for found in seen)
    assert [file.name for file in (tmp_path / "a").iterdir()] == ["m.json.begun_1"]


@pytest.mark.parametrize("passing", [time], ids=["real time"])
@pytest.mark.parametrize("deferrable", [True], indirect=False)
def test_two_triggers_at_once_confirm_everybody_and_write_down_all_of_it(rollout: Any) -> None:
    """One triggerer was only thought to be dead: both go on with the same wave."""
    from tests.integration.release.conftest import remade

    run = rollout(speed=300)
    run.plan("100%")
    run.create(1)
    operator = run.confirming(1, chunk=20, max_in_flight=60)
    with pytest.raises(TaskDeferred) as deferral:
        operator.execute(run.context(operator))

    async def both() -> list[Any]:
        async def one(delay: float) -> Any:
            await asyncio.sleep(delay)
            return await anext(remade(deferral.value.trigger).run())

        return await asyncio.gather(one(0), one(0.1))

    events = [event.payload for event in asyncio.run(both())]
    assert [event["status"] for event in events] == ["over", "over"]
    assert {event["result"]["verdict"] for event in events} <= {"confirmed", "completed"}
    assert len(set(run.confirmed)) == 400
    # Whoever comes after them asks nobody.
    asked = len(run.confirmed)
    assert run.confirm(1)["confirmed"] == 0
    assert len(run.confirmed) == asked


@pytest.mark.parametrize("deferrable", [True], indirect=False)
def test_a_triggerer_that_dies_after_an_accepted_call_asks_nobody_twice(
    rollout: Any, kill: Any
) -> None:
    run = rollout(speed=100, offline_share=0.05)
    run.plan("100%")
    kill(7, sent=False)  # three calls of the worker, some of the triggerer
    dies(run, 1, chunk=20, max_in_flight=60)
    (deferral,) = run.deferrals
    before = run.confirmed
    assert 60 < len(before) < 400
    # Another triggerer begins the same trigger anew.
    context = run.contexts["confirm_1"]
    operator = run.confirming(1, chunk=20, max_in_flight=60)
    result = run.resumption(deferral, context)(operator)
    assert result["verdict"] == "confirmed"
    assert result["confirmed"] == 400
    assert len(run.confirmed) == len(set(run.confirmed)) == 400
