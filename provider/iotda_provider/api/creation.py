"""Checks of the objects in the request for a new batch task. Nothing is sent here."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime, timedelta, timezone
from typing import Any

from iotda_provider.api.identifiers import check_package_id, check_package_ids, check_version
from iotda_provider.exceptions import IoTDAConfigError
from iotda_provider.models.statuses import UPGRADES
from iotda_provider.models.text import what_is
from iotda_provider.models.times import read_platform_time

_POLICY = ("schedule_time", "retry_count", "retry_interval")
_MOMENT = re.compile(r"[0-9]{8}T[0-9]{6}Z")
_DAYS_AHEAD = 7
_LONGEST_EXT_INFO = 512


def check_document(value: object, task_type: str) -> Mapping[str, Any]:
    """The ``document``: what a task does. An upgrade names its packages as ``package_ids``.

    :raises IoTDAConfigError: it is not an object, or an id or a version in it cannot be one
    """
    document = dict(_object(value, "document"))
    if task_type not in UPGRADES:
        return document
    if "package_ids" in document:
        document["package_ids"] = check_package_ids(document["package_ids"], "document.package_ids")
        if not document["package_ids"]:
            raise IoTDAConfigError("document.package_ids is an empty list: name the package.")
    if "package_id" in document:
        check_package_id(document["package_id"], "document.package_id")
    if "version" in document:
        check_version(document["version"], "document.version")
    return document


def check_policy(value: object) -> Mapping[str, Any]:
    """The ``task_policy``: when a task begins, and how often failed targets are tried again.

    :raises IoTDAConfigError: the platform does not take it; the message names the field
    """
    policy = _object(value, "task_policy")
    unknown = [name for name in policy if name not in _POLICY]
    if unknown:
        raise IoTDAConfigError(
            f"task_policy takes {', '.join(_POLICY)}; got {what_is(unknown[0])} as a field's name."
        )
    if ("retry_count" in policy) != ("retry_interval" in policy):
        raise IoTDAConfigError(
            "task_policy.retry_count and task_policy.retry_interval go together: give both or none."
        )
    if "retry_count" in policy:
        _whole(policy["retry_count"], "task_policy.retry_count", 1, 5, "")
        _whole(policy["retry_interval"], "task_policy.retry_interval", 0, 1440, " minutes")
    if "schedule_time" in policy:
        _check_moment(policy["schedule_time"], "task_policy.schedule_time")
    return policy


def _whole(value: object, name: str, least: int, most: int, unit: str) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise IoTDAConfigError(
            f"{name} must be a whole number from {least} to {most}{unit}; got "
            f"{what_is(value, instead_of='a number')}."
        )


def _check_moment(value: object, name: str) -> None:
    form = "a time such as 20151212T121212Z (yyyyMMdd'T'HHmmss'Z', in UTC)"
    moment = None
    if isinstance(value, str) and _MOMENT.fullmatch(value):
        with suppress(ValueError):  # a day that does not exist, such as 31 February
            moment = read_platform_time(value)
    if moment is None:
        raise IoTDAConfigError(f"{name} must be {form}; got {what_is(value)}.")
    if moment > datetime.now(timezone.utc) + timedelta(days=_DAYS_AHEAD):
        raise IoTDAConfigError(
            f"{name} must be at most {_DAYS_AHEAD} days ahead, got {value}: create the task later."
        )


def check_task_mode(value: object) -> str:
    """The ``task_mode``.

    :raises IoTDAConfigError: it is not ``GATEWAY``
    """
    if value != "GATEWAY" or not isinstance(value, str):
        raise IoTDAConfigError(f"task_mode must be GATEWAY, or left out; got {what_is(value)}.")
    return value


def check_ext_info(value: object) -> Mapping[str, Any]:
    """The ``task_ext_info``: an object that is sent to every device.

    :raises IoTDAConfigError: it is not an object, or has more than 512 characters as JSON
    """
    info = _object(value, "task_ext_info")
    try:
        length = len(json.dumps(info, ensure_ascii=False, separators=(",", ":")))
    except (TypeError, ValueError, RecursionError):
        return info  # Call.outgoing() refuses a body that is not JSON
    if length > _LONGEST_EXT_INFO:
        raise IoTDAConfigError(
            f"task_ext_info must be an object of at most {_LONGEST_EXT_INFO} characters of JSON, "
            f"got {length}."
        )
    return info


def _object(value: object, name: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise IoTDAConfigError(f"{name} must be an object; got {what_is(value)}.")
    return value
