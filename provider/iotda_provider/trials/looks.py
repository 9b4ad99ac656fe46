"""When a gate's looks are, and what a device's state says at one of them."""

from __future__ import annotations

import math
from datetime import datetime, timezone

from iotda_provider.models import Device
from iotda_provider.trials.device_trial import DeviceTrial

_HEALTHY, _UNHEALTHY = frozenset({"ONLINE"}), frozenset({"OFFLINE", "ABNORMAL"})
_FORMS = ("%Y-%m-%dT%H:%M:%S.%fZ", "%Y-%m-%dT%H:%M:%SZ", "%Y%m%dT%H%M%SZ")


def look_time(trial: DeviceTrial, begun: float, bake: float, look: int) -> float:
    """When the ``look``-th look of a gate is, in seconds since 1970.

    ``look``² bake times after the wave has begun; with ``online_within`` that much later, so that
    the time it looks back over lies after the beginning. It hangs on the clock alone: who has just
    succeeded has just been online.

    :param begun: when the wave has begun, before its first device was let start
    :param bake: the bake time in seconds, above 0
    """
    return begun + (trial.online_within or 0.0) + look * look * bake


def next_look(trial: DeviceTrial, begun: float, bake: float, now: float) -> int:
    """The first look whose time has not passed yet; those before it are spent."""
    passed = (now - begun - (trial.online_within or 0.0)) / bake
    return max(1, math.ceil(math.sqrt(max(0.0, passed))))


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
