"""Whom a release tells: of its guard's stop, of waves that passed, of questions, and of its end."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
from airflow.providers.common.compat.notifier import BaseNotifier

from iotda_provider.operators.release.gate import WaveGateOperator


class Chat(BaseNotifier):
    """Keeps what it says."""

    template_fields = ("text",)
    told: ClassVar[list[tuple[str, str]]] = []

    def __init__(self, text: str = "{{ message }}", fails: bool = False) -> None:
        super().__init__()
        self.text, self.fails = text, fails

    def notify(self, context: Any) -> None:
        """Say it."""
        self.told.append((context["task_id"], self.text))
        if self.fails:
            raise RuntimeError("down")


@pytest.fixture(autouse=True)
def _nobody_was_told() -> None:
    Chat.told.clear()


def test_people_are_told_once_that_a_wave_was_stopped(rollout: Any) -> None:
    run = rollout(devices=200, failure_rate=0.5, failure_after=5)
    run.plan("50%, 100%")
    told = {"notifiers": [Chat(fails=True)]}
    run.create(1, **told)
    run.confirm(1, **told)
    run.watch(1, **told)

    assert run.xcoms["watch_1", "return_value"]["verdict"] == "breached"
    assert [text.split(":")[0] for _, text in Chat.told] == ["BREACH", "STOPPED"]

    run.outcome(2, **told)
    task_id, text = Chat.told[-1]
    assert task_id == "outcome"
    assert text.startswith("NOT RELEASED: The release has ended as breached. ")


def test_people_are_told_that_a_release_has_reached_its_end(rollout: Any) -> None:
    run = rollout(devices=60, success_after=5)
    run.plan("100%")
    run.confirm(1)
    run.watch(1)

    chat = Chat("{{ event.severity }} {{ message }}")
    run.outcome(1, notifiers=[chat])
    run.outcome(1, notifiers=[chat], released_as="rolled_back")

    assert [text.split(".")[0] for _, text in Chat.told] == [
        "info RELEASED: 60 of 60 devices were confirmed",
        "info ROLLED BACK: 60 of 60 devices were confirmed",
    ]


def test_devices_that_do_not_come_back_are_more_urgent_than_a_release_that_ends_early(
    rollout: Any,
) -> None:
    run = rollout(devices=200, failure_rate=0.5, failure_after=5)
    run.plan("50%, 100%")
    run.confirm(1)
    run.watch(1)

    chat = Chat("{{ event.severity }} {{ message }}")
    run.outcome(2, notifiers=[chat])
    run.outcome(2, notifiers=[chat], released_as="rolled_back")

    assert [text.split(":")[0] for _, text in Chat.told] == [
        "error NOT RELEASED",
        "critical NOT ROLLED BACK",
    ]


@pytest.mark.parametrize(
    ("verdict", "approval", "kinds"),
    [
        ("passed", "never", ["WAVE PASSED"]),
        ("passed", "before every wave", ["WAVE PASSED", "QUESTION OPEN"]),
        ("unproven", "when unproven", ["QUESTION OPEN"]),
        ("rejected", "when unproven", []),
    ],
)
def test_a_wave_that_passed_and_an_open_question_are_told(
    verdict: str, approval: str, kinds: list[str]
) -> None:
    gate = WaveGateOperator(
        task_id="gate",
        watch_task_id="watch",
        if_passed="next",
        if_ask="ask",
        if_stop="stop",
        if_over="over",
        approval=approval,
        question="May 2.0.0 go on after wave 1?",
        notifiers=[Chat()],
    )
    object.__setattr__(gate, "follow", lambda context, ids, why: None)
    result = {"verdict": verdict, "is_last": False, "summary": "20 of 20 succeeded."}
    ids = {"dag_id": "d", "run_id": "r", "task_id": "gate", "map_index": -1, "try_number": 1}
    ti = SimpleNamespace(**ids, xcom_pull=lambda **named: result)

    gate.execute({"ti": ti})  # type: ignore[typeddict-item]

    assert [text.split(":")[0] for _, text in Chat.told] == kinds
    if "QUESTION OPEN" in kinds:
        assert "May 2.0.0 go on after wave 1? 20 of 20 succeeded." in Chat.told[-1][1]
