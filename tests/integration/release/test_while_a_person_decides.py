"""Nobody guards while a person decides; so the guard looks before anybody else is let start."""

from __future__ import annotations

from typing import Any

import pytest


@pytest.mark.parametrize("chunk", [1, 100])
def test_a_breach_while_the_question_is_open_stops_the_release_before_anybody_else(
    rollout: Any, chunk: int
) -> None:
    run = rollout(speed=0, failure_rate=0.6, failure_after=600, success_after=900)
    run.plan("50%, 100%")
    run.confirm(1)
    run.emulator.advance(1)
    # Its time is over before the first device has failed: unproven, so a person is asked.
    assert run.watch(1, wave_timeout=0.2)["verdict"] == "unproven"
    assert not run.stops
    run.emulator.advance(7200)
    # "Go on" is the answer.
    result = run.confirm(2, chunk=chunk)
    assert result["verdict"] == "breached"
    assert run.stops == 1
    assert set(run.confirmed) == set(run.wave(1))
    assert set(run.xcoms["confirm_2", "unconfirmed"]) == set(run.wave(2))
    assert run.watch(2)["verdict"] == "breached"
