"""Which devices a release is for, as the platform shows them, and which were online lately."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from itertools import islice
from typing import TYPE_CHECKING

from airflow.providers.common.compat.sdk import AirflowFailException

from iotda_provider.exceptions import IoTDAApiError, IoTDAConfigError, IoTDAError
from iotda_provider.models import OtaPackage
from iotda_provider.models.log import Log
from iotda_provider.models.sorted_ids import MarkedIds, SortedIds
from iotda_provider.release.device_ids import MOST_DEVICES, MOST_IN_XCOM
from iotda_provider.release.planning import was_online_lately
from iotda_provider.release.preflight import ReleaseParameters
from iotda_provider.waiting.outage import is_gone

if TYPE_CHECKING:
    from iotda_provider.hooks.iotda import IoTDAHook

#: Devices whose details are read between two looks at the clock.
_BLOCK = 160
_SECONDS_BETWEEN_LINES = 30.0
#: The most devices that an XCom names for each reason: ids may be long.
MOST_NAMED = 350


@dataclass
class Needed:
    """The devices that need a package.

    :param ids: all of them, in order
    :param not_online: the ids of those that are not online now
    :param offline: those of ``not_online`` of which the platform knows since when they are offline
    :param current: how many other devices have the package already
    :param others: how many other devices can't take it
    :param of_product: how many devices the package's product has
    :param versions: the ids by the version that they run, without those of an unknown version
    :param left_out: the first ids of ``already_current`` and ``other_product``
    """

    ids: SortedIds = field(default_factory=SortedIds)
    not_online: list[str] = field(default_factory=list)
    offline: list[str] = field(default_factory=list)
    current: int = 0
    others: int = 0
    of_product: int = 0
    versions: dict[str, list[str]] = field(default_factory=dict)
    left_out: dict[str, list[str]] = field(default_factory=dict)


def members_of(hook: IoTDAHook, group_ids: Iterable[str]) -> SortedIds:
    """The ids of the devices of some groups.

    :raises AirflowFailException: there is no such group
    """
    found = SortedIds()
    for group_id in group_ids:
        try:
            found.update(device.device_id for device in hook.iter_group_devices(group_id))
        except IoTDAApiError as error:
            # The platform calls text that is no id a bad request.
            if error.status_code != 400 and not is_gone(error):
                raise
            raise AirflowFailException(f"There is no device group {group_id}: {error}") from error
    return found


def wave_groups_of(hook: IoTDAHook, asked: ReleaseParameters) -> dict[str, SortedIds]:
    """The devices of each group that is a wave; one that does not exist is a fault."""
    found: dict[str, SortedIds] = {}
    for group_id in asked.group_ids:
        try:
            found[group_id] = members_of(hook, [group_id])
        except (AirflowFailException, IoTDAConfigError) as error:
            asked.faults.append(f"waves: {error} group: takes a group's ID, not its name.")
    return found


def refuse_number(devices: int, manifest_path: str | None) -> None:
    """
    :raises AirflowFailException: there are more devices than a release takes
    """
    if devices > MOST_DEVICES:
        raise AirflowFailException(
            f"{devices} devices are more than a release takes ({MOST_DEVICES}): release to fewer "
            "groups at a time."
        )
    if devices > MOST_IN_XCOM and manifest_path is None:
        raise AirflowFailException(
            f"{devices} devices are more than the {MOST_IN_XCOM} whose ids XComs may hold: set "
            "manifest_path (MANIFEST_PATH at the top of firmware_release) to the URL of a file "
            "that all workers can read and write, such as s3://bucket/releases/{{ run_id }}.json. "
            "Nothing was created."
        )


def sort_devices(hook: IoTDAHook, package: OtaPackage, members: SortedIds, column: str) -> Needed:
    """The devices that need the package, and how many have it or can't take it.

    :param members: ids of devices
    """
    needed = Needed()
    current: list[str] = []
    found, wanting = MarkedIds(members), MarkedIds(members)
    # Lists of groups leave the versions out. Of a million devices none is kept.
    for device in hook.list_devices(product_id=package.product_id):
        needed.of_product += 1
        device_id = found.add(device.device_id)
        if device_id is None:
            continue
        if getattr(device, column) == package.version:
            needed.current += 1
            if len(current) < MOST_NAMED:
                current.append(device_id)
            continue
        wanting.add(device_id)
        if runs := getattr(device, column):
            needed.versions.setdefault(runs, []).append(device_id)
        if device.status != "ONLINE":
            needed.not_online.append(device_id)
            if device.status == "OFFLINE":
                needed.offline.append(device_id)
    needed.ids = SortedIds(wanting)
    needed.others = len(members) - len(found)
    others = list(islice(found.others, MOST_NAMED))
    needed.left_out = {"already_current": current, "other_product": others}
    return needed


def find_late(hook: IoTDAHook, needed: Needed, within: timedelta | None, log: Log) -> MarkedIds:
    """The devices that neither are online nor were so lately.

    :raises IoTDAError: none of a block of devices can be read
    """
    late, offline = MarkedIds(needed.ids), needed.offline
    late.update(needed.not_online)
    if within is None or not offline:
        return late
    per_second = hook.settings.max_requests_per_second
    log.info(
        "%d device(s) are offline now. To see since when takes one call each%s. "
        "online_within=0 saves them, and has all of these come last.",
        len(offline),
        f": at {per_second:g} a second about {_minutes(len(offline) / per_second)}"
        if per_second
        else ", as fast as the platform answers (max_requests_per_second is not set)",
    )
    began = said = time.monotonic()
    unread, first_unread = 0, ""
    for start in range(0, len(offline), _BLOCK):
        block = offline[start : start + _BLOCK]
        answers = hook.read_devices(block)
        now = datetime.now(timezone.utc)
        errors = [answer for answer in answers if isinstance(answer, IoTDAError)]
        if len(errors) == len(block) and not is_gone(errors[0]):
            raise errors[0]
        for device_id, answer in zip(block, answers, strict=True):
            if isinstance(answer, IoTDAError):
                unread += 1
                first_unread = first_unread or f"{device_id}: {answer}"
            elif was_online_lately(answer, now, within):
                late.discard(device_id)
        done, clock = start + len(block), time.monotonic()
        if clock - said >= _SECONDS_BETWEEN_LINES:
            said = clock
            left = (clock - began) / done * (len(offline) - done)
            log.info("Read %d of %d; about %s left.", done, len(offline), _minutes(left))
    if unread:
        log.warning(
            "%d device(s) can't be read, and so come last; the first is %s",
            unread,
            first_unread,
        )
    return late


def _minutes(seconds: float) -> str:
    """How long something takes, for a person."""
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"
