"""What a release would do, before anything is created."""

from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from iotda_provider.guards import (
    EnoughSuccess,
    MaxFailureRate,
    MaxFailures,
    SequentialFailureTest,
    Stalled,
    rules_from_json,
)
from iotda_provider.guards.lab.exact import exposure
from iotda_provider.release.dry_run import RATES, Times, dry_run, exposed
from iotda_provider.release.maintenance_window import MaintenanceWindow
from iotda_provider.release.outline import Outline
from iotda_provider.trials import DeviceTrial

#: A Sunday, 12:00.
START = datetime(2026, 11, 29, 12, 0, tzinfo=timezone.utc)
FORM = (
    '[{"rule": "Combined", "false_alarm": 0.01, "rules": ['
    '{"rule": "SequentialFailureTest", "tolerated_rate": 0.02}, '
    '{"rule": "SequentialFailureTest", "counts": "attempts", "tolerated_rate": 0.2}, '
    '{"rule": "Overdue", "after_seconds": 14400, "tolerated_rate": 0.02}]}]'
)


def outline(cumulative: tuple[int, ...] = (100, 500, 2500, 10_000), **more: Any) -> Outline:
    return Outline(
        **{
            "labels": tuple(f"wave of {size}" for size in cumulative),
            "cumulative": cumulative,
            "late": 40,
            "late_waves": 0,
            "has_groups": False,
            "in_groups": 10_015,
            "groups": 1,
            "of_product": 20_000,
            "asked_when_online": 0,
            "packages": 1,
            **more,
        }
    )


