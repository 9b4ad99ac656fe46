"""A guard over emulated fleets, in the worker and in the triggerer: what it does, and when."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from datetime import datetime
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowSensorTimeout, TaskDeferred
from tests.airflow_values import TIMED_OUT

from iotda_provider.exceptions import IoTDAError
from iotda_provider.guards import MaxFailures, SequentialFailureTest
from iotda_provider.guards.lab.cli import main as guard_command
from iotda_provider.guards.lab.recorded_looks import read_audit
from iotda_provider.rollout_guard import Memory
from iotda_provider.rollout_guard.memory_store import TriggererMemoryStore

BAD = {"devices": 200, "failure_rate": 0.3, "dispatch_rate": 1.0}


def test_a_bad_rollout_is_stopped_and_the_reason_told(fleet: Any, ti: Any) -> None:
    bad = fleet(BAD)

    xcoms = bad.run(ti, stop_on_breach=True)

    result = xcoms["return_value"]
    assert (result["verdict"], result["rule"]) == ("breached", "SequentialFailureTest")
    assert result["evidence"]["value"] >= result["evidence"]["bound"]
    assert (result["status"], result["stop"]["outcome"]) == ("Stopped", "stopped")
    assert result["progress"]["stopped"] > 100
    assert xcoms["summary"] == result["summary"]
    assert len(bad.calls("stop_batch_task")) == 1


def test_a_good_rollout_is_left_alone(fleet: Any, ti: Any) -> None:
    good = fleet({"devices": 200, "failure_rate": 0.01})

    result = good.run(ti, stop_on_breach=True)["return_value"]

    assert (result["verdict"], result["stop"]) == ("completed", None)
    assert not good.calls("stop_batch_task")


def test_a_look_is_one_call_whatever_the_fleets_size(fleet: Any, ti: Any) -> None:
    good = fleet({"devices": 3000, "success_after": 600})

    good.run(ti, poke_interval=10)

    everything = good.calls()
    calls = [entry for entry in everything if entry["call"] == "show_batch_task"]
    others = [entry["call"] for entry in everything if entry["call"] != "show_batch_task"]
    assert others == ["show_ota_package"], "once, at the start, for people who look on"
    assert {entry["query"].get("limit") for entry in calls} == {"1"}
    assert 600 / 10 <= len(calls) <= 600 / 10 + 4


@pytest.mark.parametrize("failure_after", [23.0, 29.0, 36.0])
def test_the_stop_is_taken_within_a_poll_of_the_breach(
    fleet: Any, ti: Any, failure_after: float
) -> None:
    """The counts that break the rule are there a second and ``failure_after`` after the start."""
    faulty = {"count": 33, "failure_rate": 1.0, "failure_after": failure_after}
    bad = fleet({"devices": 99, "segments": [faulty], "success_after": 90_000})

    xcoms = bad.run(
        ti,
        rules=MaxFailures(33),
        stop_on_breach=True,
        poke_interval=10,
        wait_for_stop=False,
    )

    stop = xcoms["return_value"]["stop"]
    taken = datetime.fromisoformat(stop["accepted_at"].replace("Z", "+00:00")).timestamp()
    visible = bad.start + 1 + failure_after
    assert visible <= taken <= visible + 10
    assert stop["attempts"] == 1


def test_a_stop_that_fails_at_first_is_tried_at_each_look(fleet: Any, ti: Any) -> None:
    bad = fleet({"devices": 100, "failure_rate": 1.0, "dispatch_rate": 1.0})
    bad.emulator.add_fault("status", call="stop_batch_task", status=503, count=3)

    result = bad.run(ti, stop_on_breach=True)["return_value"]

    assert result["stop"]["outcome"] == "stopped"
    assert len(bad.calls("stop_batch_task")) == 4
    assert ti.xcoms["alert"]["kind"] == "stop_failed"


def test_a_lost_answer_to_the_stop_stops_once_and_is_reported_right(fleet: Any, ti: Any) -> None:
    bad = fleet({"devices": 100, "failure_rate": 1.0, "dispatch_rate": 1.0})
    bad.emulator.add_fault("lost", call="stop_batch_task", count=1)

    result = bad.run(ti, stop_on_breach=True)["return_value"]

    assert result["stop"]["outcome"] == "stopped"


def test_two_guards_on_one_task_do_not_hinder_each_other(fleet: Any, ti: Any) -> None:
    bad = fleet(BAD)
    first = bad.run(ti, stop_on_breach=True)["return_value"]
    ti.new_try()
    ti.store.clear()

    second = bad.run(ti, stop_on_breach=True)["return_value"]

    assert (first["verdict"], second["verdict"]) == ("breached", "stopped_elsewhere")
    assert second["evidence"] == {}


def test_a_guard_that_is_cleared_and_run_again_says_the_same(fleet: Any, ti: Any) -> None:
    bad = fleet(BAD)
    first = bad.run(ti, stop_on_breach=True)["return_value"]
    ti.new_try()

    second = bad.run(ti, stop_on_breach=True)["return_value"]

    assert second["verdict"] == "breached"
    assert second["evidence"] == first["evidence"]


def test_a_guard_that_starts_hours_late_decides_on_all_that_has_happened(
    fleet: Any, ti: Any
) -> None:
    bad = fleet({**BAD, "success_after": 90_000})
    bad.sleep(4 * 3600)

    result = bad.run(ti, stop_on_breach=True)["return_value"]

    assert result["verdict"] == "breached"
    assert bad.now <= 4 * 3600 + 60 + 30


def test_the_trail_is_written_where_the_user_wants_it(
    fleet: Any, ti: Any, tmp_path: Any, capsys: Any
) -> None:
    bad = fleet(BAD)
    path = tmp_path / "audit" / "rollout.jsonl"

    xcoms = bad.run(ti, stop_on_breach=True, report_path=str(path))

    assert "audit" not in xcoms
    assert guard_command(["replay", str(path), "--rules", "MaxFailures(1)"]) == 0
    assert "MaxFailures(1)" in capsys.readouterr().out
    audit = read_audit(path.read_text())
    assert audit.header["batch_task_id"] == bad.task_id
    assert [r["decision"] for r in audit.records].count("breach") == 1


def test_the_trail_is_an_xcom_otherwise(fleet: Any, ti: Any) -> None:
    bad = fleet(BAD)

    trail = bad.run(ti)["audit"]

    audit = read_audit(json.dumps(trail))
    assert audit.records[-1]["decision"] == "breach"
    assert audit.records[-1]["progress"]["total"] == 200


def test_a_shadow_never_stops(fleet: Any, ti: Any) -> None:
    bad = fleet(BAD)

    result = bad.run(ti, stop_on_breach=True, shadow=True)["return_value"]

    assert (result["verdict"], result["shadow"], result["stop"]) == ("breached", True, None)
    assert not bad.calls("stop_batch_task")


def test_an_outage_longer_than_max_outage_is_told_and_outlived(fleet: Any, ti: Any) -> None:
    bad = fleet({**BAD, "failure_after": 4000, "success_after": 90_000})
    bad.at(100, lambda: bad.emulator.add_fault("status", status=503))
    bad.at(5000, bad.emulator.clear_faults)

    result = bad.run(ti, stop_on_breach=True, max_outage=600)["return_value"]

    assert result["verdict"] == "breached"
    assert ti.xcoms["alert"]["kind"] == "blind"
    assert len(bad.calls()) < 5100 / 10  # more slowly


def test_a_guard_whose_time_is_over_fails_loudly_with_its_verdict(fleet: Any, ti: Any) -> None:
    slow = fleet({"devices": 10, "success_after": 90_000})

    with pytest.raises(AirflowSensorTimeout, match="Nobody guards"):
        slow.run(ti, timeout=300)

    assert ti.xcoms["return_value"]["verdict"] == "lost"
    assert ti.xcoms["return_value"]["guard_lost"] is True
    assert 300 <= slow.now <= 310


def test_a_guard_whose_time_is_over_stops_the_rollout_where_that_is_asked(
    fleet: Any, ti: Any
) -> None:
    slow = fleet({"devices": 10, "success_after": 90_000})

    with pytest.raises(AirflowSensorTimeout, match="on_guard_lost"):
        slow.run(ti, timeout=300, on_guard_lost="stop")

    slow.sleep(60)
    assert slow.progress()["stopped"] == 10


@pytest.mark.parametrize("deferrable", [True])
def test_a_guard_that_no_triggerer_came_for_stops_the_rollout_where_that_is_asked(
    fleet: Any, ti: Any
) -> None:
    slow = fleet({"devices": 10, "success_after": 90_000})
    asked = {"timeout": 300, "on_guard_lost": "stop"}
    with pytest.raises(TaskDeferred):
        slow.guard(**asked).execute(ti.context)
    slow.sleep(600)

    with pytest.raises(AirflowSensorTimeout, match="on_guard_lost"):
        slow.guard(**asked).resume_execution("__fail__", TIMED_OUT, ti.context)

    slow.sleep(60)
    assert slow.progress()["stopped"] == 10


def test_a_stop_that_never_works_fails_loudly(
    fleet: Any, ti: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("iotda_provider.rollout_guard.stopping._LAST_PAUSE", 0.05)
    bad = fleet({**BAD, "success_after": 90_000})
    bad.emulator.add_fault("status", call="stop_batch_task", status=503)

    with pytest.raises(IoTDAError, match="could NOT stop"):
        bad.run(ti, stop_on_breach=True, timeout=1000)

    assert ti.xcoms["return_value"]["verdict"] == "breached"
    assert ti.xcoms["return_value"]["stop"]["outcome"] == "failed"


def test_a_hold_is_told_while_the_guard_watches_on(fleet: Any, ti: Any) -> None:
    rule = SequentialFailureTest(0.02, hold_at=5)
    middling = fleet({"devices": 100, "failure_rate": 0.07})

    result = middling.run(ti, rules=rule)["return_value"]

    assert result["verdict"] == "completed"
    assert ti.xcoms["alert"]["kind"] == "hold"
    assert "holds at 5 to 1" in ti.xcoms["alert"]["sentence"]


alerts: list[Any] = []


def note(alert: Any) -> None:
    """A user's function that fails."""
    alerts.append(alert)
    raise RuntimeError("no mail today")


