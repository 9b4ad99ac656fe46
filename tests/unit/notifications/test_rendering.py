"""Templates of notifiers: rendered by the worker, but for what uses the event."""

from __future__ import annotations

import logging
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.providers.common.compat.notifier import BaseNotifier
from jinja2.sandbox import SandboxedEnvironment

from iotda_provider.notifications.audience import About, Audience, without_addresses
from iotda_provider.notifications.recorded import record
from iotda_provider.notifications.rendering import rendered

LOG = logging.getLogger("iotda_provider.test")
EVENT = {"kind": "stopped", "sentence": "16 devices failed.", "batch_task_ids": ["a1"]}


class Chat(BaseNotifier):
    """Keeps what it has sent."""

    template_fields = ("text", "blocks")
    sent: list[Any]

    def __init__(self, text: str, blocks: Any = None, channel: str = "{{ not_a_field }}") -> None:
        super().__init__()
        self.text, self.blocks, self.channel = text, blocks, channel

    def notify(self, context: Any) -> None:
        """Keep it."""
        Chat.sent.append((self.text, self.blocks, self.channel))


def say(*args: Any, params: dict[str, Any] | None = None, **kwargs: Any) -> Any:
    """What the notifier says, rendered by the worker and then by the triggerer."""
    context = {"params": params or {}, "dag": SimpleNamespace(dag_id="d"), "run_id": "r"}
    environment = SandboxedEnvironment()

    def render(text: str) -> str:
        return environment.from_string(text).render(context)

    (one,) = record([Chat(*args, **kwargs)], importable=False)
    about = About("d", "r", "t", -1, 2, "c")
    audience = Audience([one], None, about, render=lambda one: rendered(one, render, LOG))
    (member,) = audience.members
    Chat.sent = []
    ready = member.prepare(audience.context(audience.event(EVENT)))
    assert ready.call is not None
    ready.call()
    (said,) = Chat.sent
    return said


def test_the_message_begins_with_the_outcome() -> None:
    assert say("{{ message }}")[0].startswith("STOPPED: 16 devices failed.")


def test_the_worker_and_the_event_may_be_in_one_text() -> None:
    text = (
        "{{ params.team }}: {{ event.kind }} {{ event.batch_task_ids | join(',') }} by {{dag_id}}"
    )
    assert say(text, params={"team": "ota"})[0] == "ota: stopped a1 by d"


def test_the_ids_are_there() -> None:
    text = "{{ dag_id }} {{ run_id }} {{ task_id }} {{ try_number }} {{ iotda_conn_id }}"
    assert say(text)[0] == "d r t 2 c"
    assert say("{{ ti.task_id }} {{ ti.try_number }}{% if event.kind == 'hold' %}!{% endif %}")[0]


def test_lists_and_objects_are_rendered_and_other_arguments_are_not() -> None:
    blocks = [{"text": "{{ event.kind }}", "more": ["{{ params.team }}", 5]}]
    said = say("a", blocks, params={"team": "ota"})
    assert said == ("a", [{"text": "stopped", "more": ["ota", 5]}], "{{ not_a_field }}")


@pytest.mark.parametrize("nasty", ["{{ 7 * 7 }}", "{% raw %}", "{# a #}", "{{", "{{ event.kind }}"])
def test_what_a_template_was_rendered_to_is_no_template(nasty: str) -> None:
    said = say("{{ params.text }} {{ event.kind }}", params={"text": nasty})
    assert said[0] == f"{nasty} stopped"


def test_a_template_that_is_wrong_fails_nothing(caplog: pytest.LogCaptureFixture) -> None:
    assert say("{{ params.a.b.c }} {{ event.kind }}")[0].endswith("stopped")
    assert "can't be rendered" in caplog.text


def test_errors_do_not_show_the_path_of_a_webhook() -> None:
    error = OSError(
        "HTTPSConnectionPool(host='hooks.slack.com', port=443): Max retries exceeded with url: "
        "/services/T000/B000/SECRET (see https://oapi.dingtalk.com/robot/send?access_token=SECRET)"
    )
    assert "SECRET" not in without_addresses(error)
    assert "hooks.slack.com" in without_addresses(error)
