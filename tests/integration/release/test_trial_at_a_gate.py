"""The trial at a gate of a release, over HTTP: plan, look, answer, and what people see of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest

from iotda_provider.exceptions import IoTDAConfigError, IoTDANotFoundError, IoTDAServerError
from iotda_provider.operators.release.gate import WaveGateOperator
from iotda_provider.trials import DeviceTrial

Start = Callable[..., Any]
PACKAGE = "a1b2c3d4e5f60718293a4b5c"
BAD = [{"package_id": PACKAGE, "version": "2.0.0", "takes_offline": 0.2, "takes_offline_after": 60}]
COMMON: dict[str, Any] = {"poll_interval": 30.0, "rules": '[{"rule": "MaxFailures", "count": 999}]'}
TIMES: dict[str, Any] = {"bake_time": 600, "wave_timeout": 4000}


def first_wave(run: Any, trial: Any, waves: str = "300, 100%", **given: Any) -> dict[str, Any]:
    """The result of the first wave's watch."""
    common, times = {**COMMON, **given}, {**TIMES, "trial": trial}
    if ("plan", "return_value") not in run.xcoms:
        run.plan(waves, seed="s", **times)
    run.create(1, **common)
    run.confirm(1, **common)
    result: dict[str, Any] = run.watch(1, keeper_task_id="outcome", **common, **times)
    return result


def all_but(bad: set[str]) -> Callable[[Sequence[str]], dict[str, bool]]:
    return lambda ids: {one: one not in bad for one in ids}


@pytest.mark.parametrize("trial", ["can stop", "required", DeviceTrial()])
def test_bad_firmware_is_stopped_wherever_it_waits(rollout: Start, trial: Any) -> None:
    run = rollout(speed=1, devices=900, packages=BAD)
    result = first_wave(run, trial)
    assert result["verdict"] == "rejected"
    assert result["rule"] == "DeviceTrial"
    assert " of 300 updated devices are offline, 0 of 600 others: worse, P = " in result["summary"]
    assert result["trial"]["decision"] == "worse"
    assert result["trial"]["look"] == 1
    assert run.xcoms["watch_1", "live"]["trial"]["sentence"] in result["summary"]


def test_without_a_trial_nobody_notices(rollout: Start) -> None:
    run = rollout(speed=1, devices=900, packages=BAD)
    result = first_wave(run, "off")
    assert result["verdict"] == "passed"
    assert result["trial"] is None
    assert ("plan", "trial") not in run.xcoms


def test_a_trial_that_is_not_required_delays_no_gate(rollout: Start) -> None:
    run = rollout(speed=1, devices=900, outages=[{"begins": 500, "lasts": 86400}])
    began = run.time.time()
    result = first_wave(run, "can stop")
    assert result["verdict"] == "passed"
    assert run.time.time() - began < 1000
    assert "300 of 300 updated devices are offline" in result["summary"]


def test_one_that_is_required_waits_for_the_end_of_an_outage(rollout: Start) -> None:
    run = rollout(speed=1, devices=900, outages=[{"begins": 500, "lasts": 1200}])
    result = first_wave(run, "required")
    assert result["verdict"] == "passed"
    assert result["trial"]["decision"] == "no worse"
    assert result["trial"]["look"] == 2


def test_a_wave_that_is_too_small_is_named_by_the_plan_and_decided_by_a_person(
    rollout: Start,
) -> None:
    run = rollout(speed=1, devices=900)
    began = run.time.time()
    result = first_wave(run, "required", "60, 500, 100%")
    plan = run.xcoms["plan", "return_value"]
    assert plan["warnings"] == [
        "Wave 1: TOO SMALL for the trial to show that it is no worse: 60 device(s) can be compared "
        "with 840 others (at least 82 are needed): a person must decide."
    ]
    assert plan["trial"]["gates"] == 2
    assert [wave["treated"] for wave in plan["trial"]["waves"]] == [60, 500, 900]
    assert result["verdict"] == "unproven"
    assert run.time.time() - began < 1000
    gate = WaveGateOperator(
        task_id="gate_1",
        watch_task_id="watch_1",
        if_passed="next",
        if_ask=None,
        if_stop="stop",
        if_over="over",
    )
    assert gate.approval == "never"


def test_the_last_wave_has_no_trial(rollout: Start) -> None:
    run = rollout(speed=1, devices=100)
    result = first_wave(run, "required", "100%")
    assert result["verdict"] == "passed"
    assert result["trial"] is None
    assert run.xcoms["plan", "return_value"]["warnings"] == [
        "The trial has no gate: there are no later waves to compare with."
    ]


