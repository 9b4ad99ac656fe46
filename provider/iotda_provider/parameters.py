"""Parameters, in all the forms in which a DAG can hand them over, read and checked."""

from __future__ import annotations

import ast
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from iotda_provider.exceptions import IoTDAConfigError

_LONGEST_TEXT = 8 * 1024 * 1024
_LONGEST_COUNT = 18
_NOTHING = frozenset({"", "none", "null"})


def as_list(value: Any, name: str) -> list[Any]:
    """A list parameter in any of its forms: a list, an XCom of one, JSON, or as Jinja renders one.

    :param value: what the parameter was rendered to
    :param name: the parameter's name, for errors
    :raises IoTDAConfigError: it is None, empty text or no list; an *empty list* is one
    """
    if isinstance(value, str):
        value = _parse(value, name)
    if value is None:
        raise IoTDAConfigError(
            f"{name} was rendered to None: the task that it comes from pushed nothing (was it "
            "skipped, or is the key wrong?). To mean none at all, pass an empty list."
        )
    # Text within text is one device, say, and no list of its letters.
    if isinstance(value, (str, bytes, Mapping)) or not isinstance(value, Iterable):
        raise IoTDAConfigError(
            f"{name} must be a list, got {type(value).__name__}: {_short(value)}."
        )
    return list(value)


def as_mapping(value: Any, name: str) -> dict[str, Any]:
    """An object parameter: a mapping, JSON of one, or as Jinja renders one.

    :raises IoTDAConfigError: it is something else
    """
    if isinstance(value, str):
        value = _parse(value, name)
    if not isinstance(value, Mapping):
        raise IoTDAConfigError(f"{name} must be an object, got {_short(value)}.")
    return dict(value)


def batch_task_ids(value: Any) -> tuple[str, ...]:
    """One batch task's id, or the list of them in any form of a list parameter, each once.

    :raises IoTDAConfigError: one is no id, or there is none
    """
    from iotda_provider.api import check_task_id

    if isinstance(value, str) and not value.lstrip().startswith(("[", "(")):
        return (check_task_id(value.strip()),)
    ids = tuple(dict.fromkeys(map(check_task_id, as_list(value, "batch_task_id"))))
    if not ids:
        raise IoTDAConfigError("batch_task_id is an empty list: it names no batch task.")
    return ids


def given(value: Any) -> Any:
    """An optional parameter; None where a template rendered to nothing."""
    return None if str(value).strip().lower() in _NOTHING else value


def as_count(value: Any, name: str) -> int:
    """A number of targets, given as a whole number, as text of one, or as the list of the targets.

    :raises IoTDAConfigError: it is none of these
    """
    if isinstance(value, str):
        text = value.strip()
        if text.isdecimal() and len(text) <= _LONGEST_COUNT:
            return int(text)
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    return len(as_list(value, name))


def positive(value: Any, name: str, *, zero: bool = False) -> float:
    """A number of seconds or things, checked when the DAG is parsed.

    :raises ValueError: it is no number, or not greater than 0 (with ``zero``: less than 0)
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ValueError(f"{name} must be a number, got {value!r}")
    if not (value >= 0 if zero else value > 0) or value == float("inf"):
        raise ValueError(
            f"{name} must be {'0 or more' if zero else 'greater than 0'}, got {value!r}"
        )
    return value


def whole_number(value: Any, name: str, *, zero: bool = False) -> int:
    """A number of things, checked when the DAG is parsed.

    :raises ValueError: it is no whole number, or not greater than 0 (with ``zero``: less than 0)
    """
    if positive(value, name, zero=zero) != int(value):
        raise ValueError(f"{name} must be a whole number, got {value!r}")
    return int(value)


def one_of(value: Any, name: str, words: Sequence[str]) -> str:
    """One of some words, checked when the DAG is parsed.

    :raises ValueError: it is another
    """
    if value not in words:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, words))}, got {value!r}")
    return str(value)


def _parse(text: str, name: str) -> Any:
    stripped = text.strip()
    if stripped.lower() in _NOTHING:
        return None
    if len(stripped) > _LONGEST_TEXT:
        raise IoTDAConfigError(
            f"{name} is a text of {len(stripped)} characters: pass a list instead."
        )
    try:
        return json.loads(stripped)
    except (ValueError, RecursionError):
        pass
    try:
        return ast.literal_eval(stripped)
    except (ValueError, SyntaxError, RecursionError, MemoryError, TypeError):
        raise IoTDAConfigError(
            f'{name} must be a list, or text that holds one such as ["device-1", "device-2"]; '
            f"got {_short(stripped)}."
        ) from None


def _short(value: Any) -> str:
    return repr(str(value)[:60])


def is_template(value: Any) -> bool:
    """Whether it will be something else when the task runs."""
    if isinstance(value, str):
        return "{{" in value or "{%" in value
    return hasattr(value, "resolve")


def read_number(value: Any, name: str, *, zero: bool = False) -> float:
    """A number that may have been rendered from a template.

    :raises ValueError: it is none
    """
    if isinstance(value, str):
        try:
            value = float(value.strip())
        except ValueError:
            raise ValueError(f"{name} must be a number, got {value!r}") from None
    return positive(value, name, zero=zero)


def read_whole_number(value: Any, name: str, *, zero: bool = False) -> int:
    """A number of things that may have been rendered from a template.

    :raises ValueError: it is none
    """
    return whole_number(read_number(value, name, zero=zero), name, zero=zero)
