"""What a guard still knows after its worker or triggerer has died, or somebody has cleared it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from iotda_provider.airflow_support.task_notes import VariableNotes, owner_of
from iotda_provider.guards import Combined, Overdue, SequentialFailureTest, Stalled
from iotda_provider.guards.lab.recorded_looks import looks_of
from iotda_provider.rollout_guard.memory_store import TriggererMemoryStore
from iotda_provider.sensors.batch_task import RolloutGuardSensor

BAD = {"devices": 200, "failure_rate": 0.3, "dispatch_rate": 1.0}
KEY = "guard_memory"


class KilledError(BaseException):
    """The death of a guard's process."""


@pytest.fixture(params=[True, False], ids=["3.3", "before"])
def has_store(request: Any) -> bool:
    """Whether Airflow has a task state store, as since 3.3."""
    return bool(request.param)


def die() -> None:
    raise KilledError


def kept(ti: Any) -> Any:
    """The guard's memory, wherever it is saved."""
    return ti.store.get(KEY) or VariableNotes(owner_of(ti)).get(KEY)


def test_a_retry_goes_on_with_the_rules_history(fleet: Any, ti: Any) -> None:
    """Devices have started and never report: a restart does not lengthen the hour."""
    silent = fleet({"devices": 20, "success_after": 1e9})
    silent.at(50 * 60, die)
    guard = {"rules": Stalled(3600), "poke_interval": 30}
    with pytest.raises(KilledError):
        silent.run(ti, **guard)
    ti.new_try()

    result = silent.run(ti, **guard)["return_value"]

    assert (result["verdict"], result["rule"]) == ("breached", "Stalled")
    assert 3600 <= silent.now <= 3600 + 60 + 60


def test_a_guard_that_is_cleared_knows_its_own_stop(fleet: Any, ti: Any) -> None:
    bad = fleet({**BAD, "switches": {"stop_after": 1e6, "stopping_timeout": 1e6}})
    bad.at(120, die)
    with pytest.raises(KilledError):
        bad.run(ti, stop_on_breach=True)
    assert len(bad.calls("stop_batch_task")) == 1
    evidence = kept(ti)["intent"]["verdict"]["evidence"]
    ti.new_try()

    result = bad.run(ti, stop_on_breach=True, stop_timeout=60)["return_value"]

    assert (result["verdict"], result["evidence"]) == ("breached", evidence)
    assert len(bad.calls("stop_batch_task")) == 1


