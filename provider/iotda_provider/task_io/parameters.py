"""Parameters read when a task runs, from every form that a template or an XCom can give them."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from iotda_provider.exceptions import IoTDAConfigError
from iotda_provider.models.json_text import read_json
from iotda_provider.models.text import what_is

#: The longest text that is parsed as Python: that takes a thousand times its memory.
_LONGEST_PYTHON = 256 * 1024
#: More devices than any fleet has; smaller than an IMEI read as a number.
_LARGEST_COUNT = 1_000_000_000
#: Some 300 years in seconds: later moments have no date.
_LARGEST = 1e10
_NUMBER = re.compile(r"[+-]?(?:[0-9]{1,20}\.?[0-9]{0,20}|\.[0-9]{1,20})(?:[eE][+-]?[0-9]{1,3})?")
_NOTHING = frozenset({"", "none", "null"})


def none_if_blank(value: Any) -> Any:
    """None where a template was rendered to ``""``, ``None`` or ``null``; otherwise ``value``."""
    if isinstance(value, str) and value.strip().lower() in _NOTHING:
        return None
    return value


def as_text(value: Any, name: str) -> str:
    """A text that a template must have been rendered to.

    :raises IoTDAConfigError: it is blank or no text
    """
    if none_if_blank(value) is None:
        raise IoTDAConfigError(f"{name} was rendered to nothing: {what_is(value)}.")
    return optional_text(value, name) or ""


def optional_text(value: Any, name: str) -> str | None:
    """A text; None where a template was rendered to nothing.

    :raises IoTDAConfigError: it is no text
    """
    value = none_if_blank(value)
    if value is not None and not isinstance(value, str):
        raise IoTDAConfigError(f"{name} must be text, got {what_is(value)}.")
    return value


def as_list(value: Any, name: str) -> list[Any]:
    """A list in any form: a list, an XCom of one, JSON, or Python's notation as Jinja renders it.

    :param value: the rendered parameter
    :param name: the parameter's name, for errors
    :raises IoTDAConfigError: it is None, blank or no list; an *empty list* is a list
    """
    if isinstance(value, str):
        value = _parse(value, name)
    if value is None:
        raise IoTDAConfigError(
            f"{name} was rendered to None: the task that it comes from pushed nothing (was it "
            "skipped, or is the key wrong?). To mean none at all, pass an empty list."
        )
    # A text inside a text is one value, not a list of its letters.
    if isinstance(value, (str, bytes, bytearray, Mapping)) or not isinstance(value, Iterable):
        raise IoTDAConfigError(f"{name} must be a list, got {what_is(value, instead_of='a list')}.")
    return list(value)


def as_rows(value: Any, name: str) -> list[Mapping[str, Any]]:
    """A list of rows; lists of rows, as the instances of a mapped task push them, are joined.

    :raises IoTDAConfigError: it holds anything else
    """
    items = as_list(value, name)
    if items and all(_is_list(item) for item in items):
        items = [row for rows in items for row in rows]
    for position, item in enumerate(items):
        if not isinstance(item, Mapping):
            raise IoTDAConfigError(
                f"{name}[{position}] is not a row of failed_targets (an object with target, "
                "error_code and error_msg), nor are all, as of a mapped task, lists of such rows: "
                f"it is {what_is(item, instead_of='a row')}."
            )
    return items


def as_mapping(value: Any, name: str) -> dict[str, Any]:
    """An object: a mapping, JSON, or Python's notation as Jinja renders it.

    :raises IoTDAConfigError: it is something else
    """
    if isinstance(value, str):
        parsed = _parse(value, name)
        value = value if parsed is None else parsed
    if not isinstance(value, Mapping):
        raise IoTDAConfigError(
            f"{name} must be an object, got {what_is(value, instead_of='an object')}."
        )
    return dict(value)


def batch_task_ids(value: Any, *, empty: bool = False) -> tuple[str, ...]:
    """The id of one batch task, or of each in a list (in any form, see :func:`as_list`), once.

    :param empty: whether the list may be empty
    :raises IoTDAConfigError: a value is no id, or the list is empty
    """
    from iotda_provider.api import check_task_id

    if isinstance(value, str) and not value.lstrip().startswith(("[", "(")):
        return (check_task_id(value.strip()),)
    if isinstance(value, (str, Iterable)) and not isinstance(value, (bytes, Mapping)):
        ids = tuple(
            dict.fromkeys(
                check_task_id(one, f"batch_task_id[{position}]")
                for position, one in enumerate(as_list(value, "batch_task_id"))
            )
        )
        if not ids and not empty:
            raise IoTDAConfigError("batch_task_id is an empty list: it names no batch task.")
        return ids
    return (check_task_id(value),)


def as_count(value: Any, name: str) -> int:
    """A number of targets: a whole number, text of one, or a list of the targets.

    A list of numbers is what the instances of a mapped task push: they are added up. A list of
    texts that could all be such numbers (up to a thousand million; an IMEI is longer) is refused.

    :raises IoTDAConfigError: it is none of these
    """
    if isinstance(value, str) and re.fullmatch(r"[0-9]{1,18}", value.strip()):
        value = int(value)
    if isinstance(value, (int, float)):
        return _count(value, name)
    items = as_list(value, name)
    if all(isinstance(item, (str, Mapping)) for item in items):
        if items and all(_may_be_a_count(item) for item in items):
            raise IoTDAConfigError(
                f"{name} is a list of texts that may be numbers, as mapped tasks push them, or "
                f"ids; the first is {what_is(items[0])}. Push counts as numbers; of ids give "
                "their number, such as {{ ... | length }}."
            )
        for item in items:
            if isinstance(item, Mapping) and not ({"target", "device_id"} & item.keys()):
                raise IoTDAConfigError(
                    f"{name} is a list of objects without a target, as of the results that mapped "
                    "tasks return: name the count in them, such as key='failed'."
                )
        return len(items)
    if not all(isinstance(item, int) and not isinstance(item, bool) for item in items):
        raise IoTDAConfigError(
            f"{name} must be a number, a list of numbers (of a mapped task, one for each "
            "instance), or a list of ids; got a list that holds "
            f"{' and '.join(sorted({type(item).__name__ for item in items}))}."
        )
    return _count(sum(_count(item, name) for item in items), name)


def _may_be_a_count(item: Any) -> bool:
    if not isinstance(item, str):
        return False
    text = item.strip()
    is_number = _NUMBER.fullmatch(text) is not None
    return none_if_blank(text) is None or (is_number and abs(float(text)) <= _LARGEST_COUNT)


def _count(value: float, name: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= _LARGEST_COUNT:
        raise IoTDAConfigError(
            f"{name} must be a whole number from 0 to {_LARGEST_COUNT}, or a list of ids as text; "
            f"got {what_is(value)}."
        )
    return value


def positive(value: Any, name: str, *, zero: bool = False) -> float:
    """Check a number of seconds or things.

    :raises ValueError: it is no number, or not greater than 0 (with ``zero``: less than 0)
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ValueError(f"{name} must be a number, got {what_is(value, instead_of='a number')}")
    if not (value >= 0 if zero else value > 0):
        raise ValueError(
            f"{name} must be {'0 or more' if zero else 'greater than 0'}, got "
            f"{what_is(value, instead_of='a number')}"
        )
    if value > _LARGEST:
        raise ValueError(
            f"{name} must be at most {_LARGEST:.0f}, got {what_is(value, instead_of='a number')}"
        )
    return value


