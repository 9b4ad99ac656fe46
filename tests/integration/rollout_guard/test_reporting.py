"""A rule that knows how late failures report: in a worker and in a triggerer, and after a kill."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from iotda_provider.guards import ReportingDelay, SequentialFailureTest
from iotda_provider.guards.lab.cli import main

#: Failures come after 30 to 50 minutes.
LATE = {"distribution": "uniform", "min": 1800, "max": 3000}
KNOWN = ReportingDelay({1800: 0, 3000: 1}, floor=0.05)
#: Ten devices a minute for two hours.
TRICKLE = {"devices": 1200, "dispatch_rate": 1 / 6, "failure_after": LATE, "success_after": 900}


class KilledError(BaseException):
    """The death of a guard's process."""


def die() -> None:
    raise KilledError


def devices_at_the_stop(
    fleet: Any, ti: Any, rule: Any, *, killed: bool = False, look: float = 30
) -> dict[str, Any]:
    ti = type(ti)(ti.has_store)  # a guard of its own
    bad = fleet({**TRICKLE, "failure_rate": 0.3})
    guard = {"rules": rule, "stop_on_breach": True, "poke_interval": look}
    if killed:
        bad.at(1500, die)
        with pytest.raises(KilledError):
            bad.run(ti, **guard)
        ti.new_try()
    result: dict[str, Any] = bad.run(ti, **guard)["return_value"]
    assert result["verdict"] == "breached"
    return result


def test_it_stops_sooner_than_a_rule_that_does_not_know(fleet: Any, ti: Any) -> None:
    today = devices_at_the_stop(fleet, ti, SequentialFailureTest(0.02), look=60)
    rule = SequentialFailureTest(0.02, reporting=KNOWN)
    known = devices_at_the_stop(fleet, ti, rule, look=60)
    assert known["evidence"]["devices"] < 0.9 * today["evidence"]["devices"]
    assert known["evidence"]["rests_on_reporting"] is True
    assert "if failures report no sooner than assumed" in known["summary"]


def test_a_guard_that_was_killed_knows_the_ages_of_devices(fleet: Any, ti: Any) -> None:
    rule = SequentialFailureTest(0.02, reporting=KNOWN)
    whole = devices_at_the_stop(fleet, ti, rule)["evidence"]
    again = devices_at_the_stop(fleet, ti, rule, killed=True)["evidence"]
    # A start between the last saved look and the kill counts as up to a minute and a look older.
    assert whole["devices"] <= again["devices"] <= whole["devices"] + 15


def test_what_a_guard_records_is_learned_from(
    fleet: Any, ti: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    late = fleet({**TRICKLE, "dispatch_rate": None, "failure_rate": 0.04})
    rule = SequentialFailureTest(0.1, reporting=ReportingDelay({0: 0, 3000: 1}, retries=(0, 0)))
    xcoms = late.run(ti, rules=rule, poke_interval=30)

    assert xcoms["return_value"]["verdict"] == "completed"
    assert "no sooner than assumed" in xcoms["summary"]
    header = xcoms["audit"][0]
    assert header["retries"] == [0, 0]
    assert header["delays"]["failures"] == xcoms["return_value"]["progress"]["fail"] > 25
    seconds = header["delays"]["seconds"]
    # The emulator has begun at once, so the first look saw started devices.
    assert 1800 - 90 <= seconds[0] <= seconds[-1] <= 3000

    file = tmp_path / "audit.json"
    file.write_text(json.dumps(xcoms["audit"]))
    assert main(["fit", str(file)]) == 0
    assert "retries=(0, 0)" in capsys.readouterr().out


def test_other_retries_than_those_of_the_delay_are_refused(fleet: Any, ti: Any) -> None:
    rule = SequentialFailureTest(0.02, reporting=ReportingDelay({0: 1}, retries=(5, 60)))
    with pytest.raises(Exception, match="5 retries, 60 minutes apart"):
        fleet({"devices": 20}).run(ti, rules=rule)
