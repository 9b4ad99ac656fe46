"""Devices that sleep, outages, and firmware that takes devices offline after a success."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from iotda_provider.emulator.common.clock import MICRO
from iotda_provider.emulator.common.errors import ScenarioError
from iotda_provider.emulator.scenario.scenario import Scenario

Make = Callable[..., Any]
BAD, GOOD = {"package_id": "bad", "version": "2"}, {"package_id": "good", "version": "3"}


def online(h: Any) -> set[int]:
    fleet, now = h.world.fleet, h.world.now
    return {device for device in fleet if fleet.status(device, now) == "ONLINE"}


def test_a_device_sleeps_its_share_of_each_period_at_a_phase_of_its_own(hands: Make) -> None:
    h = hands(devices=400, asleep_share=0.8, sleep_period=600)
    awake = dict.fromkeys(range(400), 0)
    for _ in range(60):
        present = online(h)
        assert 40 <= len(present) <= 130
        for device in present:
            awake[device] += 1
        h.pass_time(10)
    assert set(awake.values()) == {12}


def test_devices_with_periods_of_their_own_do_not_sleep_together(hands: Make) -> None:
    period = {"distribution": "uniform", "min": 1000, "max": 5000}
    h = hands(devices=1000, asleep_share=0.8, sleep_period=period)
    at_first = online(h)
    h.pass_time(86400)
    assert 0.1 < len(online(h) & at_first) / len(at_first) < 0.3


def test_a_sleeping_device_starts_when_it_wakes(hands: Make) -> None:
    h = hands(devices=50, asleep_share=0.5, sleep_period=1000, success_after=1)
    task = h.create()
    h.pass_time(10)
    assert 0 < task.progress()["success"] < 50
    h.pass_time(500)
    assert task.progress()["success"] == 50


def test_an_outage_hits_its_share_and_ends(hands: Make) -> None:
    h = hands(
        devices=200,
        outages=[{"begins": 100, "lasts": 50}, {"begins": 200, "lasts": 50, "share": 0.5}],
    )
    assert len(online(h)) == 200
    h.pass_time(100)
    assert not online(h)
    h.pass_time(50)
    assert len(online(h)) == 200
    h.pass_time(60)
    assert 70 < len(online(h)) < 130
    h.pass_time(60)
    assert len(online(h)) == 200


def test_bad_firmware_takes_its_share_offline_after_a_success_until_another_is_installed(
    hands: Make,
) -> None:
    bad = {**BAD, "takes_offline": 0.3, "takes_offline_after": 600}
    h = hands(devices=400, packages=[bad, GOOD], success_after=60)
    task = h.create(document={"package_ids": ["bad"]})
    h.pass_time(62)
    assert task.progress()["success"] == 400
    assert len(online(h)) == 400
    h.pass_time(600)
    present = online(h)
    assert 240 < len(present) < 320
    h.pass_time(30 * 86400)
    assert online(h) == present

    h.create(document={"package_ids": ["good"]})
    h.pass_time(3600)
    assert {d for d in h.world.fleet if h.world.fleet.firmware(d) == "3"} == present
    assert online(h) == present


def test_firmware_that_is_good_takes_nobody_offline(hands: Make) -> None:
    h = hands(devices=100, packages=[{**BAD, "takes_offline": 1}, GOOD])
    h.create(document={"package_ids": ["good"]})
    h.pass_time(86400)
    assert len(online(h)) == 100


def test_the_platform_shows_when_a_connection_changed_last(hands: Make) -> None:
    h = hands(
        devices=20, asleep_share=0.5, sleep_period=500, outages=[{"begins": 900, "lasts": 77}]
    )
    fleet = h.world.fleet
    before: dict[int, str] = {}
    changed: dict[int, float] = {}
    for second in range(1500):
        for device in fleet:
            status = fleet.status(device, h.world.now)
            if second and status != before[device]:
                changed[device] = second
            before[device] = status
            if device in changed:
                shown = fleet.connections.changed(device, h.world.now) / MICRO
                assert shown == pytest.approx(changed[device], abs=1.01)
        h.pass_time(1)
    assert len(changed) == 20


@pytest.mark.parametrize(
    ("field", "value", "named"),
    [
        ("asleep_share", 1, "asleep_share"),
        ("sleep_period", -1, "sleep_period"),
        ("outages", [{"begins": 1}], "lasts"),
        ("outages", [{"begins": -1, "lasts": 1}], "begins"),
        ("outages", [{"begins": 1, "lasts": 1, "share": 2}], "share"),
        ("packages", [{"version": "2", "takes_offline": 1.5}], "takes_offline"),
        (
            "packages",
            [{"version": "2", "takes_offline": 1, "package_type": "softwarePackage"}],
            "takes_offline",
        ),
    ],
)
def test_what_can_not_be_is_refused_by_its_name(field: str, value: Any, named: str) -> None:
    with pytest.raises(ScenarioError, match=named):
        Scenario.read({field: value})
