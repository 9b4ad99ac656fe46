"""The guard goes on while a person is asked, stops what breaks a rule, and closes the question."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from datetime import timedelta
from types import SimpleNamespace
from typing import Any
from uuid import UUID, uuid4

import pytest
from airflow.providers.common.compat.notifier import BaseNotifier
from airflow.providers.common.compat.sdk import TaskDeferred
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_1_PLUS
from tests.integration.release.conftest import RULES, KilledError, TaskInstance, fired, remade

from iotda_provider.hooks.iotda import IoTDAHook
from iotda_provider.hooks.iotda_async import IoTDAAsyncHook
from iotda_provider.operators.release.wave import GuardedOperator

pytestmark = pytest.mark.skipif(not AIRFLOW_V_3_1_PLUS, reason="asking a person needs Airflow 3.1")

GO_ON, STOP = "Go on", "Stop the release"
#: Six of ten devices fail, ten minutes after they were confirmed; nobody succeeds for a day.
BAD = {"failure_rate": 0.6, "failure_after": 600, "success_after": 90_000}
ERIKA = SimpleNamespace(id="7", name="Erika")


class Desk:
    """Airflow's questions, as its workers and triggerers see them."""

    def __init__(self) -> None:
        self.row: Any = None
        self.reads = 0
        self.is_down = False
        self.at_read: Callable[[int], None] = lambda number: None
        self.before_update: Callable[[], None] = lambda: None

    def put(self, ti_id: UUID, options: list[str], subject: str, **more: Any) -> None:
        # One that was put before loses its answer.
        facts = {"chosen_options": None, "responded_by_user": None, "params_input": {}}
        self.row = SimpleNamespace(ti_id=ti_id, options=options, subject=subject, **facts, **more)

    def answer(self, option: str) -> None:
        """What a person does at Airflow's page."""
        self.row.chosen_options, self.row.responded_by_user = [option], ERIKA

    def read(self, ti_id: UUID) -> Any:
        assert ti_id == self.row.ti_id
        self.reads += 1
        if self.reads > 5_000:
            raise KilledError("nothing ends this question")
        self.at_read(self.reads)
        if self.is_down:
            raise ConnectionError("Airflow's database is down")
        chosen = self.row.chosen_options
        return SimpleNamespace(response_received=chosen is not None, **vars(self.row))

    def update(self, ti_id: UUID, chosen_options: list[str], params_input: Any) -> None:
        self.before_update()
        if self.row.chosen_options is not None:
            raise RuntimeError("409: it has been answered")
        self.row.chosen_options, self.row.params_input = chosen_options, params_input

    @property
    def event(self) -> dict[str, Any]:
        """With what Airflow 3.3 itself resumes a task whose question was answered."""
        by = {"id": ERIKA.id, "name": ERIKA.name}
        return {"chosen_options": self.row.chosen_options, "responded_by_user": by}


class Chat(BaseNotifier):
    """Keeps what it is told, for whichever process."""

    template_fields = ("text",)
    told: list[str] = []

    def __init__(self, text: str = "{{ message }}", **more: Any) -> None:
        super().__init__(**more)
        self.text = text

    def notify(self, context: Any) -> None:
        self.told.append(self.text)


@pytest.fixture
def desk(monkeypatch: pytest.MonkeyPatch, passing: Any) -> Desk:
    """The questions that Airflow keeps."""
    from iotda_provider.operators.release import approval

    made = Desk()
    for name, instead in (
        ("upsert_hitl_detail", made.put),
        ("get_hitl_detail_content_detail", made.read),
        ("update_hitl_detail_response", made.update),
    ):
        monkeypatch.setattr(f"airflow.sdk.execution_time.hitl.{name}", instead)
    monkeypatch.setattr(approval, "time", passing)
    monkeypatch.setattr(TaskInstance, "id", uuid4(), raising=False)
    monkeypatch.setattr(approval.WaveApprovalOperator, "do_branch", lambda self, context, ids: ids)
    Chat.told.clear()
    return made


def asking(**given: Any) -> Any:
    """The operator that asks about the first wave."""
    from iotda_provider.operators.release.approval import WaveApprovalOperator

    return WaveApprovalOperator(
        **{
            "task_id": "ask_1",
            "wave": 1,
            "plan_task_id": "plan",
            "create_task_id": "create_1",
            "subject": "May it go on?",
            "body": "",
            "if_go_on": "create_2",
            "if_stop": "stop_1",
            "rules": RULES,
            "after": ["watch_1"],
            "poll_interval": 0.05,
            "keeper_task_id": "outcome",
            **given,
        }
    )


