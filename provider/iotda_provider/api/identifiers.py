"""Checks of what users pass in, by the patterns that the platform states. Nothing is sent here.

Source: the value range of each parameter in the IoTDA API reference, and in the models of
``huaweicloudsdkiotda.v5``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from enum import Enum
from typing import Any, TypeVar

from iotda_provider.exceptions import IoTDAConfigError
from iotda_provider.models.text import what_is

#: The Chinese characters that the platform takes, for a character class.
CHINESE = "\u4e00-\u9fa5"

_TASK_ID = re.compile(r"[a-f0-9]{1,24}")
_DEVICE_ID = re.compile(r"[A-Za-z0-9_-]{1,128}")
_ID = re.compile(r"[A-Za-z0-9_-]{1,36}")
_GROUP_ID = re.compile(r"[a-fA-F0-9-]{1,36}")
_PACKAGE_ID = re.compile(r"[A-Za-z0-9-]{1,36}")
_VERSION = re.compile(r"[A-Za-z0-9_.-]{1,256}")
_TASK_NAME = re.compile(rf"[{CHINESE}a-zA-Z0-9_]{{1,128}}")
_GROUP_NAME = re.compile(rf"[{CHINESE}A-Za-z0-9_? '#().,&%@!-]{{1,64}}")
_SQL = re.compile(rf"[{CHINESE}a-zA-Z0-9_?'#()., &%@!*=<>:-]{{1,400}}")
_MOST_VERSIONS = 20
_PACKAGE_TYPES = ("firmwarePackage", "softwarePackage", "modulePackage")


T = TypeVar("T")


def optional(check: Callable[..., T], value: Any, *more: Any) -> T | None:
    """``check(value, *more)``; None if there is no value."""
    return None if value is None else check(value, *more)


def check_text(value: object, name: str, pattern: re.Pattern[str], what: str) -> str:
    """Text that matches a pattern.

    :param what: the pattern, in words that complete "must be"
    :raises IoTDAConfigError: it is not text, or does not match; the message names the parameter
    """
    if not isinstance(value, str) or not pattern.fullmatch(value):
        raise IoTDAConfigError(f"{name} must be {what}; got {what_is(value)}.")
    return value


def check_task_id(value: object, name: str = "batch_task_id") -> str:
    """A batch task's id, safe to put into a path.

    :raises IoTDAConfigError: it is not 1 to 24 characters of a-f and 0-9
    """
    if not isinstance(value, str) or not _TASK_ID.fullmatch(value):
        raise IoTDAConfigError(
            f"{name} must be 1 to 24 characters of a-f and 0-9, as the console shows it; got "
            f"{what_is(value)}. If it comes from a template or an XCom, check that the task before "
            "has set it."
        )
    return value


def check_task_ids(batch_task_ids: Any) -> list[str]:
    """Ids of batch tasks, in the order given, without repetitions.

    :raises IoTDAConfigError: one is not 1 to 24 characters of a-f and 0-9
    """
    what = "a batch task's id (1 to 24 characters of a-f and 0-9)"
    return _each(batch_task_ids, "batch_task_ids", _TASK_ID, what)


def check_targets(targets: Any, name: str = "targets", *, unique: bool = True) -> list[str]:
    """Device ids, in the order given.

    :param unique: whether repeated ids are dropped
    :raises IoTDAConfigError: one is not 1 to 128 letters, digits, ``_`` or ``-``
    """
    found = list(targets) if isinstance(targets, Iterator) else targets
    once = _each(found, name, _DEVICE_ID, "a device id (1 to 128 letters, digits, _ or -)")
    return once if unique else list(found)


def check_group_ids(group_ids: Any) -> list[str]:
    """Ids of device groups, in the order given, without repetitions.

    :raises IoTDAConfigError: one is not 1 to 36 characters of a-f, 0-9 and ``-``
    """
    return _each(group_ids, "group_ids", _GROUP_ID, f"a device group's id ({_GROUP_FORM})")


def check_package_ids(package_ids: Any, name: str) -> list[str]:
    """Ids of upgrade packages, in the order given, without repetitions.

    :raises IoTDAConfigError: one is not 1 to 36 letters, digits or ``-``
    """
    return _each(package_ids, name, _PACKAGE_ID, f"a package's id ({_PACKAGE_FORM})")


def _each(values: Any, name: str, pattern: re.Pattern[str], what: str) -> list[str]:
    if isinstance(values, (str, bytes, Mapping)) or not isinstance(values, Iterable):
        raise IoTDAConfigError(f"{name} must be a list of ids; got {what_is(values)}.")
    seen: dict[str, None] = {}
    for position, value in enumerate(values):
        if not isinstance(value, str) or not pattern.fullmatch(value):
            raise IoTDAConfigError(f"{name}[{position}] is not {what}: got {what_is(value)}.")
        seen[value] = None
    return list(seen)


def check_word(value: Any, kind: type[Enum], name: str) -> str:
    """A word of the API, in the spelling of the wire.

    :param kind: the words that exist
    :raises IoTDAConfigError: it is none of them
    """
    try:
        return str(kind(value))
    except (ValueError, TypeError):
        words = ", ".join(str(member) for member in kind)
        raise IoTDAConfigError(f"{name} must be one of {words}; got {what_is(value)}.") from None


def is_device_id(value: object) -> bool:
    """Whether it is text of 1 to 128 letters, digits, ``_`` or ``-``."""
    return isinstance(value, str) and _DEVICE_ID.fullmatch(value) is not None


def check_device_id(value: object) -> str:
    """The id of a device, safe to put into a path.

    :raises IoTDAConfigError: it is not 1 to 128 letters, digits, ``_`` or ``-``
    """
    return check_text(value, "device_id", _DEVICE_ID, "1 to 128 letters, digits, _ or -")


def check_id(value: object, name: str) -> str:
    """The id of a resource space or of a product.

    :raises IoTDAConfigError: it is not 1 to 36 letters, digits, ``_`` or ``-``
    """
    return check_text(value, name, _ID, "1 to 36 letters, digits, _ or -")


_GROUP_FORM = "1 to 36 characters of a-f, A-F, 0-9 and -, as the console shows it"


def check_group_id(value: object) -> str:
    """The id of a device group, safe to put into a path.

    :raises IoTDAConfigError: it is not 1 to 36 characters of a-f, A-F, 0-9 and ``-``
    """
    what = f"a device group's ID ({_GROUP_FORM}), not its name"
    return check_text(value, "group_id", _GROUP_ID, what)


_PACKAGE_FORM = "1 to 36 letters, digits or -"


def check_package_id(value: object, name: str = "package_id") -> str:
    """The id of an upgrade package, safe to put into a path.

    :raises IoTDAConfigError: it is not 1 to 36 letters, digits or ``-``
    """
    return check_text(value, name, _PACKAGE_ID, _PACKAGE_FORM)


def check_version(value: object, name: str = "version") -> str:
    """A version of firmware or software.

    :raises IoTDAConfigError: it is not 1 to 256 letters, digits, ``_``, ``-`` or ``.``
    """
    return check_text(value, name, _VERSION, "text of 1 to 256 letters, digits, _, - or .")


def check_versions(values: Any, name: str) -> list[str]:
    """Versions of firmware or software, in the order given, without repetitions.

    :raises IoTDAConfigError: there is none, there are more than 20, or one is no version
    """
    found = _each(values, name, _VERSION, "a version (text of letters, digits, _, - or .)")
    if not 1 <= len(found) <= _MOST_VERSIONS:
        raise IoTDAConfigError(
            f"{name} must have 1 to {_MOST_VERSIONS} versions, got {len(found)}; leave it out if "
            "devices of any version can be upgraded."
        )
    return found


def check_package_type(value: object) -> str:
    """``firmwarePackage``, ``softwarePackage`` or ``modulePackage``.

    :raises IoTDAConfigError: it is none of these
    """
    if not isinstance(value, str) or value not in _PACKAGE_TYPES:
        raise IoTDAConfigError(
            f"package_type must be one of {', '.join(_PACKAGE_TYPES)}; got {what_is(value)}."
        )
    return value


def check_task_name(value: object) -> str:
    """The name of a batch task.

    :raises IoTDAConfigError: it is not 1 to 128 letters (a-z, A-Z, Chinese), digits or ``_``
    """
    return check_text(
        value,
        "task_name",
        _TASK_NAME,
        "1 to 128 letters (a-z, A-Z, Chinese), digits (0-9) or _ (no hyphen, no space)",
    )


def check_group_text(value: object, name: str) -> str:
    """The name or the description of a device group.

    :raises IoTDAConfigError: the platform does not take the text
    """
    return check_text(
        value,
        name,
        _GROUP_NAME,
        "1 to 64 letters (a-z, A-Z, Chinese), digits, spaces or characters of _?'#().,&%@!-",
    )


def check_sql(value: object) -> str:
    """A search for devices, such as ``select * from device where ...``.

    :raises IoTDAConfigError: the platform does not take the text
    """
    text = check_text(
        value,
        "sql",
        _SQL,
        "1 to 400 letters (a-z, A-Z, Chinese), digits, spaces or characters of _?'#().,&%@!*=<>:-",
    )
    if not text.strip():
        raise IoTDAConfigError("sql is empty: it holds spaces only.")
    return text
