"""Parameters, in all the forms in which a DAG can hand them over, read and checked."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import timedelta
from typing import Any, TypeVar

from iotda_provider.exceptions import IoTDAConfigError, IoTDAParameterError
from iotda_provider.models.json_text import read_json
from iotda_provider.models.text import what_is

T = TypeVar("T")

#: Text that is no JSON is read up to here: Python's notation takes a thousand times its memory.
_LONGEST_PYTHON = 256 * 1024
#: More than any fleet has, and less than what an IMEI would be as a number.
_LARGEST_COUNT = 1_000_000_000
#: Some 300 years in seconds: more, and a moment so far from now has no date.
_LARGEST = 1e10
_LONGEST_AIRFLOW_ID = 250
_NUMBER = re.compile(r"[+-]?(?:[0-9]{1,20}\.?[0-9]{0,20}|\.[0-9]{1,20})(?:[eE][+-]?[0-9]{1,3})?")
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
    if isinstance(value, (str, bytes, bytearray, Mapping)) or not isinstance(value, Iterable):
        raise IoTDAConfigError(f"{name} must be a list, got {what_is(value, instead_of='a list')}.")
    return list(value)


def as_rows(value: Any, name: str) -> list[Mapping[str, Any]]:
    """A list of rows; where a mapped task has pushed one for each instance, all of them in one.

    :raises IoTDAConfigError: it is no list of rows, or of lists of rows
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
    """An object parameter: a mapping, JSON of one, or as Jinja renders one.

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


def batch_task_ids(value: Any) -> tuple[str, ...]:
    """One batch task's id, or the list of them in any form of a list parameter, each once.

    :raises IoTDAConfigError: one is no id, or there is none
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
        if not ids:
            raise IoTDAConfigError("batch_task_id is an empty list: it names no batch task.")
        return ids
    return (check_task_id(value),)


def none_if_blank(value: Any) -> Any:
    """An optional parameter; None where a template rendered to nothing."""
    if isinstance(value, str) and value.strip().lower() in _NOTHING:
        return None
    return value


def as_text(value: Any, name: str) -> str:
    """A parameter that a template must have rendered to text.

    :raises IoTDAConfigError: it is something else, or nothing
    """
    if none_if_blank(value) is None:
        raise IoTDAConfigError(f"{name} was rendered to nothing: {what_is(value)}.")
    return optional_text(value, name) or ""


def optional_text(value: Any, name: str) -> str | None:
    """The same; None where a template rendered to nothing.

    :raises IoTDAConfigError: it is something else
    """
    value = none_if_blank(value)
    if value is not None and not isinstance(value, str):
        raise IoTDAConfigError(f"{name} must be text, got {what_is(value)}.")
    return value


def as_count(value: Any, name: str) -> int:
    """A number of targets: a whole number, text of one, or the list of the targets.

    A list of numbers is what a mapped task has pushed, one for each instance, and is added up. A
    list of nothing but texts that could be such numbers, up to a thousand million, is refused: an
    IMEI is longer.

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
    """A number of seconds or things, checked when the DAG is parsed.

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


def check_sensor_times(arguments: Mapping[str, Any]) -> None:
    """What Airflow's own sensor is given as times, as far as it is, checked as the DAG is parsed.

    :raises ValueError: one is neither a number of seconds nor a ``timedelta``
    """
    for name in ("poke_interval", "timeout"):
        value = arguments.get(name, 1)
        if not isinstance(value, timedelta):
            positive(value, name, zero=True)


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
    if not isinstance(value, str) or value not in words:
        raise ValueError(
            f"{name} must be one of {', '.join(map(repr, words))}, got {what_is(value)}"
        )
    return value


def flag(value: Any, name: str) -> bool:
    """True or False, and nothing that merely looks like it, checked when the DAG is parsed.

    :raises ValueError: it is neither: ``"false"`` would mean True
    """
    if not isinstance(value, bool):
        raise ValueError(
            f"{name} must be True or False, got {what_is(value, instead_of='True or False')}"
        )
    return value


def text_or_template(value: Any, name: str, *, optional: bool = False) -> Any:
    """A parameter that is text, or a template or an XCom that will be, checked when the DAG is
    parsed: what is written as a number there has lost its zeros already.

    :raises ValueError: it is something else
    """
    if isinstance(value, str) or is_template(value) or (optional and value is None):
        return value
    raise IoTDAParameterError(
        f"{name} must be text{' or None' if optional else ''}, got {what_is(value)}"
    )


def id_or_template(value: Any) -> Any:
    """A batch task's id, or what will be one, checked when the DAG is parsed.

    :raises ValueError: it can't become one
    """
    if isinstance(value, str) or is_template(value):
        return value
    from iotda_provider.api import check_task_id

    return _parsed(lambda: check_task_id(value))