def test_a_memory_that_can_not_be_read_is_asked_for_again_where_it_is_needed(
    fleet: Any, ti: Any, has_store: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad = fleet({**BAD, "switches": {"stop_after": 1e6, "stopping_timeout": 1e6}})
    bad.at(120, die)
    with pytest.raises(KilledError):
        bad.run(ti, stop_on_breach=True)
    ti.new_try()
    failed = [fail_once(monkeypatch, TriggererMemoryStore, "_get_memories")]
    failed += [fail_once(monkeypatch, kind, "get") for kind in (VariableNotes, type(ti.store))]

    result = bad.run(ti, stop_on_breach=True, stop_timeout=60)["return_value"]

    assert (result["verdict"], result["rule"]) == ("breached", "SequentialFailureTest")
    assert len(bad.calls("stop_batch_task")) == 1
    assert any(failed)


def fail_once(monkeypatch: pytest.MonkeyPatch, owner: type, name: str) -> list[str]:
    """Let a method raise when it is called first; where it was, the list has an entry."""
    method, failed = getattr(owner, name), []

    def fails(*args: Any) -> Any:
        if not failed:
            failed.append(name)
            raise OSError("Airflow does not answer")
        return method(*args)

    monkeypatch.setattr(owner, name, fails)
    return failed


def test_the_trail_goes_on_over_a_retry(fleet: Any, ti: Any) -> None:
    good = fleet({"devices": 200, "failure_rate": 0.01, "success_after": 1200})
    good.at(900, die)
    with pytest.raises(KilledError):
        good.run(ti, poke_interval=10)
    ti.new_try()

    xcoms = good.run(ti, poke_interval=10)

    trail = xcoms["audit"][1:]
    looks = list(looks_of(trail))
    assert looks[0].time == good.start
    # One in ten seconds over both tries, but for those since the memory was last written down.
    assert 90 <= len(looks) + sum(record.get("omitted", 0) for record in trail) <= 125


def test_a_good_rollout_leaves_no_variable(fleet: Any, ti: Any, variables: Any) -> None:
    good = fleet({"devices": 20, "success_after": 1200})

    assert good.run(ti)["return_value"]["verdict"] == "completed"
    assert not variables


def test_a_stop_leaves_a_small_one_where_airflow_has_nothing_else(
    fleet: Any, ti: Any, variables: Any, has_store: bool
) -> None:
    bad = fleet(BAD)

    bad.run(ti, stop_on_breach=True)

    assert len(variables) == (not has_store)
    assert all(len(text) < 4000 for text in variables.values())
    assert kept(ti)["intent"]["accepted"]


def test_a_guard_that_has_failed_keeps_what_a_person_may_clear(fleet: Any, ti: Any) -> None:
    silent = fleet({"devices": 20, "success_after": 1e9})

    with pytest.raises(Exception, match="timeout is over"):
        silent.run(ti, rules=Stalled(7200), timeout=3600, poke_interval=60)

    assert kept(ti)["state"]


def test_no_store_and_no_variable_stop_a_guard(fleet: Any, ti: Any, variables: Any) -> None:
    variables.is_down = True
    ti.store.get = ti.store.set = lambda *_: 1 / 0
    bad = fleet(BAD)

    result = bad.run(ti, stop_on_breach=True)["return_value"]

    assert (result["verdict"], result["stop"]["outcome"]) == ("breached", "stopped")


def test_it_writes_once_a_minute(fleet: Any, ti: Any, variables: Any, has_store: bool) -> None:
    writes = []
    set_store = ti.store.set
    ti.store.set = lambda *note: (writes.append(note), set_store(*note))
    silent = fleet({"devices": 20, "success_after": 1e9})

    silent.run(ti, rules=Stalled(1200), poke_interval=10)

    count = len(writes) + variables.calls.count("set")
    assert 18 <= count <= 23


@pytest.mark.parametrize("deferrable", ["triggerer"], indirect=True)
def test_an_old_note_is_not_taken_for_what_the_worker_has_just_seen(
    fleet: Any, ti: Any, variables: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The note could not be overwritten when the guard was deferred."""
    good = fleet({"devices": 20, "success_after": 1200})
    old = {"version": 1, "batch_task_ids": good.task_ids, "looks": 0, "intent": {"attempts": 1}}
    VariableNotes(owner_of(ti)).set(KEY, old)
    monkeypatch.setattr(variables, "set", lambda *_, **__: 1 / 0)

    result = good.run(ti, stop_on_breach=True)["return_value"]

    assert (result["verdict"], result["stop"]) == ("completed", None)
    assert not good.calls("stop_batch_task")


#: The rules of the shipped guard.
SHIPPED = Combined(
    [
        SequentialFailureTest(0.02),
        SequentialFailureTest(0.2, counts="attempts"),
        Overdue(93_600, 0.02),
    ],
    false_alarm=0.01,
)


def weigh_while_it_waits(ti: Any, variables: Any, has_store: bool) -> list[int]:
    """The bytes of a guard's note and XComs together, at each time that it has written one."""
    weights: list[int] = []

    def weigh() -> None:
        if not {"return_value", "audit", KEY} & set(ti.xcoms):  # at its end it waits no more
            notes = [*variables.values(), *(json.dumps(note) for note in ti.store.values())]
            texts = [*notes, *map(json.dumps, ti.xcoms.values())]
            weights.append(sum(len(text.encode()) for text in texts))

    def weighed(write: Any) -> Any:
        def then_weighed(*args: Any, **named: Any) -> Any:
            done = write(*args, **named)
            weigh()
            return done

        return then_weighed

    variables.set, ti.store.set = weighed(variables.set), weighed(ti.store.set)
    ti.xcom_push = weighed(ti.xcom_push)
    return weights


@pytest.mark.parametrize("batch_tasks", [1, 10])
def test_a_waiting_guard_keeps_ten_kilobytes(
    fleet: Any, ti: Any, variables: Any, has_store: bool, batch_tasks: int
) -> None:
    """Its note and its XComs together, at each moment; 400 bytes more for each further task."""
    tasks = [{"task_name": f"rollout_{n}", "targets": "all"} for n in range(batch_tasks)]
    good = fleet(
        {
            "devices": 2000 // batch_tasks,
            "failure_rate": 0.005,
            "dispatch_rate": 2.0 / batch_tasks,
            "batch_tasks": tasks,
        }
    )
    weights = weigh_while_it_waits(ti, variables, has_store)

    good.run(ti, rules=SHIPPED, poke_interval=30, stop_on_breach=True)

    assert len(weights) > 10, weights
    assert max(weights) <= 10_000 + 400 * (batch_tasks - 1), max(weights)


@pytest.mark.parametrize("report", [False, True])
def test_what_stays_is_small_and_kept_once(
    fleet: Any, ti: Any, variables: Any, has_store: bool, report: bool, tmp_path: Any
) -> None:
    """A rollout at which each of some hundred looks saw something else."""
    good = fleet({"devices": 2000, "failure_rate": 0.005, "dispatch_rate": 2.0})
    path = {"report_path": str(tmp_path / "audit.jsonl")} if report else {}

    xcoms = good.run(ti, rules=Stalled(9000), poke_interval=10, **path)

    left = {**xcoms, **ti.store} if has_store else {**xcoms, **variables}
    assert sum(len(json.dumps(value)) for value in left.values()) <= 30_000
    assert not xcoms.get(KEY)
    if report:
        assert len((tmp_path / "audit.jsonl").read_text().splitlines()) > 50


def forge(ti: Any, note: dict[str, Any]) -> None:
    """Write a memory wherever a guard might look for one."""
    VariableNotes(owner_of(ti)).set(KEY, note)
    ti.store.set(KEY, note)
    ti.xcom_push(KEY, note)


def test_a_forged_note_makes_no_guard_hastier(fleet: Any, ti: Any) -> None:
    """The devices have run for ten minutes, but the note says: as long as the batch task exists."""
    silent = fleet({"devices": 20, "success_after": 1e9})
    silent.sleep(4000)
    counts = {"last": [20, 0, 20, 0, 0], "tasks": {silent.task_id: [20, 20, 0, 0, 20]}}
    times = {"time": silent.time() - 1, "still_since": silent.start, "history": []}
    state = {"version": 2, "started": 20, "starts": 20, **counts, **times}
    note = {"version": 1, "batch_task_ids": silent.task_ids, "looks": 10**6, "state": state}
    forge(ti, {**note, "signature": "0" * 64})

    guard = {"rules": Stalled(3600), "poke_interval": 60}
    result = silent.run(ti, stop_on_breach=True, **guard)["return_value"]

    assert (result["verdict"], result["rule"]) == ("breached", "Stalled")
    assert silent.now >= 4000 + 3600


def test_a_forged_note_makes_no_stop_the_guards_own(fleet: Any, ti: Any) -> None:
    good = fleet({"devices": 20, "success_after": 1e9})
    good.command("stop", task_id=good.task_id)
    verdict = {"decision": "breach", "rule": "MaxFailures", "evidence": {}, "sentence": "Forged."}
    intent = {"time": good.time(), "verdict": verdict, "progress": [], "accepted": good.time()}
    forge(ti, {"version": 1, "batch_task_ids": good.task_ids, "looks": 9, "intent": intent})

    result = good.run(ti, stop_on_breach=True)["return_value"]

    assert (result["verdict"], result["stop"]) == ("stopped_elsewhere", None)


@pytest.mark.parametrize("deferrable", ["triggerer"], indirect=True)
def test_a_triggers_stop_is_verified_where_no_secret_is_there_to_sign_with(
    fleet: Any, ti: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As with an agency: the event comes from the trigger itself."""
    monkeypatch.setattr("iotda_provider.rollout_guard.signature._WITH_SECRET", ())
    bad = fleet(BAD)

    go_on = RolloutGuardSensor.execute_complete

    def complete(*args: Any) -> Any:
        before = len(bad.calls("show_batch_task"))
        result = go_on(*args)
        assert len(bad.calls("show_batch_task")) == before + 1
        return result

    monkeypatch.setattr(RolloutGuardSensor, "execute_complete", complete)
    result = bad.run(ti, stop_on_breach=True, wait_for_stop=False)["return_value"]

    assert (result["verdict"], result["rule"]) == ("breached", "SequentialFailureTest")
