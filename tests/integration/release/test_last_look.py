"""After a person's yes to the last wave the platform has the last word, days later as it may be."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from iotda_provider.exceptions import BatchTaskTimeoutError

DAY = 86400


@pytest.fixture
def approved(rollout: Any) -> Callable[..., Any]:
    """A release whose last wave is unproven, and which a person lets go on all the same."""

    def start(**scenario: Any) -> Any:
        run = rollout(speed=1, **scenario)
        run.plan("100%")
        run.confirm(1)
        run.said("unproven")
        run.xcoms.put("gate_1", "branch", ["ask_1"])
        run.xcoms.put("ask_1", "answer", {"option": "Go on", "by": "ann"})
        return run

    return start


def looks(run: Any) -> int:
    return len(run.emulator.journal("show_batch_task"))


def at_the_console(run: Any, operation: str) -> None:
    run.emulator._on_loop(lambda: run.emulator.instance.run(operation, task_id=run.task_of()))


def test_what_is_still_whole_is_released(approved: Any) -> None:
    run = approved(success_after=DAY)
    run.emulator.advance(2 * DAY)
    result = run.outcome()
    assert (result["verdict"], result["approved_by_person"]) == ("released", [1])
    assert not run.stops


def test_what_was_stopped_meanwhile_is_not_released(approved: Any) -> None:
    run = approved(success_after=DAY)
    at_the_console(run, "stop")
    result = run.outcome()
    assert result["verdict"] == "stopped_elsewhere"
    assert "after a person has said yes" in result["summary"]
    assert not run.stops


def test_what_has_broken_meanwhile_is_stopped_and_not_released(approved: Any) -> None:
    run = approved(failure_rate=0.5, failure_after=DAY, success_after=3 * DAY)
    run.emulator.advance(2 * DAY)
    result = run.outcome()
    assert (result["verdict"], run.stops) == ("breached", 1)


def test_what_is_gone_is_lost(approved: Any) -> None:
    run = approved(success_after=DAY)
    at_the_console(run, "stop")
    run.emulator.advance(60)
    at_the_console(run, "delete_task")
    assert run.outcome()["verdict"] == "lost"


def test_a_platform_that_does_not_answer_is_waited_for(approved: Any) -> None:
    run = approved(success_after=DAY)
    run.emulator.add_fault("reset", call="show_batch_task", count=8)
    assert run.outcome()["verdict"] == "released"


def test_without_a_look_nothing_is_released(approved: Any) -> None:
    run = approved(success_after=DAY)
    run.emulator.add_fault("reset", call="show_batch_task")
    with pytest.raises(BatchTaskTimeoutError, match="Clear this task to look again"):
        run.outcome(timeout=0.2)


def test_numbers_need_no_other_look(approved: Any) -> None:
    run = approved(success_after=DAY)
    run.said("passed")
    run.xcoms.put("gate_1", "branch", ["outcome"])
    before = looks(run)
    assert run.outcome()["verdict"] == "released"
    assert looks(run) == before