def whole_number(value: Any, name: str, *, zero: bool = False) -> int:
    """Check a number of things.

    :raises ValueError: it is no whole number, or not greater than 0 (with ``zero``: less than 0)
    """
    if positive(value, name, zero=zero) != int(value):
        raise ValueError(f"{name} must be a whole number, got {value!r}")
    return int(value)


def read_number(value: Any, name: str, *, zero: bool = False) -> float:
    """A number, or text that a template was rendered to.

    :raises ValueError: it is no number, or not greater than 0 (with ``zero``: less than 0)
    """
    if isinstance(value, str):
        if not _NUMBER.fullmatch(value.strip()):
            raise ValueError(f"{name} must be a number, got {what_is(value)}")
        value = float(value)
    return positive(value, name, zero=zero)


def read_whole_number(value: Any, name: str, *, zero: bool = False) -> int:
    """A whole number, or text that a template was rendered to.

    :raises ValueError: it is no whole number, or not greater than 0 (with ``zero``: less than 0)
    """
    return whole_number(read_number(value, name, zero=zero), name, zero=zero)


def _parse(text: str, name: str) -> Any:
    stripped = text.strip()
    if stripped.lower() in _NOTHING:
        return None
    try:
        return read_json(stripped)
    except ValueError:
        pass
    if len(stripped) > _LONGEST_PYTHON:
        raise IoTDAConfigError(
            f"{name} is a text of {len(stripped)} characters that is no JSON: beyond "
            f"{_LONGEST_PYTHON} only JSON is read, such as {{{{ ... | tojson }}}} gives."
        )
    try:
        return ast.literal_eval(stripped)
    except (ValueError, SyntaxError, RecursionError, MemoryError, TypeError):
        raise IoTDAConfigError(
            f'{name} must be a list, or text that holds one such as ["device-1", "device-2"]; '
            f"got {what_is(stripped)}."
        ) from None


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, (str, bytes, bytearray))
