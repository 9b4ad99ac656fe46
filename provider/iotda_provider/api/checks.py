"""What users pass in, checked before anything is sent."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from enum import Enum
from typing import Any

from iotda_provider.exceptions import IoTDAConfigError

_TASK_ID = re.compile(r"[a-f0-9]{1,24}")
_DEVICE_ID = re.compile(r"[A-Za-z0-9_-]{1,128}")


def check_task_id(value: object) -> str:
    """A batch task id that is safe to put into a path.

    :raises IoTDAConfigError: it is not 1 to 24 characters of a-f and 0-9
    """
    if not isinstance(value, str) or not _TASK_ID.fullmatch(value):
        # Native rendering makes a number of an id that happens to look like one.
        kind = "" if isinstance(value, str) else f" ({type(value).__name__}, not text)"
        raise IoTDAConfigError(
            "batch_task_id must be 1 to 24 characters of a-f and 0-9, as the console shows it; "
            f"got {str(value)[:60]!r}{kind}. Where it comes from a template or an XCom, check that "
            "the task before has set it."
        )
    return value


def check_targets(targets: Iterable[object], name: str = "targets") -> list[str]:
    """Device ids, each once, in their first order.

    :raises IoTDAConfigError: one is not 1 to 128 letters, digits, ``_`` or ``-``
    """
    if isinstance(targets, (str, bytes, Mapping)):
        raise IoTDAConfigError(f"{name} must be a list of ids, got {str(targets)[:60]!r}.")
    seen: dict[str, None] = {}
    for position, target in enumerate(targets):
        if not isinstance(target, str) or not _DEVICE_ID.fullmatch(target):
            raise IoTDAConfigError(
                f"{name}[{position}] is not a device id (1 to 128 letters, digits, _ or -): "
                f"{str(target)[:60]!r}."
            )
        seen[target] = None
    return list(seen)


def check_word(value: Any, kind: type[Enum], name: str) -> str:
    try:
        return str(kind(value))
    except ValueError:
        words = ", ".join(str(member) for member in kind)
        raise IoTDAConfigError(f"{name} must be one of {words}; got {str(value)[:60]!r}.") from None


def check_id(value: object, name: str) -> str:
    """The id of a device, group or package, safe to put into a path.

    :raises IoTDAConfigError: it is not 1 to 128 letters, digits, ``_`` or ``-``
    """
    if not isinstance(value, str) or not _DEVICE_ID.fullmatch(value):
        raise IoTDAConfigError(
            f"{name} must be 1 to 128 letters, digits, _ or -; got {str(value)[:60]!r}."
        )
    return value
