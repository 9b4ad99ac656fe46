"""Puts every device of a release into a wave: the same way for the same devices and seed."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime, timedelta, timezone

from iotda_provider.models import Device
from iotda_provider.release.manifest import Manifest
from iotda_provider.release.wave_specs import GROUP, WaveSpec

LATE_LABEL = "not online lately"


def shuffled(devices: Iterable[str], seed: str) -> list[str]:
    """The devices, each once, in an order that only the seed and each device's own id decide.

    The guarantees of guard and gate hang on this order being unrelated to how devices fare. A
    device more or less moves no other.
    """

    def place(device: str) -> bytes:
        return hashlib.sha256(f"{seed}\0{device}".encode()).digest()

    return sorted(set(devices), key=place)


def plan_waves(
    batch_task_id: str,
    targets: Iterable[str],
    waves: Sequence[WaveSpec],
    *,
    seed: str,
    groups: Mapping[str, Collection[str]] | None = None,
    late: Collection[str] = (),
) -> Manifest:
    """Put every target into exactly one wave; a wave that would be empty is left out.

    :param targets: the devices of the batch task
    :param waves: as :func:`~iotda_provider.release.wave_specs.parse_waves` reads them
    :param seed: what the order is drawn from
    :param groups: the devices of each group that a wave names
    :param late: devices that form a wave of their own at the end: those that were not online lately
    :raises ValueError: there is no target
    """
    order = shuffled(targets, seed)
    if not order:
        raise ValueError("there is no device to release to")
    waiting = set(late)
    on_time = [device for device in order if device not in waiting]
    labels: list[str] = []
    planned: list[tuple[str, ...]] = []
    placed: set[str] = set()
    for spec in waves:
        left = [device for device in on_time if device not in placed]
        if spec.kind == GROUP:
            wanted = set((groups or {}).get(spec.group_id, ()))
            members = [device for device in left if device in wanted]
        else:
            members = left[: max(0, spec.size(len(on_time)) - len(placed))]
        if members:
            labels.append(spec.label)
            planned.append(tuple(members))
            placed.update(members)
    last = tuple(device for device in order if device in waiting)
    if last:
        labels.append(LATE_LABEL)
        planned.append(last)
    return Manifest(batch_task_id, seed, tuple(labels), tuple(planned), late=1 if last else 0)


def was_online_lately(device: Device, now: datetime, within: timedelta) -> bool:
    """Whether a device is online, or was until so long ago.

    A device that is offline since nobody knows when was not.

    :param device: with its details, as lists leave out since when it is offline
    """
    if device.status == "ONLINE":
        return True
    if device.status != "OFFLINE" or not device.status_changed:
        return False
    for form in ("%Y-%m-%dT%H:%M:%S.%fZ", "%Y-%m-%dT%H:%M:%SZ", "%Y%m%dT%H%M%SZ"):
        try:
            changed = datetime.strptime(device.status_changed, form).replace(tzinfo=timezone.utc)
        except ValueError:
            continue
        return now - changed <= within
    return False
