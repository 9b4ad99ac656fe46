"""Virtual time, and how the platform writes times."""

from __future__ import annotations

import pytest

from iotda_provider.emulator.common.clock import MICRO, Clock, basic, millis, parse_basic


def test_virtual_time_is_real_time_at_its_speed_and_what_was_advanced() -> None:
    real = iter([0.0, 1.0, 1.0, 2.0])
    clock = Clock(60, 5, lambda: next(real))
    assert clock.now() == 60 * MICRO + 5
    assert clock.advance(10) == 60 * MICRO + 15
    assert clock.now() == 120 * MICRO + 15
    with pytest.raises(ValueError, match="forward"):
        clock.advance(-1)


def test_times_are_written_as_the_platform_writes_them() -> None:
    assert basic(1_449_922_332) == "20151212T121212Z"
    assert millis(1_449_922_332.122) == "2015-12-12T12:12:12.122Z"
    assert parse_basic("20151212T121212Z") == 1_449_922_332
