"""What a release would do, before anything is created."""

from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from iotda_provider.guards import (
    EnoughSuccess,
    MaxFailures,
    SequentialFailureTest,
    rules_from_json,
)
from iotda_provider.guards.lab.exact import exposure
from iotda_provider.release.dry_run import RATES, Times, dry_run, exposed, reads_of
from iotda_provider.release.maintenance_window import MaintenanceWindow

#: A Sunday, 12:00.
START = datetime(2026, 11, 29, 12, 0, tzinfo=timezone.utc)
FORM = (
    '[{"rule": "Combined", "false_alarm": 0.01, "rules": ['
    '{"rule": "SequentialFailureTest", "tolerated_rate": 0.02}, '
    '{"rule": "SequentialFailureTest", "counts": "attempts", "tolerated_rate": 0.2}, '
    '{"rule": "Overdue", "after_seconds": 14400, "tolerated_rate": 0.02}]}]'
)


def planned(
    cumulative: tuple[int, ...] = (100, 500, 2500, 10_000), times: Any = None, **more: Any
) -> dict[str, Any]:
    found = dry_run(
        **{
            "labels": [f"wave of {size}" for size in cumulative],
            "cumulative": cumulative,
            "late": 40,
            "left_out": {"already_current": 12, "other_product": 3},
            "rules": [SequentialFailureTest(0.02), MaxFailures(5)],
            "gate": EnoughSuccess(0.05),
            "times": times or Times(START, bake=1800, between_looks=10),
            "reads": reads_of(10_015, cumulative[-1], 0),
            **more,
        }
    )
    return json.loads(json.dumps(found.to_json()))


def test_it_says_who_is_left_out_and_which_waves_are_too_small() -> None:
    found = planned((50, 500))

    assert (found["devices"], found["late"]) == (500, 40)
    assert found["left_out"] == {"already_current": 12, "other_product": 3}
    assert found["too_small"] == [1]
    assert "TOO SMALL to pass by itself" in found["summary"]
    assert found["summary"].startswith("DRY RUN: nothing was created. 500 device(s) in 2 wave(s)")
    assert "12 already current, 3 other product" in found["summary"]


def test_waves_follow_each_other_after_their_bake_time() -> None:
    found = planned()

    begins = [datetime.fromisoformat(wave["begins"]) for wave in found["waves"]]
    assert begins == [START + n * timedelta(minutes=30) for n in range(4)]
    assert found["seconds"] == 4 * 1800


def test_the_window_moves_the_waves_into_the_following_nights() -> None:
    window = MaintenanceWindow.parse("mon-fri 22:00-23:00", "Asia/Shanghai")
    times = Times(START, bake=2 * 3600, between_looks=10, window=window)

    found = planned(times=times)

    begins = [wave["begins"] for wave in found["waves"]]
    # 22:00 in Shanghai is 14:00 in UTC; on Sunday there is no window.
    assert [text[:16] for text in begins] == [
        "2026-11-30T14:00",
        "2026-12-01T14:00",
        "2026-12-02T14:00",
        "2026-12-03T14:00",
    ]
    assert all(text in found["summary"] for text in begins)


def test_a_limit_of_calls_makes_it_longer_also_beyond_a_window() -> None:
    window = MaintenanceWindow.parse("12:00-12:10")
    slow = Times(START, bake=0, between_looks=10, window=window, per_second=0.1)

    found = planned((10_000,), times=slow)

    # 100 confirmations with a look before each are 2,000 s: four nights of 10 minutes.
    assert found["seconds"] > 3 * 86_400
    without = planned((10_000,), times=Times(START, 0, 10, per_second=0.1))
    assert without["seconds"] == 2000


@pytest.mark.parametrize("devices", [99, 100, 101, 30_000, 30_001])
def test_the_calls_are_those_that_devices_and_batch_tasks_take(devices: int) -> None:
    found = planned((devices,))

    assert found["calls"]["confirming"] == -(-devices // 100)
    assert found["waves"][0]["batch_tasks"] == -(-devices // 30_000)
    parts = [count for name, count in found["calls"].items() if name != "all"]
    assert found["calls"]["all"] == sum(parts)


def test_the_exposure_is_the_laboratorys_at_the_ends_of_waves() -> None:
    rule = SequentialFailureTest(0.02)
    (row,) = exposed([rule], (100, 500, 2500, 10_000))

    assert [cell["failure_rate"] for cell in row["exposures"]] == [0.01, 0.02, 0.05, 0.1]
    for rate, cell in zip(RATES, row["exposures"], strict=True):
        exact = exposure(rule, rate, 10_000, looks=(100, 500, 2500, 10_000))
        assert cell["devices"] == pytest.approx(exact.mean_devices, abs=0.1)
    good, bad = row["exposures"][0], row["exposures"][-1]
    assert good["devices"] > 9_900, "a good image reaches nearly everybody"
    assert bad["devices"] < 600, "a bad one is stopped in the first waves"


def test_the_forms_rules_and_a_million_devices_are_computed_in_seconds() -> None:
    rows = exposed(rules_from_json(FORM), (10_000, 50_000, 250_000, 1_000_000))

    assert rows[0]["exposures"][-1]["devices"] == pytest.approx(10_000, rel=0.01)
