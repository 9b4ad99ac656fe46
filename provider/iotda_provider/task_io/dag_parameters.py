"""Parameters checked when a DAG is parsed: their final values, or templates of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import timedelta
from typing import Any, TypeVar

from iotda_provider.exceptions import IoTDAConfigError, IoTDAParameterError
from iotda_provider.models.text import what_is
from iotda_provider.task_io.parameters import as_count, as_list, positive

T = TypeVar("T")

_LONGEST_AIRFLOW_ID = 250


def one_of(value: Any, name: str, words: Sequence[str]) -> str:
    """Check that a value is one of some words.

    :raises ValueError: it is another value
    """
    if not isinstance(value, str) or value not in words:
        raise ValueError(
            f"{name} must be one of {', '.join(map(repr, words))}, got {what_is(value)}"
        )
    return value


def flag(value: Any, name: str) -> bool:
    """Check that a value is True or False.

    :raises ValueError: it is anything else: ``"false"`` would count as true
    """
    if not isinstance(value, bool):
        raise ValueError(
            f"{name} must be True or False, got {what_is(value, instead_of='True or False')}"
        )
    return value


def read_flag(value: Any, name: str) -> bool:
    """Read True or False, or the text of one as Jinja renders it.

    :raises ValueError: it is anything else
    """
    rendered = {"True": True, "False": False}
    return flag(rendered.get(value, value) if isinstance(value, str) else value, name)


def texts(value: Any, name: str) -> tuple[str, ...]:
    """Check a list of texts.

    :raises ValueError: it is something else
    """
    is_list = isinstance(value, Iterable) and not isinstance(value, (str, bytes, Mapping))
    items = tuple(value) if is_list else None
    if items is None or not all(isinstance(item, str) for item in items):
        wrong = next((one for one in items or () if not isinstance(one, str)), value)
        raise ValueError(
            f"{name} must be a list of texts (an empty one for none), got {what_is(wrong)}"
        )
    return items


def airflow_id(value: Any, name: str, *, optional: bool = False) -> Any:
    """Check the id of a task or of a DAG.

    :raises ValueError: Airflow would not take it as an id
    """
    if optional and value is None:
        return None
    is_text = isinstance(value, str) and value.isprintable()
    if not is_text or not 0 < len(value) <= _LONGEST_AIRFLOW_ID:
        raise ValueError(
            f"{name} must be an id of 1 to {_LONGEST_AIRFLOW_ID} characters, got {what_is(value)}"
        )
    return value


def check_sensor_times(arguments: Mapping[str, Any]) -> None:
    """Check the times among the arguments of Airflow's own sensor, if they are there.

    :raises ValueError: one is neither a number of seconds nor a ``timedelta``
    """
    for name in ("poke_interval", "timeout"):
        value = arguments.get(name, 1)
        if not isinstance(value, timedelta):
            positive(value, name, zero=True)


def check_connection(iotda_conn_id: Any, project_id: Any, instance_id: Any) -> None:
    """Check the parameters that name a connection.

    :raises ValueError: one is neither text nor a template
    """
    text_or_template(iotda_conn_id, "iotda_conn_id")
    text_or_template(project_id, "project_id", optional=True)
    text_or_template(instance_id, "instance_id", optional=True)


def text_or_template(value: Any, name: str, *, optional: bool = False) -> Any:
    """Check a text, a template or an XCom. A number is refused: it has lost its leading zeros.

    :raises ValueError: it is something else
    """
    if isinstance(value, str) or is_template(value) or (optional and value is None):
        return value
    raise IoTDAParameterError(
        f"{name} must be text{' or None' if optional else ''}, got {what_is(value)}"
    )


def id_or_template(value: Any) -> Any:
    """Check a batch task's id, or a template or an XCom.

    :raises ValueError: it can't become an id
    """
    if isinstance(value, str) or is_template(value):
        return value
    from iotda_provider.api import check_task_id

    return _parsed(lambda: check_task_id(value))


def ids_or_template(value: Any) -> Any:
    """Check a batch task's id or a list of ids, or a template or an XCom.

    :raises ValueError: it is something else
    """
    if not isinstance(value, (list, tuple)):
        return id_or_template(value)
    for position, one in enumerate(value):
        text_or_template(one, f"batch_task_id[{position}]")
    return value


def list_or_template(value: Any, name: str, *, optional: bool = False) -> Any:
    """Check a list, or a template or an XCom; an iterator is read into a list.

    :raises ValueError: it can't become a list
    """
    is_left_out = optional and value is None
    if is_left_out or isinstance(value, (str, list, tuple)) or is_template(value):
        return value
    return _parsed(lambda: as_list(value, name))


def object_or_template(value: Any, name: str) -> Any:
    """Check an optional object, or a template or an XCom.

    :raises ValueError: it can't become an object
    """
    if value is None or isinstance(value, (str, Mapping)) or is_template(value):
        return value
    raise ValueError(f"{name} must be an object, got {what_is(value, instead_of='an object')}")


def count_or_template(value: Any, name: str) -> Any:
    """Check a number of targets or a list of them, or a template or an XCom.

    :raises ValueError: it can't become a number of targets
    """
    if is_template(value):
        return value
    if isinstance(value, Iterable) and not isinstance(value, str):
        value = list_or_template(value, name)
    _parsed(lambda: as_count(value, name))
    return value


def function_or_path(value: Any, name: str) -> Any:
    """Check an optional function, or the dotted path of one.

    :raises ValueError: it is neither
    """
    if value is None or callable(value) or (isinstance(value, str) and value.strip()):
        return value
    raise ValueError(
        f"{name} must be a function or its dotted path, got "
        f"{what_is(value, instead_of='a function')}"
    )


def importable_path(function: Any, name: str) -> str | None:
    """The dotted path by which a triggerer imports a function; None for None.

    :param function: checked by :func:`function_or_path`
    :raises ValueError: the function is local, or part of a DAG file
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


def is_template(value: Any) -> bool:
    """Whether the value is a template or an XCom, which is rendered when the task runs."""
    if isinstance(value, str):
        return "{{" in value or "{%" in value
    return hasattr(value, "resolve")


def _parsed(read: Callable[[], T]) -> T:
    """What ``read`` returns; its error becomes one of the DAG."""
    try:
        return read()
    except IoTDAConfigError as error:
        raise IoTDAParameterError(str(error)) from None