@pytest.fixture
def unproven(rollout: Any, desk: Desk) -> Callable[..., Any]:
    """A release of 400 devices whose first wave has 200 of them, and is unproven."""

    def start(**scenario: Any) -> Any:
        run = rollout(**{**BAD, **scenario})
        run.plan("50%, 100%")
        run.confirm(1)
        assert run.watch(1, wave_timeout=0.2)["verdict"] == "unproven"
        run.xcoms.put("gate_1", "branch", ["ask_1"])
        assert not run.stops
        return run

    return start


def ended(run: Any) -> Any:
    """The release's outcome, where the question was followed by the wave's stop."""
    from iotda_provider.operators.release.stop import StopReleaseOperator

    assert run.xcoms["ask_1", "branch"] == ["stop_1"]
    stopped = run.run(StopReleaseOperator(task_id="stop_1", create_task_id="create_1"))
    assert set(stopped["outcomes"].values()) <= {"stopped", "already_ended", "gone"}
    found = run.outcome(2)
    # Whatever has happened: the first wave, and nobody else.
    assert set(run.confirmed) == set(run.wave(1))
    assert len(run.emulator.journal("create_batch_task")) == 1
    assert found["exposed"] == 200
    return found


def test_a_breach_is_stopped_at_once_and_closes_the_question(
    unproven: Callable[..., Any], desk: Desk
) -> None:
    run = unproven()
    run.run(asking(notifiers=[Chat()]))
    assert run.stops == 1
    answer = run.xcoms["ask_1", "answer"]
    assert (answer["option"], answer["by"], answer["verdict"]) == (STOP, "the guard", "breached")
    # The question says so, to whoever opens it.
    assert (desk.row.chosen_options, desk.row.responded_by_user) == ([STOP], None)
    assert "closed the question after wave 1" in desk.row.params_input["guard"]
    assert "SequentialFailureTest" in desk.row.params_input["guard"]
    assert [text.split(":")[0] for text in Chat.told] == ["BREACH", "STOPPED"]
    found = ended(run)
    assert (found["verdict"], found["rule"]) == ("breached", answer["rule"])
    assert found["approved_by_person"] == []
    assert "closed the question" in found["summary"]


def test_whom_no_triggerer_can_call_is_told_once_the_task_resumes(
    unproven: Callable[..., Any],
) -> None:
    told: list[Any] = []
    run = unproven()
    run.run(asking(on_alert=lambda alert: told.append(alert["kind"])))
    assert told == ["breach"]
    assert ended(run)["verdict"] == "breached"


@pytest.mark.parametrize("verb", ["stop", "delete"])
def test_whatever_somebody_does_at_the_console_closes_it_too(
    unproven: Callable[..., Any], desk: Desk, verb: str
) -> None:
    run = unproven(failure_rate=0)
    own = run.task_of(1)

    def act(number: int) -> None:
        if number == 5:
            with IoTDAHook() as hook:
                hook.stop_batch_task(own)
                if verb == "delete":
                    run.time.sleep(0.2)
                    hook.delete_batch_task(own)

    desk.at_read = act
    run.run(asking())
    assert desk.row.chosen_options == [STOP]
    assert ended(run)["verdict"] == ("stopped_elsewhere" if verb == "stop" else "lost")


@pytest.mark.parametrize("option", [GO_ON, STOP])
@pytest.mark.parametrize("directly", [False, True], ids=["read by the trigger", "by Airflow 3.3"])
def test_a_persons_answer_is_taken(
    unproven: Callable[..., Any], desk: Desk, option: str, directly: bool
) -> None:
    run = unproven(failure_rate=0)
    desk.at_read = lambda number: desk.answer(option) if number == 5 else None
    if directly:
        resume_directly(run, desk)
    else:
        run.run(asking())
    answer = run.xcoms["ask_1", "answer"]
    assert (answer["option"], answer["verdict"]) == (option, "answered")
    assert "Erika" in answer["by"]
    assert not run.stops
    if option == STOP:
        assert ended(run)["verdict"] == "refused"
        assert run.stops == 1
        return
    assert run.xcoms["ask_1", "branch"] == ["create_2"]
    assert creates(run) == "created"


