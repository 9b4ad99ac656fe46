"""The line at which a guard stops, as the page draws it."""

from __future__ import annotations

import pytest

from iotda_provider.guards import SequentialFailureTest, rules_to_json
from iotda_provider.ui.stop_line import drawn_to, stop_line

RULE = SequentialFailureTest(0.02)


@pytest.mark.parametrize("devices", [1_000, 4_000, 300_000])
@pytest.mark.parametrize("started", [20, 256, 257, 999])
def test_the_line_says_how_many_failures_stop_it_now(started: int, devices: int) -> None:
    line = stop_line(rules_to_json([RULE]), started, devices)
    least = dict(line)[started]
    assert RULE.breaks(least, started)
    assert not RULE.breaks(least - 1, started)
    assert line == sorted(line)
    assert max(n for n, _ in line) == drawn_to(started, devices)


@pytest.mark.parametrize("started", [0, 1, 25, 26, 256, 150_000, 299_999, 300_000])
def test_the_curves_have_room_for_what_has_started_and_are_not_lost_in_it(started: int) -> None:
    room = drawn_to(started, 300_000)
    assert started <= room <= max(50, 4 * started)


def test_there_is_no_line_without_devices_or_for_rules_of_another_version() -> None:
    assert stop_line(rules_to_json([RULE]), 0, 0) == []
    assert stop_line([{"rule": "Unknown"}], 10, 100) == []
