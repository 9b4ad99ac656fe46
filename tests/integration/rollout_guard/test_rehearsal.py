"""A guard rehearses a stop at its start: the journal shows the request, and no device stops."""

from __future__ import annotations

from typing import Any

import pytest


def test_one_target_that_nobody_has_is_asked_for(fleet: Any, ti: Any) -> None:
    good = fleet({"devices": 50, "success_after": 600})

    result = good.run(ti, stop_on_breach=True, rehearse_stop=True)["return_value"]

    (rehearsal,) = good.calls("stop_batch_task")
    assert [len(targets) for targets in rehearsal["body"].values()] == [1]
    assert rehearsal["status"] == 200
    assert (result["progress"]["success"], result["progress"]["stopped"]) == (50, 0)
    assert "alert" not in ti.xcoms


def test_a_connection_that_may_not_stop_is_told_at_once(fleet: Any, ti: Any) -> None:
    good = fleet({"devices": 50, "success_after": 600})
    good.emulator.add_fault("status", call="stop_batch_task", status=403, body={}, count=1)

    result = good.run(ti, stop_on_breach=True, rehearse_stop=True)["return_value"]

    assert result["verdict"] == "completed"
    assert ti.xcoms["alert"]["kind"] == "may_not_stop"
    assert len(good.calls("stop_batch_task")) == 1


#: Answers that do not say whether the connection may stop.
UNCLEAR = {
    "unavailable": {"kind": "status", "status": 503, "body": {}},
    "throttled": {"kind": "status", "status": 429, "body": {}},
    "lost": {"kind": "reset"},
    "initializing": {"kind": "status", "status": 400, "body": {"error_code": "IOTDA.014219"}},
}


@pytest.mark.parametrize("answer", UNCLEAR.values(), ids=UNCLEAR)
def test_a_refusal_after_an_unclear_answer_is_told(fleet: Any, ti: Any, answer: Any) -> None:
    good = fleet({"devices": 50, "success_after": 600})
    good.emulator.add_fault(**answer, call="stop_batch_task", count=1)
    good.emulator.add_fault("status", call="stop_batch_task", status=403, body={})

    result = good.run(ti, stop_on_breach=True, rehearse_stop=True)["return_value"]

    assert result["verdict"] == "completed"
    assert ti.xcoms["alert"]["kind"] == "may_not_stop"
    assert len(good.calls("stop_batch_task")) == 2


@pytest.mark.parametrize(
    "parameters", [{}, {"shadow": True, "stop_on_breach": True}, {"rehearse_stop": False}]
)
def test_a_guard_that_stops_nothing_rehearses_nothing(fleet: Any, ti: Any, parameters: Any) -> None:
    good = fleet({"devices": 50, "success_after": 600})

    good.run(ti, **{"rehearse_stop": True, **parameters})

    assert not good.calls("stop_batch_task")
