"""Notifiers as plain JSON: the dotted path of the class, and the arguments that it was made with.

Airflow's notifiers do not keep their arguments, and a triggerer can't be given an object. So from
the import of this module on, each notifier keeps the arguments of its constructor.
"""

from __future__ import annotations

import inspect
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from airflow.providers.common.compat.notifier import BaseNotifier

from iotda_provider.exceptions import IoTDAConfigError, IoTDAParameterError
from iotda_provider.models.text import one_line, what_is
from iotda_provider.notifications.on_alert import imported
from iotda_provider.task_io.dag_parameters import importable_path

#: The most notifiers of one task, and the most characters of one notifier's arguments as JSON.
MOST_NOTIFIERS = 20
LONGEST_ARGUMENTS = 20_000
_ARGUMENTS = "_iotda_provider_arguments"


def _recording(cls: type[Any], *args: Any, **kwargs: Any) -> Any:
    """Takes the place of ``object.__new__``: makes a notifier that keeps its arguments."""
    notifier = object.__new__(cls)
    notifier.__dict__[_ARGUMENTS] = (args, kwargs)
    return notifier


BaseNotifier.__new__ = staticmethod(_recording)  # type: ignore[method-assign]


@dataclass(frozen=True)
class RecordedNotifier:
    """A notifier as plain JSON.

    :param path: the dotted path of its class
    :param arguments: the arguments of its constructor, by name
    :param cls: the class, in the process in which the DAG was parsed; None: it is imported
    """

    path: str
    arguments: Mapping[str, Any]
    cls: type[Any] | None = field(default=None, compare=False)

    @property
    def name(self) -> str:
        """The name of the class."""
        return self.path.rpartition(".")[2]

    def to_json(self) -> dict[str, Any]:
        """As plain JSON."""
        return {"class": self.path, "arguments": dict(self.arguments)}

    def load(self) -> type[Any]:
        """The class; this call blocks, as it may import a module.

        :raises IoTDAConfigError: it can't be imported, or is no notifier
        """
        if self.cls is not None:
            return self.cls
        cls = imported(self.path, f"the notifier {self.path}")
        if not (isinstance(cls, type) and issubclass(cls, BaseNotifier)):
            raise IoTDAConfigError(f"{self.path} is not a notifier of Airflow")
        return cls


def record(notifiers: Any, *, importable: bool) -> tuple[RecordedNotifier, ...]:
    """The parameter ``notifiers`` as plain JSON.

    :param importable: whether a triggerer will make them, from the dotted paths of their classes
    :raises ValueError: it is not a list of Airflow's notifiers; a triggerer can't import a class;
        or an argument is no JSON, and the message names it
    """
    if isinstance(notifiers, BaseNotifier) or (
        notifiers is not None
        and (not isinstance(notifiers, Iterable) or isinstance(notifiers, (str, bytes, Mapping)))
    ):
        wrong = what_is(notifiers, instead_of="a list")
        raise IoTDAParameterError(f"notifiers must be a list of notifiers, got {wrong}")
    found = tuple(
        _record(one, f"notifiers[{position}]", importable)
        for position, one in enumerate(notifiers or ())
    )
    if len(found) > MOST_NOTIFIERS:
        raise IoTDAParameterError(
            f"notifiers must be at most {MOST_NOTIFIERS} notifiers, got {len(found)}"
        )
    return found


def _record(notifier: Any, where: str, importable: bool) -> RecordedNotifier:
    if isinstance(notifier, RecordedNotifier):
        if importable and notifier.cls is not None:
            importable_path(notifier.cls, where)
        return notifier
    if not isinstance(notifier, BaseNotifier):
        wrong = what_is(notifier, instead_of="a notifier")
        raise IoTDAParameterError(
            f"{where} must be an object of one of Airflow's notifiers, got {wrong}"
        )
    cls = type(notifier)
    if not (implements(cls, "notify") or implements(cls, "async_notify")):
        raise IoTDAParameterError(
            f"{where}: {cls.__name__} tells nobody: it has no method notify or async_notify"
        )
    made_with = vars(notifier).get(_ARGUMENTS)
    if made_with is None or cls.__new__ is not _recording:
        raise IoTDAParameterError(
            f"{where}: how this {cls.__name__} was made is not known, because it was made before "
            "the provider was imported, or makes itself: put 'import "
            "iotda_provider.notifications.recorded' before the line that makes it"
        )
    arguments = _by_name(cls, *made_with, where=where)
    plain = {
        name: _plain(value, f"{where}: the argument {name} of {cls.__name__}")
        for name, value in arguments.items()
    }
    length = len(json.dumps(plain))
    if length > LONGEST_ARGUMENTS:
        raise IoTDAParameterError(
            f"{where}: the arguments of {cls.__name__} are {length} characters long, more than "
            f"{LONGEST_ARGUMENTS}"
        )
    path = importable_path(cls, where) if importable else f"{cls.__module__}.{cls.__qualname__}"
    return RecordedNotifier(str(path), plain, cls)


def implements(cls: type[Any], name: str) -> bool:
    """Whether a notifier has the method itself, and not only from its base class."""
    return getattr(cls, name, None) not in (None, getattr(BaseNotifier, name, None))


def _by_name(
    cls: type[Any], args: Sequence[Any], kwargs: Mapping[str, Any], *, where: str
) -> dict[str, Any]:
    """The arguments of a constructor by their names."""
    # Not of the class: before Python 3.11 that may be the signature of __new__, which records.
    signature = inspect.signature(partial(cls.__init__, None))
    found: dict[str, Any] = {}
    for name, value in signature.bind(*args, **kwargs).arguments.items():
        kind = signature.parameters[name].kind
        if kind in (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.POSITIONAL_ONLY):
            raise IoTDAParameterError(
                f"{where}: {cls.__name__} takes {name} by its position only; make a subclass that "
                "takes it by its name"
            )
        found |= value if kind is inspect.Parameter.VAR_KEYWORD else {name: value}
    return found


def _plain(value: Any, where: str, depth: int = 0) -> Any:
    """A copy of a value as plain JSON.

    :raises ValueError: it is something else
    """
    if depth < 20:
        if value is None or isinstance(value, (bool, int, str)):
            return value
        if isinstance(value, float) and math.isfinite(value):
            return value
        if isinstance(value, (list, tuple)):
            return [_plain(item, where, depth + 1) for item in value]
        if isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
            return {key: _plain(item, where, depth + 1) for key, item in value.items()}
    raise IoTDAParameterError(
        f"{where} must be plain JSON (text, numbers, True, False, None, lists and objects of "
        f"them), got {what_is(value, instead_of='plain JSON')}"
    )


def from_json(data: Any) -> tuple[RecordedNotifier, ...]:
    """Read a list of what :meth:`RecordedNotifier.to_json` wrote.

    :raises ValueError: it is something else
    """
    if data is None:
        return ()
    if not isinstance(data, (list, tuple)) or len(data) > MOST_NOTIFIERS:
        raise IoTDAParameterError(f"notifiers must be a list, got {what_is(data)}")
    return tuple(map(_from_json, data))


def _from_json(one: Any) -> RecordedNotifier:
    if isinstance(one, RecordedNotifier):
        return one
    if (
        not isinstance(one, Mapping)
        or not isinstance(one.get("class"), str)
        or not isinstance(one.get("arguments"), Mapping)
    ):
        raise IoTDAParameterError(
            f"a notifier must be an object with class and arguments, got {one_line(one, 60)}"
        )
    return RecordedNotifier(one["class"], _plain(one["arguments"], "notifiers"))
