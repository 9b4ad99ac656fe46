"""What a platform, a person at the console or one's own evidence may do in the middle of a wave."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from iotda_provider.exceptions import (
    BatchTaskTimeoutError,
    IoTDANotFoundError,
    IoTDATransportError,
    StopNotAllowedError,
)
from iotda_provider.hooks.iotda import IoTDAHook
from iotda_provider.hooks.iotda_async import IoTDAAsyncHook
from iotda_provider.models import TargetResult, TargetResults
from iotda_provider.operators.release.at_rest import WaitUntilAtRestOperator
from iotda_provider.release import confirm_chunks, confirm_wave

EVERYBODY = [f"device-{n:05}" for n in range(400)]
FORBIDDEN: dict[str, Any] = {"kind": "status", "status": 403, "body": {"error_code": "APIGW.0302"}}
GONE: dict[str, Any] = {"kind": "status", "status": 404, "body": {"error_code": "IOTDA.014217"}}
PROXY: dict[str, Any] = {"kind": "html", "status": 404}


def at_the_console(run: Any, action: str) -> None:
    """Somebody presses a button for the whole batch task."""
    emulator = run.emulator
    emulator._on_loop(lambda: emulator.instance.run(action, task_id=run.task_of()))


def delete(run: Any) -> None:
    """Somebody stops the batch task at the console, and deletes it."""
    at_the_console(run, "stop")
    run.time.sleep(0.2)
    with IoTDAHook() as hook:
        hook.delete_batch_task(run.task_of())


def alerts(run: Any) -> dict[str, str]:
    """What kind of thing a person was last told by each task."""
    return {task: run.xcoms[task, key]["kind"] for task, key in run.xcoms if key == "alert"}


# --- devices that were not online lately ----------------------------------------------------------


def test_late_devices_are_no_more_at_a_time_than_may_be(
    rollout: Any, around_confirmations: Any
) -> None:
    """Those that have not started yet hold a place, too."""
    run = rollout(devices=60, speed=60, start_after=20, success_after=20)
    run.plan("100%", late=EVERYBODY[:60])
    seen: list[int] = []

    def count(number: int) -> None:
        progress = run.counts()
        waiting = progress["waitting"] - (60 - len(run.confirmed))
        seen.append(progress["processing"] + waiting)

    around_confirmations(lambda number: None, count)
    assert run.confirm(1, max_in_flight=20)["confirmed"] == 60
    assert 0 < max(seen) <= 20


def test_late_devices_that_stay_offline_hold_their_places_for_a_while(
    rollout: Any, around_confirmations: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(confirm_wave, "LATELY", 0.5)
    run = rollout(devices=30, offline_share=1)
    run.plan("100%", late=EVERYBODY[:30])
    times: list[float] = []
    around_confirmations(lambda number: times.append(run.time.monotonic()), lambda number: None)
    assert run.confirm(1, max_in_flight=10)["confirmed"] == 30
    assert [len(targets) for targets in run.confirmations] == [10, 10, 10]
    assert times[1] - times[0] >= 0.5
    assert times[2] - times[1] >= 0.5


def test_the_plan_warns_of_a_rule_that_can_never_stop_the_release(rollout: Any) -> None:
    run = rollout(devices=60)
    rules = [{"rule": "MaxFailureRate", "rate": 0.05}]
    [warning] = run.plan("100%", rules=rules)["warnings"]
    assert warning.startswith("MaxFailureRate(0.05) can never stop 60 device(s), even if all fail.")


def test_late_devices_that_are_most_of_the_fleet_come_in_waves_where_there_is_room(
    rollout: Any,
) -> None:
    run = rollout(speed=600)
    late = EVERYBODY[40:]
    plan = run.plan("10%, 50%, 100%", late=late)
    assert [wave["devices"] for wave in plan["waves"]] == [4, 16, 20, 36, 144, 180]
    assert (plan["late"], plan["warnings"]) == (3, [])
    assert run.plan("10%, 50%, 100%", late=late) == plan
    run.xcoms.clear()  # another run's: a plan that is there is obeyed
    few = run.plan("10%, 50%, 100%", late=late, max_waves=4)
    assert [wave["devices"] for wave in few["waves"]] == [4, 16, 20, 360]
    (warning,) = few["warnings"]
    assert "360 of 400 devices were not online lately" in warning
    assert "max_waves" in warning


# --- refusals -------------------------------------------------------------------------------------


def test_a_task_that_was_deleted_while_a_person_decided_is_lost(rollout: Any) -> None:
    run = rollout(speed=600)
    run.plan("50%, 100%")
    run.confirm(1)
    assert run.watch(1)["verdict"] == "passed"
    with IoTDAHook() as hook:
        hook.delete_batch_task(run.task_of())
    assert run.create(2)["verdict"] == "lost"
    assert len(run.emulator.journal("create_batch_task")) == 1


@pytest.mark.parametrize(
    ("fault", "verdict"), [(GONE, "lost"), ({**PROXY, "count": 3}, "confirmed")]
)
def test_a_batch_task_that_was_just_created_is_lost_only_if_the_platform_says_so(
    rollout: Any, logged: Any, fault: dict[str, Any], verdict: str
) -> None:
    run = rollout()
    run.plan("50%, 100%")
    run.emulator.add_fault(call="show_batch_task", **fault)
    run.create(1, timeout=20)
    waited = "its batch tasks can't be read" in " ".join(logged().split())
    assert (waited, alerts(run)) == (verdict != "lost", {})
    assert run.confirm(1)["verdict"] == verdict


@pytest.mark.parametrize("fault", [FORBIDDEN, PROXY], ids=["403", "a proxy's 404"])
@pytest.mark.parametrize("call", ["confirm_batch_task", "show_batch_task"])
def test_one_refusal_does_not_end_the_guard(
    rollout: Any, around_confirmations: Any, call: str, fault: dict[str, Any]
) -> None:
    run = rollout(success_after=6000)
    run.plan("100%")

    def refuse(number: int) -> None:
        if number == 2:
            run.emulator.add_fault(call=call, count=1, **fault)

    around_confirmations(refuse, lambda number: None)
    result = run.confirm(1)
    assert (result["verdict"], result["confirmed"], result["unconfirmed"]) == ("confirmed", 400, 0)
    assert bool(alerts(run)) is (fault is FORBIDDEN), "a proxy's 404 may pass by itself"


def test_refusals_are_told_and_end_with_the_waves_time(rollout: Any) -> None:
    run = rollout()
    run.plan("50%, 100%")
    run.create(1)
    run.emulator.add_fault(call="confirm_batch_task", **FORBIDDEN)
    with pytest.raises(BatchTaskTimeoutError, match=r"does not confirm.*403"):
        run.confirm(1, timeout=1)
    assert alerts(run) == {"confirm_1": "confirm_failed"}
    assert not run.xcoms.get(("confirm_1", "guard_memory")), "a try that fails keeps it once, too"
    # Meanwhile the guard has gone on, and still does after the platform has come to its senses.
    run.emulator.clear_faults()
    assert run.confirm(1)["confirmed"] == 200


@pytest.fixture
def refused(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[str], bool]], None]:
    """Has the platform refuse some devices of a confirmation: 200, and a failure in the row."""

    def install(is_refused: Callable[[str], bool]) -> None:
        real, real_async = IoTDAHook.confirm_batch_task, IoTDAAsyncHook.confirm_batch_task

        def merged(targets: Any, done: Any) -> TargetResults:
            rows = {row.target: row for row in done}
            busy = ("IOTDA.000001", "busy")
            return TargetResults(rows.get(t) or TargetResult(t, False, *busy) for t in targets)

        def confirm(self: IoTDAHook, task_id: str, targets: Any) -> Any:
            good = [target for target in targets if not is_refused(target)]
            return merged(targets, real(self, task_id, good) if good else ())

        async def confirm_async(self: IoTDAAsyncHook, task_id: str, targets: Any) -> Any:
            good = [target for target in targets if not is_refused(target)]
            return merged(targets, await real_async(self, task_id, good) if good else ())

        monkeypatch.setattr(IoTDAHook, "confirm_batch_task", confirm)
        monkeypatch.setattr(IoTDAAsyncHook, "confirm_batch_task", confirm_async)

    return install


def test_devices_that_are_refused_for_a_moment_are_asked_for_again(
    rollout: Any, refused: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(confirm_chunks, "PATIENCE", 10)
    run = rollout()
    run.plan("100%")
    until = run.time.monotonic() + 0.5
    refused(lambda device: device.endswith("7") and run.time.monotonic() < until)
    result = run.confirm(1)
    assert (result["confirmed"], result["refused"], result["unconfirmed"]) == (400, 0, 0)
    assert not alerts(run)


def test_devices_that_stay_refused_are_named_and_the_next_wave_asks_again(
    rollout: Any, refused: Any
) -> None:
    run = rollout(success_after=6000)
    run.plan("50%, 100%")
    bad = {device for device in run.wave(1) if device.endswith("7")}
    refusing = True
    refused(lambda device: refusing and device in bad)
    result = run.confirm(1)
    assert (result["confirmed"], result["unconfirmed"]) == (200 - len(bad), len(bad))
    assert f"{200 - len(bad)} of 200 device(s)" in result["summary"]
    assert f"{len(bad)} could NOT be confirmed" in result["summary"]
    assert set(run.xcoms["confirm_1", "unconfirmed"]) == bad
    assert alerts(run) == {"confirm_1": "unconfirmed"}
    refusing = False
    after = run.confirm(2)
    assert (after["confirmed"], after["unconfirmed"]) == (200 + len(bad), 0)


def test_where_nobody_could_be_confirmed_the_next_wave_rehearses_the_stop_before_it_begins(
    rollout: Any, refused: Any
) -> None:
    run = rollout()
    run.plan("50%, 100%")
    refusing = True
    refused(lambda device: refusing)
    run.emulator.add_fault("status", call="stop_batch_task", status=503, body={})
    assert run.confirm(1, rehearse_stop=True)["let_start"] == 0
    refusing = False
    run.emulator.clear_faults()
    run.emulator.add_fault("status", call="stop_batch_task", status=403, body={})
    run.watch(1, wave_timeout=1)
    with pytest.raises(StopNotAllowedError, match="no device was confirmed"):
        run.confirm(2, rehearse_stop=True)
    assert not run.confirmed


def test_devices_that_were_refused_are_known_where_the_release_is_stopped_meanwhile(
    rollout: Any, refused: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(confirm_chunks, "PATIENCE", 20)
    run = rollout(failure_rate=0.5)
    run.plan("50%, 100%")
    bad = {device for device in run.wave(1) if device.endswith("7")}
    refused(bad.__contains__)
    result = run.confirm(1)
    assert (result["verdict"], result["stop"]["outcome"]) == ("breached", "stopped")
    assert result["unconfirmed"] == len(bad)
    assert set(run.xcoms["confirm_1", "unconfirmed"]) == bad


# --- evidence, and the end of a wave --------------------------------------------------------------


def test_evidence_that_fails_means_wait_and_does_not_end_the_guard(
    rollout: Any, logged: Any
) -> None:
    run = rollout(speed=600)
    run.plan("50%, 100%")
    run.confirm(1)
    asked: list[float] = []

    def evidence(facts: Any) -> Any:
        asked.append(run.time.monotonic())
        if len(asked) == 1:
            raise ConnectionError("telemetry is down, at https://somebody:canary@telemetry")
        return "nonsense" if len(asked) == 2 else "go"

    result = run.watch(1, evidence=evidence, evidence_interval=0.3)
    assert (result["verdict"], len(asked)) == ("passed", 3)
    assert asked[2] - asked[1] >= 0.3
    assert alerts(run) == {"watch_1": "evidence_failed"}
    assert "ConnectionError (the task's log says more)" in run.xcoms["watch_1", "alert"]["sentence"]
    assert "canary" not in str(run.xcoms)
    assert "telemetry is down" in logged()


def test_evidence_that_is_no_function_is_named_by_its_parameter(rollout: Any, logged: Any) -> None:
    run = rollout(speed=600)
    run.plan("100%")
    run.confirm(1)

    result = run.watch(1, evidence="math.pi", evidence_interval=0.2, wave_timeout=1)

    assert result["verdict"] == "unproven"
    assert "evidence: 'math.pi' is not a function" in logged()


def test_evidence_that_goes_on_failing_ends_with_the_waves_time(rollout: Any) -> None:
    run = rollout(speed=600)
    run.plan("50%, 100%")
    run.confirm(1)
    told: list[int] = []
    result = run.watch(
        1, evidence=lambda facts: told.append(1) or 1 / 0, evidence_interval=0.2, wave_timeout=1.5
    )
    assert (result["verdict"], len(told) > 2) == ("unproven", True)
    assert "ZeroDivisionError" in result["summary"]


def test_a_small_wave_is_not_judged_before_its_devices_have_started(rollout: Any) -> None:
    run = rollout(speed=60, start_after=30, success_after=15)
    run.plan("5%, 100%", gate=0.05)
    run.confirm(1)
    result = run.watch(1, gate=0.05)
    assert result["verdict"] == "unproven"
    assert (result["progress"]["waiting"], result["progress"]["success"]) == (0, 20)


# --- rest -----------------------------------------------------------------------------------------


def rest(run: Any, **given: Any) -> Any:
    return run.run(
        WaitUntilAtRestOperator(
            task_id="rest",
            batch_task_id=run.task_of(),
            deferrable=run.deferrable,
            **{"grace": 0, "poll_interval": 0.05, **given},
        )
    )


def test_a_task_that_is_stopping_is_not_at_rest(rollout: Any) -> None:
    slow = {"initializing": 0, "stop_after": 10**4, "stopping_timeout": 10**6}
    run = rollout(switches=slow)
    run.plan("100%")
    run.create(1)
    with IoTDAHook() as hook:
        hook.stop_batch_task(run.task_of())
    found = rest(run, timeout=0.6)
    assert (found["status"], found["at_rest"], found["under_way"]) == ("Stopping", False, 0)


def test_a_task_that_is_gone_is_lost_and_no_error(rollout: Any) -> None:
    run = rollout()
    run.plan("100%")
    run.create(1)
    delete(run)
    assert rest(run) == {
        "batch_task_ids": [run.task_of()],
        "at_rest": False,
        "under_way": 0,
        "status": None,
        "found": [],
        "lost": [run.task_of()],
        "progress": rest(run)["progress"],
    }


def test_a_proxys_404_loses_no_task(rollout: Any) -> None:
    run = rollout()
    run.plan("100%")
    run.confirm(1)
    assert run.watch(1)["verdict"] == "passed"
    run.emulator.add_fault(call="show_batch_task", count=1, **PROXY)
    assert rest(run)["found"] == [run.task_of()]
    run.emulator.add_fault(call="show_batch_task", **PROXY)
    with pytest.raises(IoTDANotFoundError, match="a proxy or load balancer may have sent it"):
        rest(run)


# --- Airflow is away when a connection is read ----------------------------------------------------


def test_a_wave_waits_on_until_airflow_is_back(
    rollout: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever waits for a wave, here or in a triggerer, reads its connection several times."""
    left = {"now": 0}
    away = IoTDATransportError("the connection can't be read now", sent=False)

    def hang_up() -> bool:
        waiting = left["now"] > 0
        left["now"] -= waiting
        return waiting

    def look_up(conn_id: str, get: Any) -> Any:
        if hang_up():
            raise away
        return get()

    async def look_up_async(conn_id: str, get: Any) -> Any:
        if hang_up():
            raise away
        return await get()

    run = rollout(success_after=60, speed=60)
    run.plan("100%", gate=0.2)
    monkeypatch.setattr("iotda_provider.hooks.connected_hook.look_up", look_up)
    monkeypatch.setattr("iotda_provider.hooks.iotda_async.look_up_async", look_up_async)
    for step, verdict in ((run.confirm, "confirmed"), (run.watch, "passed")):
        left["now"] = 4
        assert step(1)["verdict"] == verdict
        assert left["now"] == 0
