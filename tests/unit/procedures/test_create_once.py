"""A batch task of one name is created once; the search for it ends where it can't be any more."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

import pytest

from iotda_provider import api
from iotda_provider.exceptions import BatchTaskDiffersError, IoTDAError, IoTDATransportError
from iotda_provider.procedures.create_once import Created, create_batch_task_once
from iotda_provider.transport.runner import run_blocking

T = TypeVar("T")

NAME = "canary_stamp"
STAMP = "_af" + "A" * 26
WANTED: dict[str, Any] = {
    "task_name": NAME,
    "task_type": "firmwareUpgrade",
    "targets": ["d1"],
}
#: Such a task, as the platform shows it.
MADE: dict[str, Any] = {
    **WANTED,
    "status": "Waitting",
    "task_progress": {"total": 1, "waitting": 1},
}
#: One call for each type of upgrades, where any task of that name is looked for.
LOOK = ["GET batchtasks"] * 3


class Platform:
    """Tasks, newest first."""

    def __init__(self, *tasks: tuple[str, str, str]) -> None:
        self.tasks: list[dict[str, Any]] = [
            {**MADE, "task_id": i, "task_name": n, "create_time": t} for i, n, t in tasks
        ]
        self.calls: list[str] = []
        self.lists_until = 10**6
        self.pauses = 0
        self.made_after = 0

    def create_once(self, **task: Any) -> Created:
        return run_blocking(create_batch_task_once(self, **task))

    async def perform(self, call: api.Call[T]) -> T:
        self.calls.append(f"{call.method} {call.path.rsplit('/', 1)[-1]}")
        answer = self.answer(call)
        if isinstance(answer, IoTDAError):
            raise answer
        return answer

    async def perform_all(self, calls: Sequence[api.Call[T]]) -> list[T | IoTDAError]:
        raise NotImplementedError

    def count(self, metric: str) -> None:
        self.counted = [*getattr(self, "counted", ()), metric]

    async def pause(self, seconds: float) -> None:
        self.pauses += 1
        if self.pauses == self.made_after:
            self.tasks[0] |= MADE

    def answer(self, call: api.Call[Any]) -> Any:
        if call.method == "GET":
            if self.calls.count("GET batchtasks") > self.lists_until:
                return IoTDATransportError("the connection broke")
            query = dict(call.query)
            if not call.path.endswith("/batchtasks"):
                (task,) = (t for t in self.tasks if call.path.endswith(t["task_id"]))
                return call.read({"batchtask": task})
            start = int(query.get("marker", "0"))
            ours = [task for task in self.tasks if task["task_type"] == query["task_type"]]
            rows = ours[start : start + 50]
            return call.read({"batchtasks": rows, "page": {"marker": str(start + len(rows))}})
        if call.path.endswith("/stop"):
            return call.read({})
        task = {**MADE, "task_id": "ff", "create_time": "20260301T000000Z"}
        self.tasks.insert(0, task)
        return call.read(task)


def others(count: int, time: str) -> list[tuple[str, str, str]]:
    return [(f"{number:x}", "other", time) for number in range(count, 0, -1)]


def test_all_are_looked_at_before_it_is_created() -> None:
    platform = Platform(*others(120, "20260201T000000Z"))

    made = platform.create_once(**WANTED)

    assert made.created
    assert platform.calls[:6] == ["GET batchtasks"] * 2 + LOOK + ["POST batchtasks"]


def test_none_is_looked_at_that_is_older_than_it_can_be() -> None:
    platform = Platform(*others(10, "20260301T000000Z"), *others(500, "20260101T000000Z"))

    made = platform.create_once(not_before="20260227T000000Z", **WANTED)

    assert made.created
    assert platform.calls[:4] == [*LOOK, "POST batchtasks"]


def test_what_was_created_is_not_lost_by_the_look_after_it() -> None:
    platform = Platform()
    platform.lists_until = len(LOOK)

    made = platform.create_once(**WANTED)

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
        made = platform.create_once(**WANTED)
        assert (made.task.task_id, made.created, made.surplus) == ("ff", True, ())
    else:
        with pytest.raises(IoTDATransportError):
            platform.create_once(**WANTED)
    assert platform.calls.count("POST batchtasks") == 2


def test_the_oldest_is_kept_and_the_others_are_stopped() -> None:
    platform = Platform(
        ("c", NAME, "20260102T000000Z"),
        ("b", "other", "20260101T000000Z"),
        ("a", NAME, "20260101T000000Z"),
    )

    made = platform.create_once(**WANTED)

    assert (made.task.task_id, made.created) == ("a", False)
    assert [surplus.batch_task_id for surplus in made.surplus] == ["c"]
    assert platform.calls == [*LOOK, "GET c", "GET a", "POST stop"]


@pytest.mark.parametrize(
    ("has", "said"),
    [
        ({"task_type": "softwareUpgrade"}, "task_type is 'softwareUpgrade', but 'firmwareUpgrade'"),
        ({"document": {"package_ids": ["q"]}}, "document is {'package_ids': ['q']}"),
        ({"document": None}, "document is None, but {'package_ids': ['p']}"),
        (
            {"targets": ["d2"]},
            "1 of its targets are not wanted, first d2, 1 are missing, first d1",
        ),
        ({"task_policy": {"retry_count": 3}}, "task_policy is {'retry_count': '3'}, but {}"),
        ({"need_confirm": True}, "need_confirm is True, but False is wanted"),
        ({"task_name": f"other{STAMP}"}, f"task_name is 'other{STAMP}', but"),
        ({"task_ext_info": {"a": 1}}, "task_ext_info is {'a': 1}, but None is wanted"),
        ({"app_id": "b"}, "app_id is b, but a is wanted"),
    ],
)
@pytest.mark.parametrize("beside", [False, True], ids=["alone", "beside one that fits"])
def test_what_bears_the_name_and_is_for_something_else_is_neither_kept_nor_stopped(
    has: dict[str, Any], said: str, beside: bool
) -> None:
    name = f"canary{STAMP}"
    wanted = {**WANTED, "task_name": name, "document": {"package_ids": ["p"]}, "app_id": "a"}
    platform = Platform(("b", name, "20260102T000000Z"), ("a", name, "20260101T000000Z"))
    for task in platform.tasks:
        task.update(document=wanted["document"])
    platform.tasks[-1] |= has
    if not beside:
        platform.tasks.pop(0)

    with pytest.raises(BatchTaskDiffersError) as error:
        platform.create_once(**wanted)

    assert said in str(error.value)
    assert "Batch task a (" in str(error.value)
    assert len(str(error.value).splitlines()) == 1
    assert not [call for call in platform.calls if call.startswith("POST")]


@pytest.mark.parametrize(
    "as_shown",
    [
        {"document": {"package_ids": ["q", "p"], "more": None}},
        {"task_policy": {"retry_count": "3", "retry_interval": 5, "schedule_time": ""}},
        {"need_confirm": False, "task_ext_info": None, "task_mode": ""},
    ],
)
def test_what_is_only_spelled_differently_is_the_same(as_shown: dict[str, Any]) -> None:
    wanted = {
        **WANTED,
        "document": {"package_ids": ["p", "q"]},
        "task_policy": {"retry_count": 3, "retry_interval": 5},
    }
    platform = Platform(("a", NAME, "20260101T000000Z"))
    platform.tasks[0] |= {**wanted, **as_shown}

    assert not platform.create_once(**wanted).created


@pytest.mark.parametrize("shown", [None, ["d1"]], ids=["names no targets", "names some targets"])
def test_targets_that_the_description_leaves_out_are_read_from_the_subtasks(shown: Any) -> None:
    class Subtasks(Platform):
        def answer(self, call: api.Call[Any]) -> Any:
            if dict(call.query).get("limit") == "50" and not call.path.endswith("/batchtasks"):
                rows = [{"target": each, "status": "Waitting"} for each in ("d1", "d2")]
                return call.read({"batchtask": self.tasks[0], "task_details": rows})
            return super().answer(call)

    platform = Subtasks(("a", NAME, "20260101T000000Z"))
    platform.tasks[0] |= {"targets": shown, "task_progress": {"total": 2, "waitting": 2}}

    both = {**WANTED, "targets": ["d2", "d1"]}
    assert not platform.create_once(**both).created
    with pytest.raises(BatchTaskDiffersError, match="first d2"):
        platform.create_once(**WANTED)


class CountedOnly(Platform):
    """Until a batch task is made, it counts subtasks that it does not show."""

    def answer(self, call: api.Call[Any]) -> Any:
        is_made = self.tasks[0]["status"] != "Initializing"
        if is_made or dict(call.query)["limit"] != "50" or not call.path.endswith("/a"):
            return super().answer(call)
        answer = {"batchtask": self.tasks[0], "task_details": [], "page": {"count": 1}}
        with pytest.raises(ValueError, match=r"page\.count is 1, and task_details has no rows"):
            call.read(answer)
        return IoTDATransportError("the answer makes no sense")


@pytest.mark.parametrize("looks", [2, 99], ids=["until they are there", "for so long"])
@pytest.mark.parametrize(
    ("kind", "said"), [(Platform, "is still Initializing"), (CountedOnly, "makes no sense")]
)
def test_targets_that_are_still_being_made_are_waited_for(
    kind: type[Platform], said: str, looks: int
) -> None:
    """The platform makes them one by one; until they are there, nobody can tell what they are."""
    platform = kind(("a", NAME, "20260101T000000Z"))
    platform.tasks[0] |= {"status": "Initializing", "targets": None, "task_progress": {}}
    platform.made_after = looks

    if looks == 2:
        assert not platform.create_once(**WANTED).created
    else:
        with pytest.raises(IoTDATransportError, match=said):
            platform.create_once(**WANTED)
    assert platform.pauses == min(looks, 4)


def test_bad_input_sends_nothing() -> None:
    platform = Platform()

    with pytest.raises(IoTDAError, match="task_name"):
        platform.create_once(**{**WANTED, "task_name": "no-hyphens"})
    assert platform.calls == []
