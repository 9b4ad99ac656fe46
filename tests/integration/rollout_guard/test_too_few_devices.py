"""A guard whose rule can never stop its rollout says so, whoever watches."""

from __future__ import annotations

from typing import Any

from iotda_provider.guards import MaxFailureRate


def test_a_guard_that_can_never_stop_its_rollout_warns_of_it(
    fleet: Any, ti: Any, deferrable: bool, capsys: Any
) -> None:
    bad = fleet({"devices": 60, "failure_rate": 1.0})

    xcoms = bad.run(ti, rules=MaxFailureRate(0.05), stop_on_breach=True)

    assert xcoms["return_value"]["verdict"] == "completed"
    said = capsys.readouterr().out
    assert said.count("MaxFailureRate(0.05) can never stop 60 device(s), even if all fail.") in (
        (1, 2) if deferrable else (1,)  # in each process
    )