def test_only_devices_that_are_online_at_the_plan_and_not_late_are_compared(rollout: Start) -> None:
    run = rollout(speed=1, devices=900, offline_share=0.3)
    devices = run.emulator.instance.present().devices()
    run.plan("300, 100%", seed="s", late=run.devices[:200], trial="can stop", **TIMES)
    draw = run.xcoms["plan", "trial"]["record"]["draw"]
    everybody = [one for wave in draw["waves"] for one in wave]
    fleet, now = run.emulator.instance.world.fleet, run.emulator.instance.world.now
    assert all(fleet.status(fleet.find(one), now) == "ONLINE" for one in everybody)
    assert not set(everybody) & set(run.devices[:200])
    assert 400 < len(everybody) < 560
    assert devices is not None


@pytest.mark.parametrize("call", ["show_ota_package", "*_device*"])
@pytest.mark.parametrize(
    ("fault", "error"),
    [
        ({"kind": "status", "status": 503}, IoTDAServerError),
        ({"kind": "html", "status": 404}, IoTDANotFoundError),
    ],
)
def test_a_release_does_not_lose_its_trial_to_an_outage(
    rollout: Start, call: str, fault: dict[str, Any], error: type[Exception]
) -> None:
    run = rollout(speed=1, devices=400)
    run.emulator.add_fault(call=call, **fault)
    with pytest.raises(error):
        run.plan("50%, 100%", seed="s", trial="can stop", **TIMES)
    run.emulator.clear_faults()
    assert not run.plan("50%, 100%", seed="s", trial="can stop", **TIMES)["trial"]["off"]


def test_waves_by_groups_run_without_a_trial_or_not_at_all_where_it_is_required(
    rollout: Start,
) -> None:
    group = {"name": "g", "group_id": "e495cf17-ff79-4294-8f64-4d367919d665", "count": 50}
    run = rollout(speed=1, devices=400, groups=[group])
    waves = f"group:{group['group_id']}, 100%"
    with pytest.raises(IoTDAConfigError, match="not drawn device by device"):
        run.plan(waves, trial="required", **TIMES)
    result = first_wave(run, "can stop", waves)
    assert result["verdict"] == "passed"
    assert result["trial"] is None
    [warning] = run.xcoms["plan", "return_value"]["warnings"]
    assert warning.startswith("There is no trial in this release: waves by device groups")


def test_without_a_bake_time_there_is_no_trial(rollout: Start) -> None:
    run = rollout(speed=1, devices=400)
    with pytest.raises(IoTDAConfigError, match="bake_time"):
        run.plan("50%, 100%", trial="required")
    assert run.plan("50%, 100%", trial="can stop")["trial"]["off"]


def test_a_metric_of_ones_own_is_asked_in_a_worker(rollout: Start) -> None:
    run = rollout(speed=1, devices=900)
    run.plan("300, 100%", seed="s", trial="can stop", **TIMES)
    asked: list[int] = []
    bad = set(run.wave(1)[:60])

    def metric(ids: Sequence[str]) -> Mapping[str, bool]:
        asked.append(len(ids))
        return all_but(bad)(ids)

    result = first_wave(run, DeviceTrial(metric=metric))
    assert result["verdict"] == "rejected"
    assert asked == [900]
    assert "60 of 300 updated devices are unhealthy, 0 of 600 others: worse" in result["summary"]


@pytest.mark.parametrize("answer", [None, [], {"device-00000": "yes"}, ValueError("secret")])
def test_a_metric_that_answers_nonsense_never_goes_on(rollout: Start, answer: Any) -> None:
    def metric(ids: Sequence[str]) -> Any:
        if isinstance(answer, Exception):
            raise answer
        return answer

    run = rollout(speed=1, devices=900)
    result = first_wave(run, DeviceTrial(metric=metric, required=True), poll_interval=150.0)
    assert result["verdict"] == "unproven"
    assert "can't be asked" in result["summary"]
    assert "secret" not in result["summary"]
    alert = run.xcoms["watch_1", "alert"]
    assert alert["kind"] == "trial_failed"


def test_a_cleared_run_compares_the_same_devices_and_goes_on_with_the_next_look(
    rollout: Start,
) -> None:
    run = rollout(speed=1, devices=900, outages=[{"begins": 500, "lasts": 86400}])
    assert first_wave(run, "required", poll_interval=150.0)["verdict"] == "unproven"
    draw = run.xcoms["plan", "trial"]
    looked = run.xcoms["plan", "trial_1"]["look"]
    assert looked >= 2
    run.emulator.advance(86400)
    run.time.sleep(86400)
    run.plan("300, 100%", seed="s", trial="required", **TIMES)
    assert run.xcoms["plan", "trial"] == draw
    again = first_wave(run, "required")
    assert run.xcoms["plan", "trial_1"]["look"] > looked
    assert again["trial"]["look"] > looked
    assert again["trial"]["treated"]["healthy"] == 300