def planned(
    cumulative: tuple[int, ...] = (100, 500, 2500, 10_000), times: Any = None, **more: Any
) -> dict[str, Any]:
    found = dry_run(
        outline(cumulative),
        **{
            "left_out": {"already_current": 12, "other_product": 3},
            "rules": [SequentialFailureTest(0.02), MaxFailures(5)],
            "gate": EnoughSuccess(0.05),
            "times": times or Times(START, bake=1800, between_looks=10),
            **more,
        },
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

    chunks, parts = -(-devices // 100), -(-devices // 30_000)
    assert found["waves"][0]["batch_tasks"] == parts
    # Each after a look at every batch task, and a rehearsed stop.
    assert found["calls"]["confirming"] == chunks + (chunks + parts + 1) * parts + 1
    counts = [count for name, count in found["calls"].items() if name != "all"]
    assert found["calls"]["all"] == sum(counts)


def test_a_trial_compares_at_each_gate_with_later_waves() -> None:
    assert planned()["calls"]["comparing"] == 0
    # A product of 20,000 has 400 pages.
    assert planned(trial=DeviceTrial())["calls"]["comparing"] == 3 * 400
    few = DeviceTrial(control_size=100)
    assert planned((100, 10_000), trial=few)["calls"]["comparing"] == 201
    late = outline((100, 500, 600), late_waves=1, of_product=600)
    times = Times(START, bake=60, between_looks=10)
    trial = DeviceTrial(control_size=9)
    found = dry_run(
        late,
        left_out={},
        rules=[MaxFailures(5)],
        gate=EnoughSuccess(0.05),
        times=times,
        trial=trial,
    )
    assert found.calls["comparing"] == 12, "the late wave is compared with nobody"


@pytest.mark.parametrize(
    ("trial", "late_waves", "too_small"),
    [
        (DeviceTrial(required=True), 0, [1, 2]),
        (DeviceTrial(required=True), 2, [1]),  # after the second one nobody is left to compare with
        (DeviceTrial(required=True, method="product"), 0, [1, 2, 3]),
        (DeviceTrial(required=True, control_size=50), 0, [1, 2, 3]),
        (DeviceTrial(), 0, []),
        (None, 0, []),
    ],
)
def test_waves_that_are_too_small_for_a_required_trial_are_named(
    trial: DeviceTrial | None, late_waves: int, too_small: list[int]
) -> None:
    """Each is large enough for the gate; the trial takes 82 devices, or 105 by products."""
    found = dry_run(
        outline((60, 81, 100, 1000), late_waves=late_waves),
        left_out={},
        rules=[MaxFailures(5)],
        gate=EnoughSuccess(0.1),
        times=Times(START, bake=60, between_looks=10),
        trial=trial,
    ).to_json()
    assert found["too_small"] == too_small
    said = [one for one in found["warnings"] if "TOO SMALL for the trial to show" in one]
    assert [int(one.split(":")[0].removeprefix("Wave ")) for one in said] == too_small
    assert all(one in found["summary"] for one in said)


@pytest.mark.parametrize("devices", [60, 100])
def test_a_rule_that_can_never_stop_the_release_is_named(devices: int) -> None:
    found = dry_run(
        outline((10, devices)),
        left_out={},
        rules=[MaxFailures(5), MaxFailureRate(0.05)],
        gate=EnoughSuccess(0.1),
        times=Times(START, bake=60, between_looks=10),
    ).to_json()
    said = [one for one in found["warnings"] if "can never stop" in one]
    assert said == ([] if devices == 100 else found["warnings"])
    assert all(one.startswith("MaxFailureRate(0.05) can never stop 60 devi") for one in said)


def test_an_outline_survives_an_xcom_and_nonsense_is_refused() -> None:
    made = outline((5, 9))
    data = json.loads(json.dumps(made.to_json()))
    assert Outline.from_json(data) == made
    for wrong in (
        {**data, "cumulative": [9, 5]},
        {**data, "cumulative": []},
        {**data, "labels": ["one"]},
        {**data, "of_product": "many"},
        {**data, "more": 1},
        [],
    ):
        with pytest.raises(ValueError, match="outline"):
            Outline.from_json(wrong)  # type: ignore[arg-type]


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


def test_each_rule_that_is_combined_has_a_row_and_all_of_them_one() -> None:
    rules = rules_from_json(FORM)
    rows = {row["rule"]: row["exposures"] for row in exposed(rules, (100, 500, 2500, 10_000))}

    failures = "SequentialFailureTest(0.02, false_alarm=0.00333)"
    attempts = "SequentialFailureTest(0.2, false_alarm=0.00333, counts='attempts')"
    overdue = "Overdue(14400.0, tolerated_rate=0.02, false_alarm=0.00333)"
    assert list(rows) == [failures, attempts, overdue, "All rules together"]
    for place, rate in enumerate(RATES):
        whole = exposure(rules[0], rate, 10_000, looks=(100, 500, 2500, 10_000))
        together = rows["All rules together"][place]
        assert together["devices"] == pytest.approx(whole.mean_devices, abs=0.1)
        assert together["devices"] <= min(row[place]["devices"] for row in rows.values())
    assert {cell["stopped"] for cell in rows[attempts]} == {0}, "a tenth is below its fifth"
    assert rows[failures] == rows[overdue]


def test_a_list_of_rules_has_a_row_for_each_and_stops_at_the_first() -> None:
    rows = exposed([MaxFailures(5), SequentialFailureTest(0.02), Stalled(600)], (100, 500, 2500))

    assert [row["rule"] for row in rows] == [
        "MaxFailures(5)",
        "SequentialFailureTest(0.02)",
        "Stalled(600.0)",
        "All rules together",
    ]
    *alone, together = ([cell["devices"] for cell in row["exposures"]] for row in rows)
    assert alone[2] == [2500] * 4, "by the end of a wave nothing is stalled"
    assert all(both <= min(one) + 0.1 for both, *one in zip(together, *alone, strict=True))
    (only,) = exposed([MaxFailures(5)], (100,))
    assert only["rule"] == "MaxFailures(5)"


def test_the_forms_rules_and_a_million_devices_are_computed_in_seconds() -> None:
    rows = exposed(rules_from_json(FORM), (10_000, 50_000, 250_000, 1_000_000))

    for row in (rows[0], rows[-1]):
        assert row["exposures"][-1]["devices"] == pytest.approx(10_000, rel=0.01)
    assert rows[1]["exposures"][-1]["devices"] == 1_000_000
