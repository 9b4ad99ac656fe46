"""Realistic fleets: small, asleep, retrying, already up to date, split, bricked, cut off."""

from __future__ import annotations

from typing import Any

import pytest

from iotda_provider.guards import (
    Combined,
    MaxFailureRate,
    MaxFailures,
    Overdue,
    SequentialFailureTest,
    Stalled,
)

HOUR, DAY = 3600.0, 86_400.0
BROKEN = "IOTDA.005010|Device upgrade failed: installation failed"
OFFLINE = "IOTDA.014016|Operation not allowed. The device is not online."
FIRMWARE = ("firmware", "unknown")


def test_twenty_devices_are_enough_to_stop_a_bad_image(fleet: Any, ti: Any) -> None:
    few = fleet({"devices": 20, "failure_rate": 0.5, "dispatch_rate": 0.1})

    result = few.run(ti, stop_on_breach=True)["return_value"]

    assert (result["verdict"], result["stop"]["outcome"]) == ("breached", "stopped")
    assert result["progress"]["stopped"] >= 10


def test_twenty_devices_with_one_failure_are_left_alone(fleet: Any, ti: Any) -> None:
    few = fleet({"devices": 20, "failure_rate": 0.03, "failure_after": 20}, seed=2)

    result = few.run(ti, stop_on_breach=True)["return_value"]

    assert result["progress"]["fail"] == 1
    assert result["verdict"] == "completed"


@pytest.mark.parametrize("status", ["Waitting", "Processing"])
def test_devices_that_sleep_for_a_day_are_waited_for(fleet: Any, ti: Any, status: str) -> None:
    asleep = fleet(
        {
            "devices": 200,
            "offline_share": 0.5,
            "online_after": {"distribution": "uniform", "min": 0.8 * DAY, "max": DAY},
            "switches": {"offline_status": status},
        }
    )

    result = asleep.run(
        ti,
        rules=[SequentialFailureTest(0.02), Stalled(25 * HOUR)],
        stop_on_breach=True,
        poke_interval=900,
    )["return_value"]

    assert (result["verdict"], result["status"]) == ("completed", "Success")


def test_a_device_that_is_retried_counts_once_and_as_started_throughout(
    fleet: Any, ti: Any
) -> None:
    """Half of the devices fail before they succeed: a storm of attempts, and no failed device."""
    retrying = fleet(
        {
            "devices": 100,
            "failure_rate": 0.5,
            "repeat_failure_rate": 0.0,
            "batch_tasks": [
                {"targets": "all", "task_policy": {"retry_count": 2, "retry_interval": 10}}
            ],
        }
    )

    xcoms = retrying.run(ti, rules=MaxFailureRate(0.01, min_sample=1), stop_on_breach=True)

    looks = xcoms["audit"][1:]
    assert any(look["progress"]["fail_wait_retry"] > 30 for look in looks)
    assert all(look["progress"]["fail"] == 0 for look in looks)
    assert xcoms["return_value"]["verdict"] == "completed"


def test_a_device_that_has_finally_failed_counts(fleet: Any, ti: Any) -> None:
    retrying = fleet(
        {
            "devices": 100,
            "failure_rate": 1.0,
            "batch_tasks": [
                {"targets": "all", "task_policy": {"retry_count": 1, "retry_interval": 10}}
            ],
        }
    )

    result = retrying.run(ti, stop_on_breach=True)["return_value"]

    assert result["verdict"] == "breached"
    assert result["evidence"]["failed"] <= 100


def test_devices_that_have_the_version_already_do_not_hide_a_bad_image(fleet: Any, ti: Any) -> None:
    current = {"devices": 1000, "already_current": 0.9, "failure_rate": 0.3, "success_after": 600}

    diluted = fleet(current).run(ti, rules=MaxFailureRate(0.05, min_sample=20))["return_value"]
    ti.new_try()
    told = fleet(current).run(
        ti, rules=MaxFailureRate(0.05, min_sample=20), already_current="900", stop_on_breach=True
    )["return_value"]

    assert (diluted["verdict"], told["verdict"]) == ("completed", "breached")


def test_a_rollout_over_several_tasks_is_judged_and_stopped_as_one(fleet: Any, ti: Any) -> None:
    """Neither half has enough failures to break the rule; both together have."""
    split = fleet(
        {
            "devices": 200,
            "failure_rate": 0.10,
            "success_after": 600,
            "batch_tasks": [
                {"targets": [f"device-{n:05}" for n in range(start, start + 100)]}
                for start in (0, 100)
            ],
        }
    )
    result = split.run(ti, rules=MaxFailures(20), stop_on_breach=True)["return_value"]

    assert result["verdict"] == "breached"
    assert result["batch_task_id"] == split.task_ids
    assert result["status"] == ["Stopped", "Stopped"]
    assert all(split.progress(task_id)["fail"] < 20 for task_id in split.task_ids)


# --- a person at the console ----------------------------------------------------------------------


@pytest.fixture
def healthy(fleet: Any) -> Any:
    return fleet({"devices": 100, "failure_rate": 0.02, "success_after": 600})


def test_a_person_who_stops_it(healthy: Any, ti: Any) -> None:
    healthy.at(100, lambda: healthy.command("stop", task_id=healthy.task_id))

    result = healthy.run(ti, stop_on_breach=True)["return_value"]

    assert (result["verdict"], result["rule"], result["evidence"]) == (
        "stopped_elsewhere",
        None,
        {},
    )


