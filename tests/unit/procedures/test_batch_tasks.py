"""Whatever is lost between acting and answering, there is one definite result for each target."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable, Sequence
from typing import Any, TypeVar

import pytest

from iotda_provider import api
from iotda_provider.exceptions import (
    IoTDAApiError,
    IoTDAAuthError,
    IoTDAError,
    IoTDANotFoundError,
    IoTDAServerError,
    IoTDATransportError,
    TaskNotStoppableError,
)
from iotda_provider.models import TargetResult, TaskStatus
from iotda_provider.procedures import batch_tasks
from iotda_provider.transport.runner import run_blocking

T = TypeVar("T")

TASK_ID = "5c8fb0d3"
GONE = IoTDANotFoundError(404, "IOTDA.014217", "no such task")
LOST = IoTDATransportError("the connection broke")
REFUSED = IoTDAApiError(400, "IOTDA.014218", "the task has ended")


class Platform:
    """A batch task whose answers get lost, or that refuses, as a test says.

    :param lost: what each call for some targets, in turn, meets instead of its answer
    :param acts: whether it does what is asked although the answer gets lost
    :param settles_after: pauses until a stop of some targets shows
    """

    def __init__(
        self,
        targets: dict[str, str],
        *,
        status: str = "Processing",
        lost: Iterable[IoTDAError | None] = (),
        acts: bool = True,
        unreadable: bool = False,
        settles_after: int = 0,
    ) -> None:
        self.targets = dict(targets)
        self.status = status
        self.lost = list(lost)
        self.acts = acts
        self.unreadable = unreadable
        self.calls: list[api.Call[Any]] = []
        self.settles_after = settles_after
        self.stopping: set[str] = set()
        self.pauses = 0

    def run(self, procedure: Callable[..., Coroutine[Any, Any, T]], *args: Any) -> T:
        return run_blocking(procedure(self, *args))

    async def perform(self, call: api.Call[T]) -> T:
        answer = self.answer(call)
        if isinstance(answer, IoTDAError):
            raise answer
        return answer

    async def perform_all(self, calls: Sequence[api.Call[T]]) -> list[T | IoTDAError]:
        return [self.answer(call) for call in calls]

    def count(self, metric: str) -> None:
        self.counted = [*getattr(self, "counted", ()), metric]

    async def pause(self, seconds: float) -> None:
        self.pauses += 1
        if self.settles_after == self.pauses:
            self.settle()

    def settle(self) -> None:
        self.targets |= dict.fromkeys(self.stopping, "Stopped")

    def answer(self, call: api.Call[Any]) -> Any:
        self.calls.append(call)
        if call.method == "GET":
            return LOST if self.unreadable else call.read(self.read(dict(call.query)))
        trouble = self.lost.pop(0) if self.lost else None
        rows = self.act(call) if self.acts or trouble is None else []
        return trouble or call.read({"targets": rows})

    def act(self, call: api.Call[Any]) -> list[dict[str, Any]]:
        verb = call.path.rsplit("/", 1)[-1]
        becomes = {"stop": "Stopped", "retry": "Waitting", "confirm": "Processing"}[verb]
        if "targets" not in call.body:
            self.targets = dict.fromkeys(self.targets, becomes)
            self.status = "Stopping" if verb == "stop" else "Processing"
            return []
        rows = []
        for target in call.body["targets"]:
            before = self.targets.get(target)
            able = {
                "stop": before in ("Processing", "Waitting", "FailWaitRetry"),
                "retry": before in ("Fail", "Stopped"),
                "confirm": before == "Waitting",
            }[verb]
            code = "IOTDA.014219" if before is None else "IOTDA.014220"
            rows.append(
                {"target": target, "status": "success"}
                if able
                else {"target": target, "status": "failure", "error_code": code}
            )
            if able and verb == "stop" and self.settles_after:
                self.stopping.add(target)
            elif able:
                self.targets[target] = becomes
        return rows

    def read(self, query: dict[str, str]) -> dict[str, Any]:
        rows = [
            {"target": target, "status": status}
            for target, status in self.targets.items()
            if query.get("target") in (None, target)
        ]
        start = int(query.get("marker", "0"))
        page = rows[start : start + int(query["limit"])]
        values = list(self.targets.values())
        names = {"fail": "Fail", "stopped": "Stopped", "waitting": "Waitting", "success": "Success"}
        progress = {name: values.count(status) for name, status in names.items()}
        task = {
            "task_id": TASK_ID,
            "status": self.status,
            "task_type": "firmwareUpgrade",
            "task_progress": {**progress, "total": len(values)},
        }
        marker = str(start + len(page))
        return {
            "batchtask": task,
            "task_details": page,
            "page": {"count": len(rows), "marker": marker},
        }

    @property
    def sent(self) -> list[str]:
        return [call.path.rsplit("/", 1)[-1] for call in self.calls if call.method == "POST"]

    @property
    def reads(self) -> int:
        return sum(call.method == "GET" for call in self.calls)


def fleet(count: int, status: str = "Processing") -> dict[str, str]:
    return {f"d{number}": status for number in range(count)}


class TestStoppingTargets:
    def test_a_lost_answer_is_read_back(self) -> None:
        platform = Platform({**fleet(300), "d2": "Success"}, lost=[LOST])

        results = platform.run(batch_tasks.stop_batch_task, TASK_ID, ["d1", "d2", "d9999"])

        assert results[0] == TargetResult("d1", True)
        assert (results[1].succeeded, results[1].error_msg) == (
            False,
            "the target's status is Success: the connection broke",
        )
        assert results[2].error_code == "IOTDA.014219"

    def test_a_target_that_was_stopped_before_is_stopped(self) -> None:
        platform = Platform({"d1": "Stopped", "d2": "Success"})

        results = platform.run(batch_tasks.stop_batch_task, TASK_ID, ["d1", "d2"])

        assert results[0] == TargetResult("d1", True)
        assert results[1] == TargetResult("d2", False, "IOTDA.014220")

    def test_what_the_platform_did_not_act_upon_has_failed(self) -> None:
        platform = Platform(fleet(300), lost=[LOST], acts=False)

        results = platform.run(batch_tasks.stop_batch_task, TASK_ID, ["d1"])

        assert not results[0].succeeded
        assert "Processing" in str(results[0].error_msg)
        assert platform.pauses > 1

    def test_a_stop_may_take_a_moment_to_show(self) -> None:
        platform = Platform({**fleet(300), "d2": "Success"}, lost=[LOST], settles_after=2)

        results = platform.run(batch_tasks.stop_batch_task, TASK_ID, ["d1", "d2"])

        assert [result.succeeded for result in results] == [True, False]
        # Only what may still move is looked at again.
        assert platform.reads == 1 + 2 + 1 + 1

    def test_many_unclear_targets_are_read_by_the_page(self) -> None:
        platform = Platform(fleet(1000), lost=[LOST] * 10)

        results = platform.run(batch_tasks.stop_batch_task, TASK_ID, list(platform.targets))

        assert len(results.succeeded) == 1000
        assert platform.reads <= 1 + 20 + 1

    def test_few_unclear_targets_are_read_one_by_one(self) -> None:
        platform = Platform(fleet(30_000), lost=[None, LOST])

        results = platform.run(batch_tasks.stop_batch_task, TASK_ID, list(platform.targets)[:200])

        assert len(results.succeeded) == 200
        assert platform.reads == 1 + 100

    def test_those_that_cannot_be_read_back_are_reported_as_unknown_beside_the_others(self) -> None:
        platform = Platform(fleet(200), lost=[None, LOST], unreadable=True)

        results = platform.run(batch_tasks.stop_batch_task, TASK_ID, list(platform.targets))

        assert len(results.succeeded) == len(results.failed) == 100
        assert str(results[100].error_msg).startswith("unknown: ")

    def test_where_nothing_at_all_is_known_it_is_an_error(self) -> None:
        platform = Platform(fleet(200), lost=[LOST, LOST], unreadable=True)

        with pytest.raises(IoTDATransportError):
            platform.run(batch_tasks.stop_batch_task, TASK_ID, list(platform.targets))

    def test_a_call_that_is_not_allowed_does_not_lose_the_others(self) -> None:
        platform = Platform(fleet(200), lost=[None, IoTDAAuthError(403)], acts=False)

        results = platform.run(batch_tasks.stop_batch_task, TASK_ID, list(platform.targets))

        assert len(results.succeeded) == len(results.failed) == 100

    def test_where_none_is_allowed_it_is_an_error(self) -> None:
        platform = Platform(fleet(200), lost=[IoTDAAuthError(403)] * 2)

        with pytest.raises(IoTDAAuthError):
            platform.run(batch_tasks.stop_batch_task, TASK_ID, list(platform.targets))
        assert platform.reads == 0

    @pytest.mark.parametrize("refusals", [1, 2, 3])
    def test_what_is_refused_while_the_task_begins_is_sent_again(self, refusals: int) -> None:
        platform = Platform(fleet(250), lost=[REFUSED] * refusals, acts=False)

        results = platform.run(batch_tasks.stop_batch_task, TASK_ID, list(platform.targets))

        assert len(results.succeeded) == 250
        assert len(platform.sent) == 3 + refusals

    def test_what_is_refused_again_is_an_error_of_its_targets(self) -> None:
        platform = Platform(fleet(250), lost=[None, *[REFUSED] * 4], acts=False)

        results = platform.run(batch_tasks.stop_batch_task, TASK_ID, list(platform.targets))

        assert (len(results.succeeded), len(results.failed)) == (100, 150)
        assert len(platform.sent) == 5

    def test_targets_of_a_task_that_is_stopping_anyway_are_joined(self) -> None:
        platform = Platform(fleet(2), status="Stopping", lost=[REFUSED], acts=False)

        results = platform.run(batch_tasks.stop_batch_task, TASK_ID, ["d0", "d1"])

        assert len(results.succeeded) == 2

    def test_targets_of_a_completed_task_are_an_error_with_its_status(self) -> None:
        platform = Platform(fleet(2, "Fail"), status="Fail", lost=[REFUSED], acts=False)

        with pytest.raises(TaskNotStoppableError) as caught:
            platform.run(batch_tasks.stop_batch_task, TASK_ID, ["d0", "d1"])
        assert caught.value.status is TaskStatus.FAIL

    def test_a_target_that_the_answer_leaves_out_is_read_back(self) -> None:
        platform = Platform(fleet(300))
        real = platform.act
        platform.act = lambda call: real(call)[1:]  # type: ignore[method-assign]

        results = platform.run(batch_tasks.stop_batch_task, TASK_ID, ["d0", "d1"])

        assert len(results.succeeded) == 2
        assert platform.reads == 2


class TestStoppingAll:
    @pytest.mark.parametrize("trouble", [LOST, REFUSED, IoTDAServerError(500)])
    def test_a_stop_that_happened_is_found(self, trouble: IoTDAError) -> None:
        platform = Platform(fleet(2), lost=[trouble])

        assert len(platform.run(batch_tasks.stop_batch_task, TASK_ID)) == 0

    def test_one_that_did_not_happen_is_an_error(self) -> None:
        platform = Platform(fleet(2), lost=[LOST], acts=False)

        with pytest.raises(IoTDATransportError, match="the connection broke"):
            platform.run(batch_tasks.stop_batch_task, TASK_ID)

    def test_a_completed_task_is_an_error_with_its_status(self) -> None:
        platform = Platform(fleet(2, "Success"), status="Success", lost=[REFUSED], acts=False)

        with pytest.raises(TaskNotStoppableError, match="already ended as Success") as caught:
            platform.run(batch_tasks.stop_batch_task, TASK_ID)
        assert caught.value.status is TaskStatus.SUCCESS

    def test_a_proxys_404_is_no_last_word_on_a_stop_that_nobody_repeats_later(self) -> None:
        page = IoTDANotFoundError(404, None, "an HTML page")
        platform = Platform(fleet(2), lost=[page, page], acts=False)

        assert platform.run(batch_tasks.stop_whole_tasks, [TASK_ID]) == {TASK_ID: None}
        assert (platform.sent, platform.status) == (["stop"] * 3, "Stopping")

    @pytest.mark.parametrize("error", [GONE, IoTDAAuthError(403)])
    def test_the_platforms_own_word_is(self, error: IoTDAError) -> None:
        platform = Platform({}, lost=[error], acts=False)

        assert platform.run(batch_tasks.stop_whole_tasks, [TASK_ID]) == {TASK_ID: error}
        assert platform.sent == ["stop"]

    def test_a_missing_task_is_not_read_again(self) -> None:
        platform = Platform({}, lost=[IoTDANotFoundError(404)], acts=False)

        with pytest.raises(IoTDANotFoundError):
            platform.run(batch_tasks.stop_batch_task, TASK_ID)
        assert platform.reads == 0


class TestConfirming:
    def test_a_lost_answer_is_read_back(self) -> None:
        platform = Platform(fleet(300, "Waitting"), lost=[LOST])

        assert platform.run(batch_tasks.confirm_batch_task, TASK_ID, ["d1"])[0].succeeded

    def test_a_target_that_was_confirmed_before_is_confirmed(self) -> None:
        platform = Platform({"d1": "Processing", "d2": "Stopped"})

        results = platform.run(batch_tasks.confirm_batch_task, TASK_ID, ["d1", "d2"])

        assert [result.succeeded for result in results] == [True, False]

    def test_all_with_a_lost_answer_are_read_back(self) -> None:
        platform = Platform(fleet(2, "Waitting"), lost=[LOST])

        assert len(platform.run(batch_tasks.confirm_batch_task, TASK_ID)) == 0

    def test_all_that_did_not_happen_is_an_error(self) -> None:
        platform = Platform(fleet(2, "Waitting"), lost=[LOST], acts=False)

        with pytest.raises(IoTDATransportError):
            platform.run(batch_tasks.confirm_batch_task, TASK_ID)


class TestRetrying:
    def test_a_lost_answer_is_read_back_and_nothing_is_sent_twice(self) -> None:
        platform = Platform(fleet(300, "Fail"), lost=[LOST])

        assert platform.run(batch_tasks.retry_batch_task, TASK_ID, ["d1"])[0].succeeded
        assert platform.sent == ["retry"]

    def test_a_target_that_was_retried_before_is_retried(self) -> None:
        platform = Platform({"d1": "Processing", "d2": "Success"})

        results = platform.run(batch_tasks.retry_batch_task, TASK_ID, ["d1", "d2"])

        assert [result.succeeded for result in results] == [True, False]
        assert platform.sent == ["retry"]

    def test_all_with_a_lost_answer_are_read_back(self) -> None:
        platform = Platform(fleet(2, "Fail"), lost=[LOST])

        assert len(platform.run(batch_tasks.retry_batch_task, TASK_ID)) == 0
        assert platform.sent == ["retry"]

    def test_all_that_did_not_happen_is_an_error(self) -> None:
        platform = Platform(fleet(2, "Fail"), lost=[LOST], acts=False)

        with pytest.raises(IoTDATransportError):
            platform.run(batch_tasks.retry_batch_task, TASK_ID)


class Answers(Platform):
    """A platform of which a test says every answer."""

    def __init__(self, *answers: Any) -> None:
        super().__init__({})
        self.answers = list(answers)

    def answer(self, call: api.Call[Any]) -> Any:
        self.calls.append(call)
        return self.answers.pop(0)


class TestDeleting:
    def drive(self, *answers: Any) -> list[str]:
        """The methods that were sent while ``answers`` came."""
        platform = Answers(*answers)
        platform.run(batch_tasks.delete_batch_task, TASK_ID)
        return [call.method for call in platform.calls]

    def test_a_lost_answer_is_read_back(self) -> None:
        assert self.drive(LOST, GONE) == ["DELETE", "GET"]

    def test_a_page_of_a_proxy_does_not_say_that_it_was_deleted(self) -> None:
        with pytest.raises(IoTDANotFoundError):
            self.drive(LOST, IoTDANotFoundError(404, None, "an HTML page"))

    def test_a_task_that_is_still_there_is_deleted_again(self) -> None:
        assert self.drive(IoTDAServerError(503), object(), None) == ["DELETE", "GET", "DELETE"]

    def test_a_missing_task_is_an_error(self) -> None:
        with pytest.raises(IoTDANotFoundError):
            self.drive(GONE)


def test_reading_stopped_targets_changes_nothing() -> None:
    platform = Platform({"d1": "Stopped", "d2": "Success"}, status="Stopped")

    results = platform.run(batch_tasks.read_stopped_targets, TASK_ID, ["d1", "d2"])

    assert [result.succeeded for result in results] == [True, False]
    assert platform.sent == []
