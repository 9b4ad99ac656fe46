"""The operator that puts devices aside: into a device group."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import AirflowFailException, Context

from iotda_provider.exceptions import IoTDAApiError, IoTDAConfigError, IoTDAError
from iotda_provider.models import DeviceGroup
from iotda_provider.operators.base import CONNECTION_FIELDS, IoTDABaseOperator
from iotda_provider.release.device_ids import read_devices
from iotda_provider.task_io.dag_parameters import list_or_template, text_or_template
from iotda_provider.task_io.parameters import as_text, optional_text
from iotda_provider.waiting.outage import is_gone

if TYPE_CHECKING:
    from iotda_provider.hooks.iotda import IoTDAHook

#: Devices that the platform takes in one group.
MOST_IN_GROUP = 20_000
#: The most refused devices that the result names: it is an XCom.
MOST_NAMED = 250
_LONGEST_NAME = 64
_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9\u4e00-\u9fa5_? '#().,&%@!-]")
#: The most characters of ``group_name``.
_LONGEST_WANTED = 1000
#: Answers that are about one device, or about its place in the group, as is a 404 of the platform.
_REFUSALS = (400, 403, 409)
#: After trouble with so many devices in a row, the rest is left to a retry.
_MOST_TROUBLE = 3
_MOST_LINES = 20
#: The type of a group into which devices are put one by one.
_STATIC = "STATIC"


class QuarantineDevicesOperator(IoTDABaseOperator):
    """Put devices into a device group, which is made where it does not exist.

    It takes one call for each device. Adding a device twice changes nothing. If a device is
    refused, it is reported, and the others are added. If the platform fails, the task fails after
    the others were added, so that a retry adds the rest.

    The platform takes names of up to 64 characters: letters, digits, Chinese, ``_? '#().,&%@!-``.
    In a longer ``group_name``, or one with other characters, such as a version with a ``+``, these
    are cut off or replaced by ``_``, and a digest of the whole is added: equal names stay equal,
    and different names stay different.

    The platform takes 20,000 devices in a group. Where that is full, others are made, with the name
    and ``_part_2``, ``_part_3``, ...

    XCom: the return value ``{"group_id", "name", "requested", "added", "already_in", "failed":
    [{"target", "error_msg"}, ...]}``; ``name`` is the group's own, ``added`` counts the devices
    that are in it now, ``already_in`` those of them that were in it before, and ``failed`` names
    the first 250 that are not. With several groups also ``more_groups``, their ids but the first;
    the counts are then about all of them. An empty list of devices makes no group. It is an error
    if a group of that name is dynamic or has another description, or if there are several of that
    name.

    :param targets: device ids, in any form of the release's ``devices`` (templated)
    :param group_name: the group (templated)
    :param description: for a new group; one that is there must have the same (templated)
    :param iotda_conn_id: the connection (templated)
    :param project_id: instead of the connection's (templated)
    :param instance_id: instead of the connection's (templated)
    """

    template_fields: Sequence[str] = ("targets", "group_name", "description", *CONNECTION_FIELDS)

    def __init__(
        self, *, targets: Any, group_name: str, description: str = "", **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.targets = list_or_template(targets, "targets")
        self.group_name = text_or_template(group_name, "group_name")
        self.description = text_or_template(description, "description")

    def execute(self, context: Context) -> dict[str, Any]:
        targets = read_devices(self.targets, "targets")
        name = group_name_of(self.group_name)
        result: dict[str, Any] = {
            "group_id": None,
            "name": name,
            "requested": len(targets),
            "added": 0,
            "already_in": 0,
            "failed": [],
        }
        if not targets:
            self.log.info("No device is to be put into %s.", name)
            return result
        with self.hook() as hook:
            groups, left = self._groups(hook, targets)
            result["group_id"] = groups[0][0]
            if len(groups) > 1:
                result["more_groups"] = [group_id for group_id, _ in groups[1:]]
            result["already_in"] = len(targets) - len(left)
            failed: list[dict[str, Any]] = []
            trouble: list[IoTDAError] = []
            for group_id, room in groups:
                refused, errors = self._add(hook, group_id, left[:room])
                failed += refused
                trouble += errors
                left = left[room:]
        if trouble:
            raise trouble[-1]
        result["failed"] = failed[:MOST_NAMED]
        result["added"] = len(targets) - len(failed)
        self.log.info("%d of %d device(s) are in %s.", result["added"], len(targets), name)
        return result

    def _groups(
        self, hook: IoTDAHook, targets: Sequence[str]
    ) -> tuple[list[tuple[str, int]], list[str]]:
        """The groups, each with how many devices it still takes, and the devices in none of them.

        Each further group exists only because those before it are full.
        """
        description = optional_text(self.description, "description") or ""
        wanted, left = as_text(self.group_name, "group_name").strip(), list(targets)
        found: list[tuple[str, int]] = []
        room = 0
        while not found or room < len(left):
            name = group_name_of(f"{wanted}_part_{len(found) + 1}" if found else wanted)
            groups = [group for group in hook.list_device_groups(name=name) if group.name == name]
            if groups:
                group = _the_same(groups, name, description)
            else:
                group = hook.create_device_group(name=name, description=description)
            self.log.info("The group is %s (%s).", name, group.group_id)
            inside = {device.device_id for device in hook.iter_group_devices(group.group_id)}
            left = [target for target in left if target not in inside]
            found.append((group.group_id, max(0, MOST_IN_GROUP - len(inside))))
            room += found[-1][1]
        return found, left

    def _add(
        self, hook: IoTDAHook, group_id: str, targets: Sequence[str]
    ) -> tuple[list[dict[str, Any]], list[IoTDAError]]:
        """Put devices into the group.

        :returns: those that the platform refuses, and the errors of those with which it has trouble
            of its own; after three of these in a row the rest of the group is left to a retry
        """
        failed: list[dict[str, Any]] = []
        trouble: list[IoTDAError] = []
        in_a_row = 0
        for target in targets:
            try:
                hook.change_device_group(group_id, target, add=True)
                in_a_row = 0
                continue
            except IoTDAError as error:
                caught = error
            is_refused = isinstance(caught, IoTDAApiError) and caught.status_code in _REFUSALS
            if is_refused or is_gone(caught):
                in_a_row = 0
                failed.append({"target": target, "error_msg": str(caught)})
                if len(failed) <= _MOST_LINES:
                    self.log.warning("%s can't be put into the group: %s", target, caught)
                continue
            trouble.append(caught)
            in_a_row += 1
            self.log.warning("%s could not be put into the group: %s", target, caught)
            if in_a_row == _MOST_TROUBLE:
                break  # not with one device: with all of this group
        return failed, trouble


def _the_same(groups: Sequence[DeviceGroup], name: str, description: str) -> DeviceGroup:
    """The group that was asked for; its name alone does not prove that.

    :raises AirflowFailException: what bears the name is another group, or there are several
    """
    if len(groups) > 1:
        ids = ", ".join(group.group_id for group in groups)
        raise AirflowFailException(
            f"There are {len(groups)} device groups named {name!r} ({ids}): no device was put into "
            "any. Name another group in group_name, or remove all but one."
        )
    group = groups[0]
    differs = []
    if group.group_type not in (None, _STATIC):
        differs.append(f"its type is {group.group_type}, not {_STATIC}")
    if description and (group.description or "") != description:
        differs.append(f"its description is {group.description or ''!r}, not {description!r}")
    if differs:
        raise AirflowFailException(
            f"The device group {name!r} ({group.group_id}) is another one: {'; '.join(differs)}. "
            "No device was put into it. Name another one in group_name, or mend that one."
        )
    return group


def group_name_of(wanted: Any) -> str:
    """A name that the platform takes for a device group: the same at every try.

    :raises IoTDAConfigError: it was rendered to nothing, or to something else than text
    """
    text = as_text(wanted, "group_name").strip()
    if len(text) > _LONGEST_WANTED:
        raise IoTDAConfigError(
            f"group_name must be at most {_LONGEST_WANTED} characters, got {len(text)}."
        )
    name = _NOT_IN_NAMES.sub("_", text)
    if name == text and len(name) <= _LONGEST_NAME:
        return name
    digest = hashlib.sha256(text.encode()).hexdigest()[:8]
    return f"{name[: _LONGEST_NAME - len(digest) - 1]}_{digest}"