def ids_or_template(value: Any) -> Any:
    """A batch task's id or the list of several, or what will be, checked when the DAG is parsed.

    :raises ValueError: it is something else
    """
    if not isinstance(value, (list, tuple)):
        return id_or_template(value)
    for position, one in enumerate(value):
        text_or_template(one, f"batch_task_id[{position}]")
    return value


def check_connection(iotda_conn_id: Any, project_id: Any, instance_id: Any) -> None:
    """The parameters that name a connection, checked when the DAG is parsed.

    :raises ValueError: one is neither text nor a template
    """
    text_or_template(iotda_conn_id, "iotda_conn_id")
    text_or_template(project_id, "project_id", optional=True)
    text_or_template(instance_id, "instance_id", optional=True)


def list_or_template(value: Any, name: str, *, optional: bool = False) -> Any:
    """A list parameter, or what will be one, checked when the DAG is parsed.

    :raises ValueError: it can't become one
    """
    is_left_out = optional and value is None
    if is_left_out or isinstance(value, (str, list, tuple)) or is_template(value):
        return value
    # What can be read once only can't stay in a DAG.
    return _parsed(lambda: as_list(value, name))


def object_or_template(value: Any, name: str) -> Any:
    """An optional object, or what will be one, checked when the DAG is parsed.

    :raises ValueError: it can't become one
    """
    if value is None or isinstance(value, (str, Mapping)) or is_template(value):
        return value
    raise ValueError(f"{name} must be an object, got {what_is(value, instead_of='an object')}")


def count_or_template(value: Any, name: str) -> Any:
    """A number of targets or the list of them, or what will be, checked when the DAG is parsed.

    :raises ValueError: it can't become one
    """
    if is_template(value):
        return value
    if isinstance(value, Iterable) and not isinstance(value, str):
        value = list_or_template(value, name)
    _parsed(lambda: as_count(value, name))
    return value


def airflow_id(value: Any, name: str, *, optional: bool = False) -> Any:
    """The id of a task or of a DAG, checked when the DAG is parsed.

    :raises ValueError: it is no text, or none that Airflow takes as an id
    """
    if optional and value is None:
        return None
    is_text = isinstance(value, str) and value.isprintable()
    if not is_text or not 0 < len(value) <= _LONGEST_AIRFLOW_ID:
        raise ValueError(
            f"{name} must be an id of 1 to {_LONGEST_AIRFLOW_ID} characters, got {what_is(value)}"
        )
    return value


def function_or_path(value: Any, name: str) -> Any:
    """An optional function, or the dotted path of one, checked when the DAG is parsed.

    :raises ValueError: it is neither
    """
    if value is None or callable(value) or (isinstance(value, str) and value.strip()):
        return value
    raise ValueError(
        f"{name} must be a function or its dotted path, got "
        f"{what_is(value, instead_of='a function')}"
    )


def importable_path(function: Any, name: str) -> str | None:
    """The dotted path by which a triggerer can import a function; None where there is none.

    :param function: as :func:`function_or_path` has checked it
    :raises ValueError: it is local, or lives in a DAG file
    """
    if function is None:
        return None
    path = function
    if not isinstance(function, str):
        name_there = getattr(function, "__qualname__", f"<{type(function).__name__}>")
        path = f"{getattr(function, '__module__', '')}.{name_there}"
    if "<" in path or path.startswith("unusual_prefix_"):
        raise ValueError(
            f"{name}: what is deferred needs a function, or its dotted path, that the triggerer "
            f"can import, which {path!r} is not: move it into a module"
        )
    return str(path)


def _parsed(read: Callable[[], T]) -> T:
    """What is read, where a refusal is one of the DAG itself."""
    try:
        return read()
    except IoTDAConfigError as error:
        raise IoTDAParameterError(str(error)) from None


def texts(value: Any, name: str) -> tuple[str, ...]:
    """Some texts, checked when the DAG is parsed.

    :raises ValueError: it is no list of texts
    """
    is_list = isinstance(value, Iterable) and not isinstance(value, (str, bytes, Mapping))
    items = tuple(value) if is_list else None
    if items is None or not all(isinstance(item, str) for item in items):
        wrong = next((one for one in items or () if not isinstance(one, str)), value)
        raise ValueError(
            f"{name} must be a list of texts (an empty one for none), got {what_is(wrong)}"
        )
    return items


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, (str, bytes, bytearray))


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
        if not _NUMBER.fullmatch(value.strip()):
            raise ValueError(f"{name} must be a number, got {what_is(value)}")
        value = float(value)
    return positive(value, name, zero=zero)


def read_whole_number(value: Any, name: str, *, zero: bool = False) -> int:
    """A number of things that may have been rendered from a template.

    :raises ValueError: it is none
    """
    return whole_number(read_number(value, name, zero=zero), name, zero=zero)
