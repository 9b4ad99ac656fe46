"""Once devices were confirmed, no refusal ends the guard, not even at the first look of a task."""

from __future__ import annotations

from typing import Any

import pytest
from tests.integration.release.conftest import KilledError

from iotda_provider.exceptions import IoTDAAuthError
from iotda_provider.guards import MaxFailures

LENIENT = MaxFailures(1000)


def refuse(run: Any, status: int = 403, **given: Any) -> None:
    """The platform refuses looks: somebody has taken a permission away, or changed a key."""
    body = {"error_code": "APIGW.0302"}
    run.emulator.add_fault("status", call="show_batch_task", status=status, body=body, **given)


def told(run: Any, task_id: str) -> Any:
    """What kind of thing a person was last told by a task."""
    return (run.xcoms.get((task_id, "alert")) or {}).get("kind")


@pytest.fixture
def started(rollout: Any) -> Any:
    """A release of which 100 devices were confirmed; 30 of them are about to fail."""
    run = rollout(failure_rate=0.3, failure_after=300, success_after=6000)
    run.plan("25%, 100%")
    assert run.confirm(1)["confirmed"] == 100
    return run


@pytest.mark.parametrize("status", [401, 403])
def test_the_guard_of_a_watched_wave_goes_on_and_a_person_is_told(
    started: Any, status: int
) -> None:
    refuse(started, status, count=12)
    result = started.watch(1)
    assert (result["verdict"], result["stop"]["outcome"]) == ("breached", "stopped")
    assert started.stops == 1
    assert told(started, "watch_1") == "blind"
    assert f"HTTP {status}" in started.xcoms["watch_1", "alert"]["sentence"]


def test_nor_does_that_of_the_next_wave_end(started: Any) -> None:
    started.create(2)
    refuse(started, count=12)
    result = started.confirm(2)
    # Both batch tasks are stopped: the second one's devices wait, and wait no more.
    assert (result["verdict"], started.stops) == ("breached", 2)
    assert told(started, "confirm_2") == "blind"
    assert set(started.confirmed) == set(started.wave(1))


def test_nor_does_that_of_a_first_wave_that_goes_on_after_a_death(rollout: Any, kill: Any) -> None:
    run = rollout(failure_rate=0.3, failure_after=300, success_after=6000)
    run.plan("50%, 100%")
    kill(2, sent=True)
    with pytest.raises(KilledError):
        run.confirm(1, rules=LENIENT)
    run.stores.clear()  # what its guard knew has died with it
    refuse(run, count=12)
    result = run.confirm(1)
    assert (result["verdict"], run.stops) == ("breached", 1)
    assert told(run, "confirm_1") == "blind"
    assert len(run.confirmed) == 200


def test_nor_does_the_last_look_after_a_persons_yes(rollout: Any) -> None:
    run = rollout(devices=100, failure_rate=0.3, failure_after=300, success_after=6000)
    run.plan("100%")
    run.confirm(1)
    run.said("unproven")
    run.xcoms.put("gate_1", "branch", ["ask_1"])
    run.xcoms.put("ask_1", "answer", {"option": "Go on", "by": "ann"})
    run.time.sleep(1.5)  # the first have failed
    refuse(run, count=12)
    assert run.outcome()["verdict"] == "breached"
    assert (told(run, "outcome"), run.stops) == ("blind", 1)


def test_a_wave_that_was_never_seen_again_passes_nobody(started: Any) -> None:
    refuse(started)
    result = started.watch(1)
    assert result["verdict"] == "unproven"
    assert "the guard is blind" in result["summary"]
    assert told(started, "watch_1") == "blind"


def test_where_nothing_has_started_a_wrong_key_is_an_error_at_once(rollout: Any) -> None:
    run = rollout()
    run.plan("25%, 100%")
    run.create(1)
    refuse(run)
    before = run.time.time()
    with pytest.raises(IoTDAAuthError, match="403"):
        run.confirm(1)
    assert run.time.time() - before < 1
    assert not run.confirmations
