"""How waves are written down, and who comes when."""

from __future__ import annotations

import json
from collections import Counter
from datetime import datetime, timedelta, timezone
from itertools import chain
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iotda_provider.models import Device
from iotda_provider.procedures.create_once import stamped_name
from iotda_provider.release.manifest import Manifest, PlannedWave, parts_of
from iotda_provider.release.planning import (
    LATE_LABEL,
    Membership,
    late_warning,
    plan_waves,
    shuffled,
    split_late,
    was_online_lately,
)
from iotda_provider.release.wave_specs import parse_waves

FLEET = [f"device-{n:05}" for n in range(1000)]


def plan(waves: Any, fleet: list[str] = FLEET, **given: Any) -> Membership:
    return plan_waves(fleet, parse_waves(waves), **{"seed": "s", **given})


def test_shares_count_from_the_first_device() -> None:
    manifest = plan("1%, 5%, 25%, 100%")
    assert manifest.cumulative == (10, 50, 250, 1000)
    assert manifest.labels == ("1%", "5%", "25%", "100%")


def test_counts_and_the_rest() -> None:
    assert plan([30, 300, "rest"]).cumulative == (30, 300, 1000)


def test_a_share_of_a_small_fleet_is_rounded_up() -> None:
    assert plan("1%, 100%", FLEET[:7]).cumulative == (1, 7)


def test_a_wave_that_would_be_empty_is_left_out() -> None:
    assert plan([5, 50, 500, "rest"], FLEET[:20]).labels == ("5", "50")


def test_a_group_comes_whole_and_nobody_comes_twice() -> None:
    groups = {"1ab": FLEET[:10], "2cd": FLEET[5:200]}
    manifest = plan(["group:1ab", "group:2cd", "50%", "rest"], groups=groups)
    assert set(manifest.waves[0]) == set(FLEET[:10])
    assert set(manifest.waves[1]) == set(FLEET[10:200])
    assert manifest.cumulative == (10, 200, 500, 1000)


def test_devices_that_were_not_online_lately_come_last_and_count_in_no_share() -> None:
    late = FLEET[::10]
    manifest = plan("10%, 100%", late=[*late, "somebody-else"])
    assert manifest.cumulative == (90, 900, 1000)
    assert set(manifest.waves[-1]) == set(late)
    assert manifest.late == 1


def test_the_order_hangs_on_seed_and_device_only() -> None:
    assert shuffled(FLEET, "s") == shuffled(reversed(FLEET), "s") != shuffled(FLEET, "t")
    without = [device for device in shuffled(FLEET, "s") if device != FLEET[7]]
    assert shuffled([d for d in FLEET if d != FLEET[7]], "s") == without
    # Unrelated to the ids: of the first hundred, about half are from the upper half.
    upper = sum(device >= FLEET[500] for device in shuffled(FLEET, "s")[:100])
    assert 30 < upper < 70


@given(
    size=st.integers(1, 300),
    shares=st.lists(st.integers(1, 99), max_size=5, unique=True),
    late=st.integers(0, 300),
    seed=st.text(max_size=5),
)
def test_every_device_is_in_exactly_one_wave(
    size: int, shares: list[int], late: int, seed: str
) -> None:
    fleet = FLEET[:size]
    waves = [*(f"{share}%" for share in sorted(shares)), "100%"]
    planned = plan(waves, fleet, late=fleet[:late], seed=seed)
    assert Counter(device for wave in planned.waves for device in wave) == Counter(fleet)


