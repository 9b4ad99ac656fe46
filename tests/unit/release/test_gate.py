"""Whether a wave may be followed by the next one."""

from __future__ import annotations

from typing import Any

import pytest

from iotda_provider.guards import EnoughSuccess
from iotda_provider.models import TaskProgress
from iotda_provider.release.gate import as_gate, forecast, read_gate

GATE = EnoughSuccess(0.05)


def read(members: int = 100, total: int = 1000, current: int = 0, **counts: int) -> Any:
    counts.setdefault("waiting", total - sum(counts.values()))
    progress = TaskProgress(total=total, **counts)
    return read_gate(GATE, progress, members=members, already_current=current)


def test_enough_success_opens_it() -> None:
    assert read(success=100).passes


def test_a_device_that_has_not_finished_counts_as_failed() -> None:
    assert not read(success=90, processing=10).passes
    assert not read(success=99, fail_wait_retry=1).passes


def test_a_device_that_was_confirmed_and_has_not_started_counts_as_failed() -> None:
    reading = read(success=90)
    assert (reading.devices, reading.succeeded, reading.passes) == (100, 90, False)


def test_devices_that_had_the_version_before_prove_nothing() -> None:
    assert read(members=100, success=100, current=18).devices == 82
    assert read(members=100, success=100, current=18).passes
    assert not read(members=100, success=100, current=19).passes
    assert not read(members=100, success=100, current=500).passes


def test_devices_that_somebody_has_stopped_or_confirmed_by_hand_count_too() -> None:
    assert not read(success=100, stopped=10).passes
    assert read(members=100, success=200, processing=100).devices == 300


def test_it_says_when_waiting_can_no_longer_help() -> None:
    assert not read(success=80, processing=20).settled
    assert read(success=80, processing=18, fail=2).settled
    assert read(members=50, success=20, processing=30).settled  # too small from the start


def test_counts_that_do_not_add_up_never_open_it() -> None:
    progress = TaskProgress(total=1000, success=100, waiting=1)
    assert not read_gate(GATE, progress, members=100).passes


def test_nothing_opens_it_for_nobody() -> None:
    assert not read(members=0, total=0).passes


def test_what_can_be_said_before_the_start() -> None:
    small, large = forecast(GATE, ("50", "rest"), (50, 500))
    assert not small.can_pass
    assert "TOO SMALL" in small.sentence
    assert "82" in small.sentence
    assert large.can_pass
    assert GATE.passes(large.may_fail, 500)
    assert not GATE.passes(large.may_fail + 1, 500)
    assert (large.devices, large.cumulative) == (450, 500)


@pytest.mark.parametrize("value", [0.05, "0.05", GATE])
def test_a_gate_may_be_given_as_a_rate(value: Any) -> None:
    assert as_gate(value) == GATE


@pytest.mark.parametrize("value", [None, 0, 1, "much", []])
def test_gates_that_make_no_sense_are_refused(value: Any) -> None:
    with pytest.raises(ValueError, match=r"gate|max_failure_rate|float"):
        as_gate(value)
