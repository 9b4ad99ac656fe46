"""Telling people from a task of one's own DAG."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
from airflow.providers.common.compat.notifier import BaseNotifier
from airflow.providers.common.compat.sdk import BaseOperator

from iotda_provider.notifications.from_task import tell_people


class Chat(BaseNotifier):
    """Keeps what it says."""

    template_fields = ("text",)
    said: ClassVar[list[str]] = []

    def __init__(self, text: str = "{{ message }}", fails: bool = False) -> None:
        super().__init__()
        self.text, self.fails = text, fails

    def notify(self, context: Any) -> None:
        """Say it."""
        if self.fails:
            raise OSError("no chat")
        self.said.append(self.text)


@pytest.fixture
def context() -> Any:
    Chat.said.clear()
    ti = SimpleNamespace(dag_id="d", run_id="r", task_id="t", map_index=-1, try_number=2)
    return {"ti": ti, "task": BaseOperator(task_id="t"), "params": {"team": "ota"}}


def test_each_notifier_is_called_and_none_fails_the_task(context: Any) -> None:
    notifiers = [Chat(fails=True), Chat("{{ params.team }}: {{ message }} ({{ try_number }})")]

    tell_people(notifiers, context, "wave_passed", "Wave 2 has passed.", batch_task_ids=["a1"])

    (said,) = Chat.said
    assert said.startswith("ota: WAVE PASSED: Wave 2 has passed. ")
    assert said.endswith("(2)"), "after the link, where there is one"


def test_the_message_is_logged_also_without_notifiers(context: Any, caplog: Any) -> None:
    tell_people([], context, "released", "All is well.")

    assert "RELEASED: All is well." in caplog.text


@pytest.mark.parametrize("wrong", [None, 5, "", ["a"], object(), b"x"])
@pytest.mark.parametrize("name", ["kind", "sentence"])
def test_what_is_no_text_is_refused_in_one_line(context: Any, name: str, wrong: Any) -> None:
    texts = {"kind": "released", "sentence": "All is well.", name: wrong}
    with pytest.raises(ValueError, match=f"^{name} must be text") as refused:
        tell_people([], context, **texts)
    assert len(str(refused.value)) < 400


def test_a_long_sentence_is_cut(context: Any) -> None:
    tell_people([Chat()], context, "released", "long\n" * 100_000)

    assert len(Chat.said[0]) < 1_500
    assert "\n" not in Chat.said[0]
