"""The XCom ``live``: what is in it, and when it is written."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

import pytest

from iotda_provider.exceptions import IoTDATransportError
from iotda_provider.guards import MaxFailures, SequentialFailureTest
from iotda_provider.models import BatchTask
from iotda_provider.rollout_guard.live_record import LiveRecord, header


class Looking:
    """A guard that looks every ten seconds, and its written records."""

    def __init__(self, guard: Any, platform: Any, guards: int = 1) -> None:
        self.guard, self.platform, self.guards = guard, platform, guards
        self.record = LiveRecord(guard.watch)
        self.written: list[tuple[float, str]] = []
        self.last: dict[str, Any] = {}

    def look(self, *answers: Any, times: int = 1) -> None:
        for _ in range(times):
            if answers:
                self.platform.show(*answers)
            outcome = self.guard.poll(10)
            now = self.platform.now
            why = self.record.wants_writing(now, self.guards)
            if outcome is not None or why is not None:
                self.last = self.record.compose(now, self.guards, outcome)
                self.written.append((now - self.platform.start, why or "end"))


def seconds(text: str) -> float:
    return datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()


@pytest.fixture
def looking(guard: Any, platform: Any) -> Any:
    return lambda guards=1, **plan: Looking(guard(stop_on_breach=True, **plan), platform, guards)


def test_nothing_changes_and_it_beats_every_minute(looking: Any, platform: Any) -> None:
    guard = looking()

    guard.look(platform.task(processing=100), times=20)

    assert guard.written == [(10.0 + 60 * number, "routine") for number in range(4)]
    assert seconds(guard.last["due"]) == platform.start + 190 + 60
    assert seconds(guard.last["next_look"]) == platform.start + 190 + 10


def test_counts_that_change_are_written_every_fifteen_seconds_at_most(
    looking: Any, platform: Any
) -> None:
    guard = looking()

    for number in range(10):
        guard.look(platform.task(success=number, processing=100 - number))

    assert [at for at, _ in guard.written] == [10.0, 30.0, 50.0, 70.0, 90.0]
    assert guard.last["progress"]["success"] == 8


def test_after_a_stop_it_still_says_how_many_have_ever_started(looking: Any, platform: Any) -> None:
    guard = looking()

    guard.look(platform.task(fail=41, processing=300, waitting=59))
    guard.look(platform.task("Stopping", fail=41, success=20, stopped=339))
    stopping = guard.last
    guard.look(IoTDATransportError("unreachable"), times=95)
    guard.look(platform.task("Stopped", fail=41, success=20, stopped=339))

    assert (stopping["verdict"], guard.last["verdict"]) == (None, "breached")
    assert stopping["progress"]["started"] == guard.last["progress"]["started"] == 341
    told = {one.kind: one.facts["progress"][0]["started"] for one in platform.told}
    assert told == {"breach": 341, "blind": 341, "stopped": 341}


def test_where_a_person_stops_the_last_look_that_was_judged_stays(
    looking: Any, platform: Any
) -> None:
    guard = looking()
    guard.look(platform.task(fail=1, processing=99))
    judged = guard.last
    guard.look(platform.task("Stopping", fail=1, stopped=60, processing=39))
    assert guard.last["verdict"] == "stopped_elsewhere"
    assert guard.last["curve"] == judged["curve"]
    assert guard.last["rules"] == judged["rules"]
    assert guard.last["rules"][0]["bound"]


def test_with_many_guards_in_the_process_all_of_them_write_five_a_second_at_most(
    looking: Any, platform: Any
) -> None:
    guard = looking(guards=1000)

    for number in range(60):
        guard.look(platform.task(success=number, processing=100 - number))

    assert [at for at, _ in guard.written] == [10.0, 210.0, 410.0]
    assert seconds(guard.last["due"]) == platform.start + 410 + 200


def test_blindness_a_stop_and_the_end_are_written_at_once(looking: Any, platform: Any) -> None:
    guard = looking(guards=1000)
    guard.look(platform.task(processing=100), times=2)
    blind = IoTDATransportError("down")
    guard.look(blind, times=2)
    assert guard.written[-1] == (30.0, "at once")
    assert seconds(guard.last["blind_since"]) == platform.start + 30
    assert seconds(guard.last["looked_at"]) == platform.start + 20

    guard.look(platform.task(fail=6, processing=94))
    assert guard.written[-1] == (50.0, "at once")
    assert (guard.last["decision"], guard.last["blind_since"]) == ("breach", None)
    assert seconds(guard.last["stop"]["accepted_at"]) == platform.start + 50
    assert guard.last["rules"][0]["value"] == 6

    guard.look(platform.task("Stopped", fail=6, stopped=94))
    assert guard.written[-1] == (60.0, "end")
    assert (guard.last["verdict"], guard.last["due"]) == ("breached", None)


def test_a_guard_that_looks_seldom_is_due_at_its_next_look(looking: Any, platform: Any) -> None:
    guard = looking(poll_interval=300.0)

    guard.look(platform.task(processing=100))

    assert seconds(guard.last["due"]) == platform.now + 300


def test_the_first_reasons_are_there_where_they_were_read(looking: Any, platform: Any) -> None:
    guard = looking(rules=(MaxFailures(50, failure_class="firmware"),))
    platform.rows = [
        platform.row(f"device-{number}", f"OTA.{number % 5}", "no\nroom " * 100)
        for number in range(60)
    ]

    guard.look(platform.task(fail=10, processing=90))
    assert guard.last["first_reasons"] == []
    guard.look(platform.task(fail=60, processing=40), times=3)

    reasons = guard.last["first_reasons"]
    assert [reason["error_code"] for reason in reasons] == ["OTA.0", "OTA.1", "OTA.2"]
    assert all(len(reason["error_msg"]) <= 120 for reason in reasons)
    assert all(reason["error_msg"].startswith("no room ") for reason in reasons)
    assert all(reason["failure_class"] for reason in reasons)
    assert len(json.dumps(guard.last)) < 2000


def test_it_stays_small(looking: Any, platform: Any) -> None:
    rules = tuple(SequentialFailureTest(rate / 100) for rate in range(2, 9))
    guard = looking(rules=(*rules, MaxFailures(5)))

    guard.look(platform.task(success=99_000, fail=20_000, processing=1))

    assert len(json.dumps(guard.last)) < 2000


def test_the_header_says_what_is_guarded_and_how() -> None:
    task = BatchTask.from_wire(
        {
            "task_id": "5c8f9e2d7a6b4c3d1e0f9a8b",
            "task_name": "rollout",
            "task_type": "firmwareUpgrade",
            "status": "Processing",
            "document": {"package_ids": ["32822e5744a45ede319d2c50"]},
            "targets_filter": {"group_ids": ["6a1f"]},
            "task_progress": {"total": 1, "processing": 1},
        }
    )

    about = header(
        "guard",
        [task.task_id, "another"],
        [task],
        rules=(MaxFailures(5),),
        iotda_conn_id="mine",
        poll_interval=5,
    )

    assert about["kind"] == "guard"
    assert about["batch_task_ids"] == [task.task_id, "another"]
    assert about["batch_task_names"] == ["rollout"]
    assert about["package_ids"] == ["32822e5744a45ede319d2c50"]
    assert about["group_ids"] == ["6a1f"]
    assert [rule["rule"] for rule in about["rules"]] == ["MaxFailures"]
    assert (about["iotda_conn_id"], about["poll_interval"]) == ("mine", 5)
