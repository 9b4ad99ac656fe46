"""Asset watchers over one emulated platform: who fires, how often, and what the reading costs."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest

from iotda_provider.emulator import Emulator
from iotda_provider.guards import MaxFailures, SequentialFailureTest
from iotda_provider.models import BatchTask
from iotda_provider.triggers.rollout_breach import RolloutBreachTrigger

GOOD, BAD, WORSE = (
    "aaaa00000000000000000001",
    "aaaa00000000000000000002",
    "aaaa00000000000000000003",
)
SCENARIO = {
    "devices": 300,
    "segments": [
        {"count": 100, "failure_rate": 0.0},
        {"count": 100, "failure_rate": 0.2},
        {"count": 100, "failure_rate": 0.6},
    ],
    "success_after": 3600,
    "batch_tasks": [
        {
            "task_id": task_id,
            "targets": [f"device-{n:05}" for n in range(start, start + 100)],
            "task_type": task_type,
        }
        for start, task_id, task_type in (
            (0, GOOD, "firmwareUpgrade"),
            (100, BAD, "softwareUpgrade"),
            (200, WORSE, "firmwareUpgrade"),
        )
    ],
}


class AssetState(dict[str, Any]):
    """The asset's state store."""

    async def aget(self, key: str, default: Any = None) -> Any:
        return self.get(key, default)

    async def aset(self, key: str, value: Any) -> None:
        self[key] = json.loads(json.dumps(value))


@pytest.fixture
def emulator(
    iotda_emulator_factory: Callable[..., Emulator], monkeypatch: pytest.MonkeyPatch
) -> Emulator:
    made = iotda_emulator_factory(SCENARIO, speed=0, seed=3)
    monkeypatch.setenv("AIRFLOW_CONN_IOTDA_DEFAULT", json.dumps(made.airflow_connection))
    return made


def watcher(**parameters: Any) -> RolloutBreachTrigger:
    """A watcher as a triggerer gets it."""
    given = {"rules": SequentialFailureTest(0.02), "poll_interval": 0.01, **parameters}
    _, arguments = RolloutBreachTrigger(**given).serialize()
    return RolloutBreachTrigger(**json.loads(json.dumps(arguments)))


def looks(emulator: Emulator, trigger: RolloutBreachTrigger, count: int) -> Any:
    """So many looks, ten seconds of the fleet's time apart."""

    async def stream() -> Any:
        source = trigger.open_shared_stream(trigger.serialize()[1])
        for _ in range(count):
            yield await anext(source)
            emulator.advance(10)
        await source.aclose()

    return stream()


async def payloads(trigger: RolloutBreachTrigger, stream: Any) -> list[dict[str, Any]]:
    """What it fires."""
    return [json.loads(json.dumps(e.payload)) async for e in trigger.filter_shared_stream(stream)]


async def test_each_broken_rollout_fires_once_and_healthy_ones_never(emulator: Emulator) -> None:
    trigger = watcher()

    fired = await payloads(trigger, looks(emulator, trigger, 30))

    assert sorted(item["batch_task_id"] for item in fired) == [BAD, WORSE]
    assert {item["verdict"] for item in fired} == {"breached"}
    assert all("evidence against the rollout" in item["summary"] for item in fired)
    assert all(item["stop"] is None for item in fired)
    assert not emulator.journal("stop_batch_task")


async def test_a_restart_does_not_fire_again(emulator: Emulator) -> None:
    state = AssetState()
    first, second = watcher(), watcher()
    first.asset_state_store = second.asset_state_store = state  # type: ignore[assignment]
    await payloads(first, looks(emulator, first, 10))

    assert await payloads(second, looks(emulator, second, 10)) == []
    assert sorted(state["fired"]) == [BAD, WORSE]


async def test_a_triggerer_that_dies_as_it_fires_loses_no_breach(emulator: Emulator) -> None:
    """Airflow may not have taken the event over yet."""
    first, second = watcher(), watcher()
    first.asset_state_store = second.asset_state_store = AssetState()  # type: ignore[assignment]
    events = first.filter_shared_stream(looks(emulator, first, 10))
    fired = (await anext(events)).payload["batch_task_id"]
    await events.aclose()  # type: ignore[attr-defined]

    again = await payloads(second, looks(emulator, second, 10))

    assert fired in {item["batch_task_id"] for item in again}


async def test_without_a_state_it_fires_again_rather_than_not_at_all(emulator: Emulator) -> None:
    first, second = watcher(), watcher()
    await payloads(first, looks(emulator, first, 10))

    assert len(await payloads(second, looks(emulator, second, 10))) == 2


async def test_all_watchers_of_a_connection_share_one_reading(emulator: Emulator) -> None:
    strict, lax = watcher(rules=MaxFailures(5)), watcher(rules=MaxFailures(40))
    assert strict.shared_stream_key() == lax.shared_stream_key()
    assert watcher(iotda_conn_id="other").shared_stream_key() != lax.shared_stream_key()
    queues: list[asyncio.Queue[Any]] = [asyncio.Queue(), asyncio.Queue()]
    async for snapshot in looks(emulator, strict, 10):
        for queue in queues:
            queue.put_nowait(snapshot)

    async def replayed(queue: asyncio.Queue[Any]) -> Any:
        while not queue.empty():
            yield queue.get_nowait()

    fired = [await payloads(w, replayed(q)) for w, q in zip((strict, lax), queues, strict=True)]

    assert [[item["batch_task_id"] for item in some] for some in fired] == [[WORSE, BAD], [WORSE]]
    assert len(emulator.journal("list_batch_tasks")) == 10 * 6  # two types, three statuses
    assert not emulator.journal("show_batch_task")