@pytest.mark.parametrize("option", [GO_ON, STOP])
@pytest.mark.parametrize("directly", [False, True], ids=["read by the trigger", "by Airflow 3.3"])
def test_a_stop_is_not_lost_with_the_worker_that_resumes_with_it(
    unproven: Callable[..., Any],
    desk: Desk,
    monkeypatch: pytest.MonkeyPatch,
    option: str,
    directly: bool,
) -> None:
    run = unproven(failure_rate=0)
    answers = {5: option, 15: GO_ON}
    desk.at_read = lambda number: desk.answer(answers[number]) if number in answers else None
    dies = iter([True])
    really = GuardedOperator.memory_store

    def memory_store(self: Any, context: Any) -> Any:
        if desk.row.chosen_options and next(dies, False):
            raise KilledError("the worker, with the answer")
        return really(self, context)

    monkeypatch.setattr(GuardedOperator, "memory_store", memory_store)
    act: Callable[[], Any] = (
        (lambda: resume_directly(run, desk)) if directly else (lambda: run.run(asking()))
    )
    with pytest.raises(KilledError):
        act()
    assert ("ask_1", "branch") not in run.xcoms
    reads = desk.reads

    if option == STOP:
        run.run(asking())
        assert desk.reads == reads, "nobody was asked again"
        answer = run.xcoms["ask_1", "answer"]
        assert (answer["option"], answer["verdict"]) == (STOP, "answered")
        assert "Erika" in answer["by"]
        assert ended(run)["verdict"] == "refused"
        return
    act()
    assert desk.reads > reads, "a yes is asked for again"
    assert run.xcoms["ask_1", "branch"] == ["create_2"]


def test_a_note_that_somebody_has_edited_is_asked_about(
    unproven: Callable[..., Any], desk: Desk
) -> None:
    run = unproven(failure_rate=0)
    run.context(asking())["task_state_store"].set("stop_answer", "yes")
    desk.at_read = lambda number: desk.answer(GO_ON) if number == 5 else None
    run.run(asking())
    assert run.xcoms["ask_1", "branch"] == ["create_2"]


def creates(run: Any) -> str:
    """What the creation of the second wave comes to."""
    second = run.creating(2)
    second.after = ("watch_1", "ask_1")
    verdict: str = run.run(second)["verdict"]
    return verdict


def resume_directly(run: Any, desk: Desk, cancelled_at: Callable[[], bool] | None = None) -> None:
    """The question as Airflow 3.3 has it: an answer cancels the trigger, and resumes the task."""
    context = run.context(asking())
    with pytest.raises(TaskDeferred) as deferral:
        asking().execute(context)
    trigger = deferral.value.trigger
    is_over = cancelled_at or (lambda: desk.row.chosen_options is not None)

    async def until_answered() -> None:
        async def first() -> None:
            async for _ in remade(trigger).run():
                raise AssertionError("the trigger has ended before it was cancelled")

        running = asyncio.ensure_future(first())
        while not running.done() and not is_over():  # noqa: ASYNC110
            await asyncio.sleep(0.001)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    asyncio.run(until_answered())
    event = desk.event
    while True:
        try:
            asking().resume_execution("execute_complete", {"event": event}, context)
            return
        except TaskDeferred as again:
            event = fired(again.trigger)


def test_silence_stops_the_release_where_it_has_an_end(
    unproven: Callable[..., Any], desk: Desk
) -> None:
    run = unproven(failure_rate=0)
    before = run.time.time()
    run.run(asking(response_timeout=timedelta(seconds=5)))
    assert run.time.time() - before >= 5
    assert desk.row.defaults == [STOP]
    assert desk.row.chosen_options == [STOP]
    answer = run.xcoms["ask_1", "answer"]
    assert (answer["option"], answer["by"], answer["verdict"]) == (STOP, None, "answered")
    assert ended(run)["verdict"] == "refused"


# --- what may go wrong meanwhile ------------------------------------------------------------------

FORBIDDEN = {"status": 403, "body": {"error_code": "APIGW.0302"}}


def test_a_guard_that_loses_the_platform_goes_on_once_it_is_back(
    unproven: Callable[..., Any], desk: Desk
) -> None:
    run = unproven()

    def outage(number: int) -> None:
        if number == 3:
            run.emulator.add_fault("status", call="show_batch_task", **FORBIDDEN)
        if number == 20:
            run.emulator.clear_faults()

    desk.at_read = outage
    run.run(asking(notifiers=[Chat()]))
    assert desk.reads >= 20, "the question stays open while the guard is blind"
    assert [text.split(":")[0] for text in Chat.told][:2] == ["BLIND", "BREACH"]
    assert run.stops == 1
    assert ended(run)["verdict"] == "breached"


