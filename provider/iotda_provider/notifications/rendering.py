"""The templates in a notifier's arguments.

What only the worker knows (``params``, ``var``, macros) is rendered there, when the guard begins.
What uses the event is rendered when it happens.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from iotda_provider.models.log import Log
from iotda_provider.models.text import one_line
from iotda_provider.notifications.recorded import RecordedNotifier

#: The names in a template that stand for what is known when the event happens.
LATE_NAMES = (
    *("event", "message", "iotda_conn_id"),
    *("dag_id", "run_id", "task_id", "map_index", "try_number"),
)
_EXPRESSION = re.compile(r"\{\{.*?\}\}", re.DOTALL)
_LATE = re.compile(rf"(?<![\w.'\"])(?:{'|'.join(LATE_NAMES)})\b")


def rendered(
    notifier: RecordedNotifier, render: Callable[[str], Any], log: Log
) -> RecordedNotifier:
    """A notifier with rendered templates, except for the expressions that use the event.

    :param render: renders a text with all that the worker knows
    :param log: the task's log; a template that can't be rendered is logged and stays as it is
    """
    try:
        fields = set(notifier.load().template_fields)
    except Exception:  # noqa: BLE001 - it is reported as missing when the guard begins
        return notifier
    arguments = {
        name: _rendered(value, render, f"{notifier.name}: {name}", log) if name in fields else value
        for name, value in notifier.arguments.items()
    }
    return replace(notifier, arguments=arguments)


def _rendered(value: Any, render: Callable[[str], Any], where: str, log: Log) -> Any:
    if isinstance(value, list):
        return [_rendered(item, render, where, log) for item in value]
    if isinstance(value, Mapping):
        return {key: _rendered(item, render, where, log) for key, item in value.items()}
    if not isinstance(value, str):
        return value

    def now(text: str) -> str:
        try:
            return _as_text_of_a_template(str(render(text)))
        except Exception as error:  # noqa: BLE001 - a template may raise anything
            log.error("The template of %s can't be rendered: %s", where, one_line(error, 200))
            return _as_text_of_a_template(text)

    if "{%" in value:
        return value if _LATE.search(value) else now(value)

    def early(found: re.Match[str]) -> str:
        return found[0] if _LATE.search(found[0]) else now(found[0])

    return _EXPRESSION.sub(early, value)


def _as_text_of_a_template(text: str) -> str:
    """A text that a template engine leaves as it is: somebody may have put a template into it."""
    return text.replace("{", "{{ '{' }}") if re.search(r"\{[{%#]", text) else text
