"""What an earlier task of a release has returned, perhaps under another version of the provider."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NoReturn

from iotda_provider.exceptions import IoTDAConfigError
from iotda_provider.models.text import one_line, what_is


class TaskResult(dict[str, Any]):
    """The return value of a task; the error for a missing field says what to do.

    :param found: the XCom
    :param task_id: whose it is
    :raises IoTDAConfigError: a field is missing, or the task has returned nothing
    """

    def __init__(self, found: Any, task_id: str) -> None:
        if not isinstance(found, Mapping):
            raise IoTDAConfigError(f"{one_line(task_id, 250)} has left no result.")
        super().__init__(found)
        self._task_id = one_line(task_id, 250)

    def __missing__(self, field: str) -> NoReturn:
        raise IoTDAConfigError(
            f"The result of {self._task_id} has no {field}: another version of the provider has "
            "written it. Go on with that version, or clear that task."
        )


def number_in(result: Mapping[str, Any], field: str) -> float:
    """A number, 0 or more, in what a task has returned.

    :raises IoTDAConfigError: it is something else
    """
    value: Any = result[field]
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not value >= 0:
        raise IoTDAConfigError(
            f"{field} in an earlier task's result is {what_is(value, instead_of='a number')}, "
            "which is no number: another version of the provider has written it, or a person. "
            "Clear that task."
        )
    return value
