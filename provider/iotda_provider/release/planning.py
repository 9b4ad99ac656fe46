"""Puts every device of a release into a wave: the same way for the same devices and seed."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import accumulate, groupby
from typing import Any

from iotda_provider.models import Device
from iotda_provider.models.sorted_ids import SortedIds
from iotda_provider.release.wave_specs import GROUP, WaveSpec
from iotda_provider.trials.looks import is_online

#: A wave with more than this share of the fleet is too large for a release in waves.
_MOST = 0.5
LATE_LABEL = "not online lately"


@dataclass(frozen=True)
class Membership:
    """Which device is in which wave.

    :param seed: what the order was drawn from
    :param labels: each wave in the words in which it was asked for
    :param waves: the device ids of each wave, in the order in which they are confirmed
    :param late: how many waves at the end hold only devices that were not online lately
    """

    seed: str
    labels: tuple[str, ...]
    waves: tuple[Sequence[str], ...]
    late: int = 0

    def __len__(self) -> int:
        return len(self.waves)

    @property
    def devices(self) -> int:
        """How many devices there are in all waves."""
        return sum(map(len, self.waves))

    @property
    def cumulative(self) -> tuple[int, ...]:
        """How many devices each wave has together with those before it."""
        return tuple(accumulate(map(len, self.waves)))


def shuffled(devices: Iterable[str], seed: str) -> list[str]:
    """The devices, each once, in an order that only the seed and each device's own id decide.

    Guard and gate keep their promises because this order has nothing to do with how devices fare.
    To add or remove a device does not change the order of the others.
    """

    def place(device: str) -> bytes:
        return hashlib.sha256(f"{seed}\0{device}".encode()).digest()[:8]

    # Equal ids are neighbours now; a set of a million ids would take 60 MB.
    return [device for device, _ in groupby(sorted(devices, key=place))]


def plan_waves(
    targets: Iterable[str],
    waves: Sequence[WaveSpec],
    *,
    seed: str,
    groups: Mapping[str, Collection[str]] | None = None,
    late: Collection[str] = (),
) -> Membership:
    """Put every target into exactly one wave; a wave that would be empty is left out.

    :param targets: the devices of the release
    :param waves: as :func:`~iotda_provider.release.wave_specs.parse_waves` reads them
    :param seed: what the order is drawn from
    :param groups: the devices of each group that a wave names
    :param late: devices that form a wave of their own at the end: those that were not online lately
    :raises ValueError: there is no target
    """
    order = shuffled(targets, seed)
    if not order:
        raise ValueError("there is no device to release to")
    waiting = SortedIds(late)
    on_time = [device for device in order if device not in waiting]
    last = [device for device in order if device in waiting]
    return cut_waves(on_time, last, waves, seed=seed, groups=groups)


def cut_waves(
    on_time: Sequence[Any],
    late: Sequence[Any],
    waves: Sequence[WaveSpec],
    *,
    seed: str = "",
    groups: Mapping[str, Collection[str]] | None = None,
) -> Membership:
    """Cut a list of devices into waves. If only the sizes matter, ranges can be passed.

    :param on_time: the devices that were online lately, in order
    :param late: the others, in order
    :param groups: the devices of each group that a wave names
    """
    labels: list[str] = []
    planned: list[Sequence[Any]] = []
    left, placed = on_time, 0
    for spec in waves:
        if spec.kind == GROUP:
            wanted = SortedIds((groups or {}).get(spec.group_id, ()))
            members: Sequence[Any] = [device for device in left if device in wanted]
            left = [device for device in left if device not in wanted] if members else left
        else:
            size = max(0, spec.size(len(on_time)) - placed)
            members, left = left[:size], left[size:]
        if members:
            labels.append(spec.label)
            planned.append(members)
            placed += len(members)
    if late:
        labels.append(LATE_LABEL)
        planned.append(late)
    return Membership(seed, tuple(labels), tuple(planned), late=1 if late else 0)


def was_online_lately(device: Device, now: datetime, within: timedelta) -> bool:
    """Whether a device is online, or was within the last hours.

    A device that is offline since an unknown time was not.

    :param device: read by itself: lists leave out since when it is offline
    """
    return is_online(device, now.timestamp(), within.total_seconds()) is True


def split_late(plan: Membership, waves: Sequence[WaveSpec], max_waves: int) -> Membership:
    """Split the last wave, if it holds more than half of the fleet.

    It is split by the shares that were asked for, counted among the late devices. If there is room
    for some shares only, the last ones are taken. The devices keep their order, so the same plan
    comes out each time.

    :param plan: with all late devices in one wave
    :param waves: as they were asked for
    :param max_waves: the most waves there may be
    """
    if not plan.late or not is_too_large(len(plan.waves[-1]), plan.devices):
        return plan
    members, before = plan.waves[-1], plan.waves[:-1]
    room = max_waves - len(before)
    shares = [spec for spec in waves[:-1] if spec.kind != GROUP]
    labels: list[str] = []
    planned: list[Sequence[str]] = []
    placed = 0
    for spec in shares[-(room - 1) :] if room > 1 else ():
        if placed < (upto := spec.size(len(members))) < len(members):
            labels.append(f"{LATE_LABEL}, {spec.label}")
            planned.append(members[placed:upto])
            placed = upto
    return replace(
        plan,
        labels=(*plan.labels[:-1], *labels, LATE_LABEL),
        waves=(*before, *planned, members[placed:]),
        late=len(planned) + 1,
    )


def is_too_large(wave: int, fleet: int) -> bool:
    """Whether a wave holds more than half of the fleet.

    :param wave: devices in it
    :param fleet: devices in all waves
    """
    return wave > _MOST * fleet


def late_warning(sizes: Sequence[int], late: int) -> str:
    """What a person should know of late waves that hold most of the fleet; empty: nothing.

    :param sizes: how many devices each wave has
    :param late: how many of them, at the end, hold devices that were not online lately
    """
    last = sizes[len(sizes) - late :]
    largest = max(last, default=0)
    if not is_too_large(largest, sum(sizes)):
        return ""
    return (
        f"{sum(last)} of {sum(sizes)} devices were not online lately, and {largest} of them are "
        "confirmed in ONE wave. They start as they come online, so the waves before it show little "
        "of how they fare. Look whether the fleet is connected, wait until more devices are "
        "online, count devices as online that were so longer ago, plan with a larger max_waves "
        "or fewer waves (late devices are then split by the same shares), or set max_in_flight."
    )
