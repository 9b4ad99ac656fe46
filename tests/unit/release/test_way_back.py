"""Who gets the old package back: only devices that this release has given the new version."""

from __future__ import annotations

import inspect
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iotda_provider.guards import EnoughSuccess
from iotda_provider.models import SubtaskStatus
from iotda_provider.operators.release.way_back import GATE, roll_back
from iotda_provider.release.way_back import (
    WORDS,
    Versions,
    WayBack,
    late_of,
    sort_out,
    way_back_waves,
)

NEW, OLD = "2.0.0", "1.0.0"
SUCCESS, FAIL, STOPPED = SubtaskStatus.SUCCESS, SubtaskStatus.FAIL, SubtaskStatus.STOPPED


def decide(
    *,
    confirmed: bool = True,
    status: SubtaskStatus | None = SUCCESS,
    before: str | None = OLD,
    now: str | None = NEW,
) -> tuple[WayBack, dict[str, Any]]:
    found = WayBack()
    (row,) = sort_out(
        found,
        ["d"],
        {"d"} if confirmed else set(),
        {} if status is None else {"d": status},
        Versions(NEW, OLD, {"d": before}, {"d": now}),
    )
    return found, row


@pytest.mark.parametrize(
    ("facts", "word"),
    [
        ({}, "roll_back"),
        ({"status": FAIL}, "roll_back"),  # failed, and yet it has changed its version
        ({"status": STOPPED}, "roll_back"),  # updated after the stop
        ({"status": None}, "roll_back"),
        ({"before": "0.9"}, "roll_back"),
        ({"before": NEW}, "had_it_before"),
        ({"before": None}, "version_before_unknown"),
        ({"confirmed": False}, "not_confirmed"),
        ({"status": FAIL, "now": OLD}, "runs_another_version"),
        ({"status": STOPPED, "now": OLD}, "runs_another_version"),
        ({"now": "2.0.1"}, "runs_another_version"),
        ({"now": None}, "version_unread"),
        ({"now": ""}, "version_unread"),
        ({"status": SubtaskStatus.PROCESSING}, "still_installing"),
        ({"status": SubtaskStatus.PROCESSING, "now": OLD}, "still_installing"),
        ({"status": SubtaskStatus.FAIL_WAIT_RETRY}, "still_installing"),
        ({"status": SubtaskStatus.WAITING, "now": OLD}, "still_installing"),  # offline, confirmed
    ],
)
def test_each_device_is_decided_by_what_was_read(facts: dict[str, Any], word: str) -> None:
    found, row = decide(**facts)

    assert row["outcome"] == word
    assert found.devices == (["d"] if word == "roll_back" else [])
    assert found.counts == {name: int(name == word) for name in WORDS}
    assert (row["version_before"], row["version_now"]) == (
        facts.get("before", OLD),
        facts.get("now", NEW),
    )


def test_devices_that_ran_yet_another_version_are_named() -> None:
    found, _ = decide(before="0.9")

    assert found.from_another == ["d"]
    assert found.summary.startswith(
        "1 device(s) get the old package (1 of them ran yet another version before)"
    )
    assert decide()[0].from_another == []


def test_the_summary_counts_every_device() -> None:
    found = WayBack()
    versions = Versions(NEW, OLD, dict.fromkeys("abc", OLD), {"a": NEW, "b": OLD, "c": None})
    rows = list(sort_out(found, "abc", set("abc"), {}, versions))

    assert [row["outcome"] for row in rows] == [
        "roll_back",
        "runs_another_version",
        "version_unread",
    ]
    assert found.summary == (
        "1 device(s) get the old package; of the others, 1 do not run the new version, "
        "1 say not what they run."
    )


VERSION = st.sampled_from([None, "", OLD, NEW, "0.9"])


@given(
    confirmed=st.booleans(),
    status=st.sampled_from([None, *SubtaskStatus]),
    before=VERSION,
    now=VERSION,
)
def test_nobody_else_ever_gets_it(
    confirmed: bool, status: SubtaskStatus | None, before: str | None, now: str | None
) -> None:
    found, _ = decide(confirmed=confirmed, status=status, before=before, now=now)

    if found.devices:
        assert confirmed
        assert now == NEW
        assert before not in (None, "", NEW)
        assert status not in (SubtaskStatus.PROCESSING, SubtaskStatus.WAITING)
    assert sum(found.counts.values()) == 1


def test_the_first_of_the_others_are_named_as_many_as_an_xcom_may_hold() -> None:
    found, devices = WayBack(), [str(n) for n in range(3000)]
    versions = Versions(NEW, OLD, dict.fromkeys(devices, OLD), dict.fromkeys(devices[::2], NEW))
    for _ in sort_out(found, devices, set(devices), {}, versions):
        pass
    assert found.devices == devices[::2]
    assert found.others == {"version_unread": devices[1::2][:700]}
    assert len(json.dumps(["d" * 128] * 700)) < 100_000


def test_the_first_wave_of_a_way_back_in_a_dag_of_ones_own_can_pass() -> None:
    first, last = inspect.signature(roll_back).parameters["waves"].default
    assert (int(first), last) == (EnoughSuccess(GATE).smallest_passing_sample(), "100%")


@pytest.mark.parametrize(
    ("offline", "late", "waves"),
    [
        (0, 0, ["19", "100%"]),
        (60, 60, ["19", "100%"]),
        (70, 70, ["100%"]),
        (90, 100, ["19", "100%"]),
    ],
)
def test_who_is_offline_comes_last(offline: int, late: int, waves: list[str]) -> None:
    devices, gate = [f"d{n}" for n in range(100)], EnoughSuccess(GATE)
    found = late_of(devices, set(devices[:offline]), gate)
    assert found == devices[:late]
    assert way_back_waves(100, gate, len(found)) == (waves, 10)