def dawdle(alert: Any) -> None:
    """A user's function that is slow."""
    alerts.append(alert)
    time.sleep(0.5)


@pytest.mark.parametrize("function", [note, dawdle])
def test_on_alert_is_called_and_ends_no_guard(
    fleet: Any, ti: Any, function: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("iotda_provider.rollout_guard.triggerer._ALERT_SECONDS", 0.1)
    alerts.clear()
    rule = SequentialFailureTest(0.02, hold_at=5)
    middling = fleet({"devices": 100, "failure_rate": 0.07})

    result = middling.run(ti, rules=rule, on_alert=function)["return_value"]

    assert result["verdict"] == "completed"
    assert alerts == [ti.xcoms["alert"]]


def test_an_on_alert_that_is_not_there_is_told_when_the_guard_begins(
    fleet: Any, ti: Any, deferrable: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As with a module beside the DAG file, which a worker finds and a triggerer does not."""
    name = "beside_the_dag_file"
    healthy = fleet({"devices": 10, "failure_rate": 0.0})
    if deferrable:
        monkeypatch.setitem(sys.modules, name, SimpleNamespace(tell=lambda alert: None))
        watch = healthy.trigger

        def elsewhere(*arguments: Any) -> Any:
            assert "alert" not in ti.xcoms, "the worker has found it"
            del sys.modules[name]
            return watch(*arguments)

        healthy.trigger = elsewhere

    result = healthy.run(ti, on_alert=f"{name}.tell")["return_value"]

    assert result["verdict"] == "completed"
    alert = ti.xcoms["alert"]
    assert (alert["kind"], alert["batch_task_ids"]) == ("on_alert_missing", [healthy.task_id])
    assert f"'{name}.tell' can't be imported" in alert["sentence"]
    assert alert["time"]


def test_an_alert_that_airflow_cannot_keep_ends_no_guard(
    fleet: Any, ti: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    push = ti.xcom_push

    def down_for_alerts(key: str, value: Any) -> None:
        if key == "alert":
            raise RuntimeError("the API server is down")
        push(key, value)

    monkeypatch.setattr(ti, "xcom_push", down_for_alerts)
    bad = fleet(BAD)
    bad.emulator.add_fault("status", call="stop_batch_task", status=503, body={}, count=2)

    assert bad.run(ti, stop_on_breach=True)["return_value"]["stop"]["outcome"] == "stopped"


# --- a triggerer that has just started, and answers slowly ----------------------------------------


@pytest.fixture
def slow_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """The earlier memory of a trigger comes late."""
    recall = TriggererMemoryStore.recall

    async def late(state: TriggererMemoryStore, **options: Any) -> Any:
        await asyncio.sleep(0.2)
        return await recall(state, **options)

    monkeypatch.setattr(TriggererMemoryStore, "recall", late)


@pytest.mark.parametrize("deferrable", ["triggerer"], indirect=True)
def test_a_guard_does_not_wait_for_its_memory_before_it_stops(
    fleet: Any, ti: Any, slow_memory: None
) -> None:
    bad = fleet(BAD)

    assert bad.run(ti, stop_on_breach=True)["return_value"]["stop"]["outcome"] == "stopped"


@pytest.mark.parametrize("deferrable", ["triggerer"], indirect=True)
def test_a_stop_it_cannot_explain_makes_it_wait_for_its_memory(
    fleet: Any, ti: Any, slow_memory: None
) -> None:
    bad = fleet(BAD)
    first = bad.run(ti, stop_on_breach=True)["return_value"]
    kept = ti.store["guard_memory"]
    ti.store.clear()
    ti.new_try()
    ti.xcom_push("guard_memory", kept)
    trigger = _trigger_of(bad, ti)

    event = bad.trigger(trigger, ti)

    assert event["result"]["verdict"] == "breached"
    assert event["result"]["evidence"] == first["evidence"]


@pytest.mark.parametrize("deferrable", ["triggerer"], indirect=True)
def test_a_refusal_is_no_first_look_where_its_memory_only_comes_late(
    fleet: Any, ti: Any, slow_memory: None
) -> None:
    good = fleet({"devices": 20, "failure_rate": 0.0})
    ti.xcom_push("guard_memory", Memory((good.task_id,), looks=3).to_json())
    good.emulator.add_fault("status", call="show_batch_task", status=403, body={}, count=2)

    event = good.trigger(_trigger_of(good, ti), ti)

    assert event["status"] == "over"
    assert event["result"]["verdict"] == "completed"
    assert ti.xcoms["alert"]["kind"] == "blind"


def _trigger_of(fleet: Any, ti: Any) -> Any:
    """The trigger of a guard that was restarted after its stop."""
    from iotda_provider.rollout_guard import GuardPlan
    from iotda_provider.triggers.rollout_guard import RolloutGuardTrigger

    plan = GuardPlan(
        batch_task_ids=(fleet.task_id,), rules=(SequentialFailureTest(0.02),), stop_on_breach=True
    )
    owner = {name: getattr(ti, name) for name in ("dag_id", "run_id", "task_id", "map_index")}
    return RolloutGuardTrigger(plan=plan.to_dict(), owner=owner)