@pytest.mark.parametrize(
    ("waves", "why"),
    [
        ("", "no wave"),
        ([], "at least one"),
        ("5%, 25%", "must end with"),
        ("25%, 5%, 100%", "must grow"),
        ("500, 50, rest", "must grow"),
        ("0%, 100%", "above 0"),
        ("101%, 100%", "at most 100"),
        ("100%, rest", "nothing is left"),
        ("five, rest", "no wave"),
        ([0, "rest"], "no wave"),
        ([True, "rest"], "no wave"),
        ([0.05, "rest"], "no wave"),
        ("group:a, group:a, rest", "twice"),
        ("group:north, rest", "takes a group's ID, not its name"),
        (f"group:{'a' * 37}, rest", "1 to 36 characters"),
        ("group:, rest", "takes a group's ID"),
        ("\u0663%, rest", "no wave"),  # an Arabic 3
        (5, "must be a list"),
    ],
)
def test_waves_that_make_no_sense_are_refused(waves: Any, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        parse_waves(waves)


def test_nobody_to_release_to_is_an_error() -> None:
    with pytest.raises(ValueError, match="no device"):
        plan("100%", [])


@pytest.mark.parametrize(
    "change",
    [
        {"waves": [{"label": "100%", "devices": 3, "digest": "0" * 16, "ids": None}]},
        {"waves": [{"label": "100%", "devices": 2, "digest": "1" * 16, "ids": None}]},
        {"waves": ["a"]},
        {"digest": "0" * 16},
        {"version": 9},
        {"late": float("inf")},
    ],
)
def test_a_manifest_that_was_changed_is_refused(change: dict[str, Any]) -> None:
    good = Manifest("aa", "s", (PlannedWave("100%", 2, "0" * 16),)).to_json()
    with pytest.raises(ValueError, match=r"manifest|two waves"):
        Manifest.from_json({**good, **change})


def test_a_manifest_is_read_as_it_was_written() -> None:
    waves = (PlannedWave("5%", 2, "0" * 16), PlannedWave("100%", 3, "1" * 16, "s3://a/b#3-11"))
    manifest = Manifest("aa", "s", waves, late=1)
    assert Manifest.from_json(json.loads(json.dumps(manifest.to_json()))) == manifest
    assert (manifest.cumulative, manifest.labels) == ((2, 5), ("5%", "100%"))


def test_a_wave_is_cut_into_batch_tasks_with_names_that_the_platform_takes() -> None:
    parts = parts_of(2, 4, 70_000, "r" * 100)
    assert [part.devices for part in parts] == [30_000, 30_000, 10_000]
    assert [part.task_name for part in parts] == [
        f"{'r' * 60}_wave_2_of_4_part_{n}" for n in (1, 2, 3)
    ]
    assert all(len(stamped_name(p.task_name, "A" * 26, of_release=True)) <= 128 for p in parts)
    assert all("part_" in stamped_name(p.task_name, "A" * 26, of_release=True) for p in parts)
    assert parts_of(1, 1, 0, "release") == ()


@pytest.mark.parametrize("what", [None, [], {}, "text", {"version": 1}])
def test_what_is_no_manifest_is_refused(what: Any) -> None:
    with pytest.raises(ValueError, match="manifest"):
        Manifest.from_json(what)


NOW = datetime(2026, 3, 1, 12, tzinfo=timezone.utc)


@pytest.mark.parametrize(
    ("status", "changed", "lately"),
    [
        ("ONLINE", None, True),
        ("OFFLINE", "20260301T000000Z", True),
        ("OFFLINE", "2026-03-01T00:00:00.000Z", True),
        ("OFFLINE", "2026-03-01T00:00:00Z", True),
        ("OFFLINE", "2026-02-27T00:00:00.000Z", False),
        ("OFFLINE", "20260227T000000Z", False),
        ("OFFLINE", None, False),
        ("OFFLINE", "yesterday", False),
        ("INACTIVE", "20260301T000000Z", False),
        (None, None, False),
    ],
)
def test_who_was_online_lately(status: str | None, changed: str | None, lately: bool) -> None:
    device = Device("d", status=status, status_changed=changed)
    assert was_online_lately(device, NOW, timedelta(hours=24)) is lately


def warning(planned: Membership) -> str:
    return late_warning([len(wave) for wave in planned.waves], planned.late)


def split(waves: Any, late: list[str], max_waves: int = 10) -> Membership:
    return split_late(plan(waves, late=late), parse_waves(waves), max_waves)


def test_late_devices_that_are_most_of_the_fleet_come_in_the_same_shares() -> None:
    late = FLEET[50:]
    whole, manifest = plan("1%, 5%, 25%, 100%", late=late), split("1%, 5%, 25%, 100%", late)
    assert whole.cumulative == (1, 3, 13, 50, 1000)
    assert manifest.cumulative == (1, 3, 13, 50, 60, 98, 288, 1000)
    assert manifest.labels[4:] == (*(f"{LATE_LABEL}, {n}%" for n in (1, 5, 25)), LATE_LABEL)
    assert manifest.late == 4
    assert list(chain(*manifest.waves)) == list(chain(*whole.waves))
    assert warning(whole).startswith("950 of 1000 devices were not online lately, and 950 of them")
    assert "712 of them are confirmed in ONE wave" in warning(manifest)


@pytest.mark.parametrize(
    ("max_waves", "sizes"), [(5, [950]), (6, [238, 712]), (7, [48, 190, 712]), (3, [950])]
)
def test_they_get_as_many_waves_as_there_is_room_for(max_waves: int, sizes: list[int]) -> None:
    manifest = split("1%, 5%, 25%, 100%", FLEET[50:], max_waves)
    assert [len(wave) for wave in manifest.waves[4:]] == sizes


def test_a_fleet_that_is_late_as_a_whole_comes_in_waves_too() -> None:
    assert split("group:1ab, 10, 50%, rest", FLEET).cumulative == (10, 500, 1000)


def test_fewer_late_devices_stay_in_one_wave() -> None:
    manifest = split("10%, 100%", FLEET[500:])
    assert manifest == plan("10%, 100%", late=FLEET[500:])
    assert not warning(manifest)
    assert not warning(plan("10%, 100%"))
