"""When a gate's looks are, and what a device's state says at one of them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import datetime, timezone

from iotda_provider.models import Device

_HEALTHY, _UNHEALTHY = frozenset({"ONLINE"}), frozenset({"OFFLINE", "ABNORMAL"})
_FORMS = ("%Y-%m-%dT%H:%M:%S.%fZ", "%Y-%m-%dT%H:%M:%SZ", "%Y%m%dT%H%M%SZ")


@dataclass(frozen=True)
class Schedule:
    """When the looks of one gate are: only the clock decides.

    Look j is j² bake times after the beginning of the wave. If a wave is watched again after its
    time is over, because its run was cleared, the schedule starts anew with each ``span``, and the
    numbers j go on. With ``online_within`` all looks are that much later, so that the time that a
    look covers lies after the beginning.

    :param begun: when the wave has begun, before its first device was confirmed, in seconds since
        1970
    :param bake: the bake time in seconds, above 0
    :param span: a wave's time in seconds
    :param within: the trial's ``online_within``; 0: none
    """

    begun: float
    bake: float
    span: float
    within: float = 0.0

    def time_of(self, look: int) -> float:
        """When a look is, from 1, in seconds since 1970."""
        spans, place = divmod(look - 1, self._in_a_span)
        return self.begun + self.within + spans * self._span + (place + 1) ** 2 * self.bake

    def next_at(self, now: float) -> int:
        """The first look whose time has not passed yet; those before it are spent."""
        passed = now - self.begun - self.within
        look = max(0, int(passed // self._span) - 1) * self._in_a_span + 1
        while self.time_of(look) < now:
            look += 1
        return look

    @property
    def _in_a_span(self) -> int:
        return max(1, math.isqrt(int(self.span / self.bake)))

    @property
    def _span(self) -> float:
        return max(self.span, self.bake)


def is_online(device: Device, now: float, within: float | None) -> bool | None:
    """Whether a device is healthy by its state; None: unknown.

    :param now: in seconds since 1970
    :param within: seconds; went offline no longer ago is healthy, too. It needs the device's
        details, as lists leave out since when it is offline: then it is unknown
    """
    if device.status in _HEALTHY:
        return True
    if device.status not in _UNHEALTHY:
        return None
    if within is None or device.status != "OFFLINE":
        return False
    changed = _seconds(device.status_changed)
    return None if changed is None else now - changed <= within


def _seconds(text: str | None) -> float | None:
    for form in _FORMS:
        try:
            return datetime.strptime(text or "", form).replace(tzinfo=timezone.utc).timestamp()
        except ValueError:
            continue
    return None
