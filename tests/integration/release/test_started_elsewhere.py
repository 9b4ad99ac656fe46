"""Devices that somebody confirms at the console: of one wave, and never of a later one."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest


def at_the_console(run: Any, *devices: str, wave: int = 1) -> None:
    """Somebody confirms these devices of a wave; none: all of them."""
    confirm = partial(run.emulator.instance.run, "confirm", task_id=run.task_of(wave))
    run.emulator._on_loop(partial(confirm, targets=list(devices) or None))


def test_whoever_confirms_everything_reaches_one_wave_and_no_further(rollout: Any) -> None:
    run = rollout(success_after=60, speed=60)
    run.plan("5%, 100%", gate=0.2)
    run.create(1)
    at_the_console(run)
    result = run.confirm(1)
    assert (result["verdict"], result["let_start"], result["unconfirmed"]) == ("confirmed", 20, 0)
    assert result["started_elsewhere"] == 20
    assert "20 device(s) of it were started by somebody else" in result["summary"]
    assert run.xcoms["confirm_1", "alert"]["kind"] == "started_elsewhere"
    assert not run.confirmations, "who has started need not be asked for"
    assert run.watch(1, gate=0.2)["verdict"] == "passed"
    # The devices of the next wave are in no batch task, until it begins.
    assert len(run.task_ids) == 1
    assert run.confirm(2)["confirmed"] == 380
    assert set(run.confirmed) == set(run.wave(2))
    assert ("confirm_2", "alert") not in run.xcoms, "a person is told once"


@pytest.mark.parametrize("others", ["some", "all"])
def test_what_was_confirmed_at_the_console_meanwhile_counts_as_exposed(
    rollout: Any, around_confirmations: Any, others: str
) -> None:
    run = rollout(failure_rate=0.3, success_after=6000)
    run.plan("25%, 100%")
    first = run.wave(1)
    chosen = first[-30:] if others == "some" else []

    def console(number: int) -> None:
        if number == 2:
            at_the_console(run, *chosen)

    around_confirmations(lambda number: None, console)
    result = run.confirm(1, chunk=10, max_in_flight=20)
    assert result["verdict"] == "breached" or others == "all"
    assert run.watch(1)["verdict"] == "breached"
    for _ in range(2):
        outcome = run.outcome(2)
        found = run.reconcile(outcome)
        exposed = set(run.confirmed) | (set(chosen) or set(first))
        assert (outcome["exposed"], found["exposed"]) == (len(exposed), len(exposed))
        assert found["counts"]["never_started"] == 100 - len(exposed)
        assert found["counts"]["wave_not_begun"] == 300
        assert found["counts"]["interrupted"] > 0
        # The whole run is cleared, and finds it stopped.
        run.plan("25%, 100%")
        run.create(1)
        assert run.confirm(1)["verdict"] in ("breached", "stopped_elsewhere")
        run.watch(1)


def test_what_an_earlier_pass_of_the_run_has_confirmed_is_not_somebody_elses(rollout: Any) -> None:
    run = rollout(success_after=6000)
    run.plan("10%, 50%, 100%")
    run.confirm(1)
    run.confirm(2)
    # The whole run is cleared, and begins anew.
    run.plan("10%, 50%, 100%")
    run.create(1)
    again = run.confirm(1)
    assert (again["verdict"], again["confirmed"], again["started_elsewhere"]) == ("confirmed", 0, 0)
    # Its guard and its gate count those of the second wave, too.
    assert again["batch_task_ids"] == run.task_ids
    watched = run.watch(1, wave_timeout=0.3)
    assert (watched["verdict"], watched["gate"]["devices"]) == ("unproven", 200)
    assert not [key for key in run.xcoms if key[1] == "alert"]