def test_a_person_who_stops_every_device_of_it(healthy: Any, ti: Any) -> None:
    targets = [f"device-{n:05}" for n in range(100)]
    healthy.at(100, lambda: healthy.command("stop", task_id=healthy.task_id, targets=targets))

    assert healthy.run(ti)["return_value"]["verdict"] == "stopped_elsewhere"


def test_a_person_who_stops_a_few_devices_of_it(healthy: Any, ti: Any) -> None:
    targets = [f"device-{n:05}" for n in range(10)]
    healthy.at(100, lambda: healthy.command("stop", task_id=healthy.task_id, targets=targets))

    result = healthy.run(ti, stop_on_breach=True)["return_value"]

    assert (result["verdict"], result["progress"]["stopped"]) == ("completed", 10)


def test_a_person_who_retries_the_failed_ones(fleet: Any, ti: Any) -> None:
    retried = fleet(
        {"devices": 100, "failure_rate": 0.04, "success_after": 600, "repeat_failure_rate": 0.0}
    )
    retried.at(200, lambda: retried.command("retry", task_id=retried.task_id))

    result = retried.run(ti, stop_on_breach=True)["return_value"]

    assert (result["verdict"], result["status"]) == ("completed", "Success")


def test_a_person_who_stops_and_deletes_it_between_two_looks(healthy: Any, ti: Any) -> None:
    def remove() -> None:
        healthy.command("stop", task_id=healthy.task_id)
        healthy.sleep(70)
        healthy.command("delete_task", task_id=healthy.task_id)

    healthy.at(100, remove)

    result = healthy.run(ti, poke_interval=120)["return_value"]

    assert result["verdict"] == "lost"


# --- devices that say nothing, platforms that say too much ----------------------------------------


def test_an_image_that_bricks_devices_is_stopped_before_the_platform_gives_them_up(
    fleet: Any, ti: Any
) -> None:
    bricks = fleet({"devices": 500, "hang_rate": 0.2, "success_after": 600, "dispatch_rate": 0.02})

    result = bricks.run(
        ti, rules=Overdue(2 * HOUR, tolerated_rate=0.02), stop_on_breach=True, poke_interval=300
    )["return_value"]

    assert (result["verdict"], result["rule"]) == ("breached", "Overdue")
    assert result["evidence"]["failed"] == 0
    assert result["evidence"]["overdue"] >= 4
    assert bricks.now < 12 * HOUR


@pytest.mark.parametrize("status", ["Waitting", "Processing"])
def test_a_fleet_that_is_all_offline_is_not_the_firmwares_fault(
    fleet: Any, ti: Any, status: str
) -> None:
    offline = fleet({"devices": 100, "offline_share": 1.0, "switches": {"offline_status": status}})
    rule = SequentialFailureTest(0.02, failure_class=FIRMWARE)

    result = offline.run(ti, rules=rule, stop_on_breach=True, poke_interval=1800)["return_value"]

    assert (result["verdict"], result["status"]) == ("completed", "Fail")
    assert result["progress"]["fail"] == 100


def test_a_platform_outage_is_not_the_firmwares_fault_but_stops_a_rule_of_its_own(
    fleet: Any, ti: Any
) -> None:
    outage = {
        "devices": 300,
        "failure_rate": 0.9,
        "failure_mix": {OFFLINE: 1},
        "dispatch_rate": 1.0,
    }
    firmware = SequentialFailureTest(0.02, failure_class=FIRMWARE)
    surroundings = SequentialFailureTest(0.5, failure_class="environment")

    spared = fleet(outage).run(ti, rules=firmware, stop_on_breach=True)["return_value"]
    ti.new_try()
    ti.store.clear()
    held = fleet(outage).run(
        ti, rules=Combined([firmware, surroundings], false_alarm=0.01), stop_on_breach=True
    )["return_value"]

    assert spared["verdict"] == "completed"
    assert (held["verdict"], held["stop"]["outcome"]) == ("breached", "stopped")


def test_bad_firmware_is_found_among_environmental_failures(fleet: Any, ti: Any) -> None:
    both = fleet(
        {
            "devices": 500,
            "failure_rate": 0.4,
            "failure_mix": {OFFLINE: 3, BROKEN: 1},
            "dispatch_rate": 1.0,
        }
    )

    result = both.run(
        ti, rules=SequentialFailureTest(0.02, failure_class=FIRMWARE), stop_on_breach=True
    )["return_value"]

    assert result["verdict"] == "breached"
    assert result["evidence"]["failed"] < result["progress"]["fail"]


def test_a_rollout_that_hangs_is_found(fleet: Any, ti: Any) -> None:
    hanging = fleet({"devices": 50, "hang_rate": 1.0})

    result = hanging.run(ti, rules=Stalled(3 * HOUR), stop_on_breach=True, poke_interval=150)[
        "return_value"
    ]

    assert (result["verdict"], result["rule"]) == ("breached", "Stalled")
    assert 3 * HOUR <= hanging.now < 3.1 * HOUR


def test_a_rollout_that_waits_for_its_confirmation_does_not_hang(fleet: Any, ti: Any) -> None:
    waiting = fleet({"devices": 50, "batch_tasks": [{"targets": "all", "need_confirm": True}]})
    waiting.at(10 * HOUR, lambda: waiting.command("confirm", task_id=waiting.task_id))

    result = waiting.run(ti, rules=Stalled(HOUR), stop_on_breach=True, poke_interval=300)

    assert result["return_value"]["verdict"] == "completed"