def test_an_answer_that_comes_while_the_guard_is_blind_opens_nothing_until_it_sees(
    unproven: Callable[..., Any], desk: Desk
) -> None:
    run = unproven()
    run.emulator.add_fault("status", call="show_batch_task", **FORBIDDEN)
    desk.at_read = lambda number: desk.answer(GO_ON) if number == 20 else None
    run.run(asking())
    assert run.xcoms["ask_1", "branch"] == ["create_2"]
    run.emulator.clear_faults()
    # All have failed by now, which nobody has seen.
    run.emulator.advance(700)
    assert creates(run) == "breached"
    assert set(run.confirmed) == set(run.wave(1))


def test_another_triggerer_goes_on_with_the_question_and_its_guard(
    unproven: Callable[..., Any], desk: Desk
) -> None:
    run = unproven()
    context = run.context(asking())
    with pytest.raises(TaskDeferred) as deferral:
        asking().execute(context)

    async def dies() -> None:
        async def first() -> None:
            async for _ in remade(deferral.value.trigger).run():
                raise AssertionError("it has seen a breach too early for this test")

        running = asyncio.ensure_future(first())
        loop = asyncio.get_running_loop()
        desk.at_read = lambda number: (
            loop.call_soon_threadsafe(running.cancel) if number == 5 else None
        )
        await asyncio.gather(running, return_exceptions=True)

    asyncio.run(dies())
    assert desk.row.chosen_options is None
    assert not run.stops
    event = fired(deferral.value.trigger)
    asking().resume_execution("execute_complete", {"event": event}, context)
    assert run.stops == 1
    assert desk.row.chosen_options == [STOP]
    assert ended(run)["verdict"] == "breached"


def test_airflow_may_be_down_and_the_guard_goes_on(
    unproven: Callable[..., Any], desk: Desk
) -> None:
    run = unproven()
    desk.is_down = True
    run.run(asking())
    assert run.stops == 1
    assert run.xcoms["ask_1", "answer"]["verdict"] == "breached"
    assert ended(run)["verdict"] == "breached"


# --- an answer in the same moment as a breach -----------------------------------------------------


def test_a_yes_in_the_look_that_sees_the_breach_opens_nothing(
    unproven: Callable[..., Any], desk: Desk
) -> None:
    run = unproven()
    # The guard has stopped the release, and the person is quicker than its answer.
    desk.before_update = lambda: desk.answer(GO_ON)
    run.run(asking())
    assert desk.row.chosen_options == [GO_ON], "nobody's answer is overwritten"
    answer = run.xcoms["ask_1", "answer"]
    assert (answer["option"], answer["by"], answer["verdict"]) == (STOP, "the guard", "breached")
    assert ended(run)["verdict"] == "breached"


@pytest.mark.parametrize("option", [GO_ON, STOP])
@pytest.mark.parametrize("sent", [False, True], ids=["before the stop", "after the stop"])
def test_an_answer_that_cancels_the_trigger_in_its_stop_counts_less_than_the_breach(
    unproven: Callable[..., Any],
    desk: Desk,
    monkeypatch: pytest.MonkeyPatch,
    sent: bool,
    option: str,
) -> None:
    run = unproven()
    real, hangs = IoTDAAsyncHook.stop_batch_task, iter([True])

    async def hang(self: IoTDAAsyncHook, *args: Any, **kwargs: Any) -> Any:
        if next(hangs, False):
            if sent:
                await real(self, *args, **kwargs)
            desk.answer(option)
            await asyncio.Event().wait()
        return await real(self, *args, **kwargs)

    monkeypatch.setattr(IoTDAAsyncHook, "stop_batch_task", hang)
    resume_directly(run, desk)
    assert run.stops >= 1
    answer = run.xcoms["ask_1", "answer"]
    assert (answer["option"], answer["by"], answer["verdict"]) == (STOP, "the guard", "breached")
    assert ended(run)["verdict"] == "breached"


def test_what_the_trigger_is_made_of_is_plain_json(
    unproven: Callable[..., Any], desk: Desk
) -> None:
    run = unproven(failure_rate=0)
    with pytest.raises(TaskDeferred) as deferral:
        asking(response_timeout=timedelta(hours=1)).execute(run.context(asking()))
    first = deferral.value.trigger.serialize()
    again = remade(deferral.value.trigger).serialize()
    assert json.loads(json.dumps(again[1])) == json.loads(json.dumps(first[1]))
    assert deferral.value.timeout > timedelta(hours=1)
