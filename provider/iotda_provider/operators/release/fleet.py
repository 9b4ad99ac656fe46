"""Which devices a release is for, as the platform shows them, and which were online lately."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING

from airflow.providers.common.compat.sdk import AirflowFailException

from iotda_provider.exceptions import IoTDAApiError, IoTDAError, IoTDANotFoundError
from iotda_provider.models import Device, OtaPackage
from iotda_provider.models.log import Log
from iotda_provider.release.planning import was_online_lately

if TYPE_CHECKING:
    from iotda_provider.hooks.iotda import IoTDAHook

#: Devices whose details are read between two looks at the clock.
_BLOCK = 160
_SECONDS_BETWEEN_LINES = 30.0


def members_of(hook: IoTDAHook, group_ids: Iterable[str]) -> dict[str, Device]:
    """The devices of some groups, each once.

    :raises AirflowFailException: there is no such group
    """
    found: dict[str, Device] = {}
    for group_id in group_ids:
        try:
            found.update((d.device_id, d) for d in hook.iter_group_devices(group_id))
        except IoTDAApiError as error:
            # What is no id at all is a bad request.
            if error.status_code != 400 and not isinstance(error, IoTDANotFoundError):
                raise
            raise AirflowFailException(f"There is no device group {group_id}: {error}") from error
    return found


def sort_devices(
    hook: IoTDAHook, package: OtaPackage, members: Mapping[str, Device], column: str
) -> tuple[list[Device], int, int]:
    """The devices that need the package, and how many have it or can't take it."""
    wanted: list[Device] = []
    current = 0
    # Lists of groups leave the versions out.
    for device in hook.list_devices(product_id=package.product_id):
        if device.device_id not in members:
            continue
        if getattr(device, column) == package.version:
            current += 1
        else:
            wanted.append(device)
    return wanted, current, len(members) - current - len(wanted)


def online_lately(
    hook: IoTDAHook, devices: Sequence[Device], within: timedelta | None, log: Log
) -> set[str]:
    """The devices that are online, or were lately.

    :raises IoTDAError: none of a block of devices can be read
    """
    lately = {device.device_id for device in devices if device.status == "ONLINE"}
    offline = [device.device_id for device in devices if device.status == "OFFLINE"]
    if within is None or not offline:
        return lately
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
        if len(errors) == len(block) and not isinstance(errors[0], IoTDANotFoundError):
            raise errors[0]
        for device_id, answer in zip(block, answers, strict=True):
            if isinstance(answer, IoTDAError):
                unread += 1
                first_unread = first_unread or f"{device_id}: {answer}"
            elif was_online_lately(answer, now, within):
                lately.add(device_id)
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
    return lately


def _minutes(seconds: float) -> str:
    """How long something takes, for a person."""
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"