async def test_classes_are_read_where_a_rule_hangs_on_them(emulator: Emulator) -> None:
    trigger = watcher(rules=SequentialFailureTest(0.02, failure_class="environment"))

    assert await payloads(trigger, looks(emulator, trigger, 10)) == []
    assert emulator.journal("show_batch_task")


async def test_an_outage_is_outlived(emulator: Emulator) -> None:
    emulator.add_fault("status", call="list_batch_tasks", status=503, count=12)
    trigger = watcher()

    assert len(await payloads(trigger, looks(emulator, trigger, 10))) == 2


async def test_a_rollout_that_breaks_as_it_ends_fires_too(emulator: Emulator) -> None:
    trigger = watcher(rules=MaxFailures(15))

    async def stream() -> Any:
        source = trigger.open_shared_stream(trigger.serialize()[1])
        emulator.advance(5)
        yield await anext(source)
        emulator.advance(4000)
        yield await anext(source)
        await source.aclose()

    fired = await payloads(trigger, stream())

    assert sorted(item["batch_task_id"] for item in fired) == [BAD, WORSE]
    assert all("had ended already" in item["summary"] for item in fired)


async def test_one_rollout_that_cannot_be_read_hides_no_other(emulator: Emulator) -> None:
    """It was shown once, with counts that did not add up, and has left the list since."""
    emulator.add_fault("status", call="show_batch_task", status=403, body={})

    def shown(task_id: str, **counts: int) -> dict[str, BatchTask]:
        facts = {"task_id": task_id, "task_type": "firmwareUpgrade", "status": "Processing"}
        return {task_id: BatchTask.from_wire({**facts, "task_progress": counts})}

    async def stream() -> Any:
        yield shown(GOOD, total=10, fail=1)
        yield {}
        yield shown(BAD, total=10, fail=5, processing=5)

    fired = await payloads(watcher(rules=MaxFailures(5)), stream())

    assert [item["batch_task_id"] for item in fired] == [BAD]


async def test_without_shared_streams_it_reads_for_itself(emulator: Emulator) -> None:
    emulator.advance(100)
    events = watcher().run()

    assert (await anext(events)).payload["verdict"] == "breached"
    await events.aclose()  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "parameters", [{"rules": []}, {"task_types": ["moduleUpgrade"]}, {"poll_interval": 0}]
)
def test_what_makes_no_sense_is_refused_when_the_dag_is_parsed(parameters: Any) -> None:
    with pytest.raises(ValueError, match=next(iter(parameters))):
        RolloutBreachTrigger(**{"rules": MaxFailures(1), **parameters})


def test_a_watcher_outlives_all_of_airflows_layers() -> None:
    """The DAG's serialized form, and the row of the trigger: Airflow finds it again by its hash."""
    encoders = pytest.importorskip("airflow.serialization.encoders", reason="Airflow 3.3 has it")
    from airflow.models.trigger import Trigger
    from airflow.sdk import Asset, AssetWatcher
    from airflow.serialization import decoders
    from airflow.triggers.base import BaseEventTrigger

    trigger = RolloutBreachTrigger(
        rules=[MaxFailures(3), SequentialFailureTest(0.02)],
        failure_classes={"IOTDA.000001": "environment"},
        cluster_of={"device-00001": "one"},
    )
    asset = Asset("breach", watchers=[AssetWatcher(name="watcher", trigger=trigger)])
    stored = json.loads(json.dumps(encoders.encode_asset_like(asset)))
    (found,) = decoders.decode_asset_like(stored).watchers
    encoded = encoders.encode_trigger(found.trigger)
    row = Trigger(**encoded)

    assert BaseEventTrigger.hash(row.classpath, row.kwargs) == BaseEventTrigger.hash(**encoded)
    arguments = {
        key: decoders.smart_decode_trigger_kwargs(value) for key, value in row.kwargs.items()
    }
    assert RolloutBreachTrigger(**arguments).serialize() == trigger.serialize()


async def test_what_it_has_fired_for_does_not_grow_for_ever(
    emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It remembers what is still in the list, and the last of those that have left it."""
    monkeypatch.setattr("iotda_provider.triggers.rollout_breach._MOST_FIRED", 2)
    trigger, state = watcher(rules=MaxFailures(1)), AssetState()
    trigger.asset_state_store = state  # type: ignore[assignment]
    ids = [f"bbbb{n:020}" for n in range(8)]
    counts = {"total": 10, "fail": 5, "processing": 5}
    kept: list[list[str]] = []

    def bad(task_id: str) -> BatchTask:
        wire = {"task_id": task_id, "task_type": "firmwareUpgrade", "status": "Processing"}
        return BatchTask.from_wire({**wire, "task_progress": counts})

    async def stream() -> Any:
        for task_id in ids:  # each has ended when the next one is there; the first goes on
            yield {key: bad(key) for key in (ids[0], task_id)}
            kept.append(list(state.get("fired", ())))
        yield {ids[0]: bad(ids[0])}

    fired = await payloads(trigger, stream())

    assert [item["batch_task_id"] for item in fired] == ids
    assert max(map(len, kept)) <= 4
    assert ids[0] in kept[-1]
