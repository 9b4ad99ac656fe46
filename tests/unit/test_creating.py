"""A batch task of one name is created once; the search for it ends where it can't be any more."""

from __future__ import annotations

from typing import Any

import pytest

from iotda_provider import api
from iotda_provider.creating import create_batch_task_once
from iotda_provider.exceptions import IoTDAError, IoTDATransportError

NAME = "canary_stamp"
WANTED: dict[str, Any] = {
    "task_name": NAME,
    "task_type": "firmwareUpgrade",
    "targets": ["d1"],
}


class Platform:
    """Tasks, newest first."""

    def __init__(self, *tasks: tuple[str, str, str]) -> None:
        self.tasks = [{"task_id": i, "task_name": n, "create_time": t} for i, n, t in tasks]
        self.calls: list[str] = []
        self.lists_until = 10**6

    def run(self, procedure: Any) -> Any:
        answer: Any = None
        while True:
            try:
                if isinstance(answer, IoTDAError):
                    call = procedure.throw(answer)
                else:
                    call = procedure.send(answer)
            except StopIteration as end:
                return end.value
            self.calls.append(f"{call.method} {call.path.rsplit('/', 1)[-1]}")
            answer = self.answer(call)

    def answer(self, call: api.Call[Any]) -> Any:
        if call.method == "GET":
            if self.calls.count("GET batchtasks") > self.lists_until:
                return IoTDATransportError("the connection broke")
            start = int(dict(call.query).get("marker", "0"))
            rows = self.tasks[start : start + 50]
            return call.read({"batchtasks": rows, "page": {"marker": str(start + len(rows))}})
        if call.path.endswith("/stop"):
            return call.read({})
        task = {"task_id": "ff", "task_name": NAME, "create_time": "20260301T000000Z"}
        self.tasks.insert(0, task)
        return call.read(task)


def others(count: int, time: str) -> list[tuple[str, str, str]]:
    return [(f"{number:x}", "other", time) for number in range(count, 0, -1)]


def test_all_are_looked_at_before_it_is_created() -> None:
    platform = Platform(*others(120, "20260201T000000Z"))

    made = platform.run(create_batch_task_once(**WANTED))

    assert made.created
    assert platform.calls[:4] == ["GET batchtasks"] * 3 + ["POST batchtasks"]


def test_none_is_looked_at_that_is_older_than_it_can_be() -> None:
    platform = Platform(*others(10, "20260301T000000Z"), *others(500, "20260101T000000Z"))

    made = platform.run(create_batch_task_once(not_before="20260227T000000Z", **WANTED))

    assert made.created
    assert platform.calls[:2] == ["GET batchtasks", "POST batchtasks"]


def test_what_was_created_is_not_lost_by_the_look_after_it() -> None:
    platform = Platform()
    platform.lists_until = 1

    made = platform.run(create_batch_task_once(**WANTED))

    assert (made.task.task_id, made.created) == ("ff", True)


@pytest.mark.parametrize("acted", [True, False])
def test_the_second_answer_may_be_lost_too(acted: bool) -> None:
    class Breaking(Platform):
        def answer(self, call: api.Call[Any]) -> Any:
            creations = self.calls.count("POST batchtasks")
            if call.method == "GET" or creations > 2:
                return super().answer(call)
            if creations == 2 and acted:
                super().answer(call)
            return IoTDATransportError("the connection broke")

    platform = Breaking()
    if acted:
        made = platform.run(create_batch_task_once(**WANTED))
        assert (made.task.task_id, made.created, made.surplus) == ("ff", True, ())
    else:
        with pytest.raises(IoTDATransportError):
            platform.run(create_batch_task_once(**WANTED))
    assert platform.calls.count("POST batchtasks") == 2


def test_the_oldest_is_kept_and_the_others_are_stopped() -> None:
    platform = Platform(
        ("c", NAME, "20260102T000000Z"),
        ("b", "other", "20260101T000000Z"),
        ("a", NAME, "20260101T000000Z"),
    )

    made = platform.run(create_batch_task_once(**WANTED))

    assert (made.task.task_id, made.created) == ("a", False)
    assert [surplus.batch_task_id for surplus in made.surplus] == ["c"]
    assert platform.calls == ["GET batchtasks", "POST stop"]


def test_bad_input_sends_nothing() -> None:
    platform = Platform()

    with pytest.raises(IoTDAError, match="task_name"):
        platform.run(create_batch_task_once(**{**WANTED, "task_name": "no-hyphens"}))
    assert platform.calls == []
