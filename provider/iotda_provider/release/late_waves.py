"""Devices that were not online lately: in waves of their own, where they are most of the fleet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from iotda_provider.release.manifest import Manifest
from iotda_provider.release.planning import LATE_LABEL
from iotda_provider.release.wave_specs import GROUP, WaveSpec

#: The share of the fleet above which one wave of them would be no release in waves.
_MOST = 0.5


def split_late(manifest: Manifest, waves: Sequence[WaveSpec], max_waves: int) -> Manifest:
    """The same waves, with the last one in shares where it holds more than half of the fleet.

    They are the shares that were asked for, counted among the late devices, as many of the last
    ones as there is room for. The order of the devices stays, so the same plan comes out each time.

    :param manifest: with all late devices in one wave
    :param waves: as they were asked for
    :param max_waves: the most waves there may be
    """
    if not manifest.late or not is_too_large(len(manifest.waves[-1]), manifest.devices):
        return manifest
    members, before = manifest.waves[-1], manifest.waves[:-1]
    room = max_waves - len(before)
    shares = [spec for spec in waves[:-1] if spec.kind != GROUP]
    labels: list[str] = []
    planned: list[tuple[str, ...]] = []
    placed = 0
    for spec in shares[-(room - 1) :] if room > 1 else ():
        if placed < (upto := spec.size(len(members))) < len(members):
            labels.append(f"{LATE_LABEL}, {spec.label}")
            planned.append(members[placed:upto])
            placed = upto
    return replace(
        manifest,
        labels=(*manifest.labels[:-1], *labels, LATE_LABEL),
        waves=(*before, *planned, members[placed:]),
        late=len(planned) + 1,
    )


def is_too_large(wave: int, fleet: int) -> bool:
    """Whether a wave holds more than half of the fleet.

    :param wave: devices in it
    :param fleet: devices in all waves
    """
    return wave > _MOST * fleet


def warning(manifest: Manifest) -> str:
    """What a person should know of late waves that hold most of the fleet; empty: nothing."""
    late = manifest.waves[len(manifest) - manifest.late :]
    largest = max(map(len, late), default=0)
    if not is_too_large(largest, manifest.devices):
        return ""
    return (
        f"{sum(map(len, late))} of {manifest.devices} devices were not online lately, and "
        f"{largest} of them are let start in ONE wave. They start as they come online, so the "
        "waves before it show little of how they fare. Look whether the fleet is connected, wait "
        "until more devices are online, count those as online that were within more hours, plan "
        "with a larger max_waves or fewer waves (late devices are then split by the same shares), "
        "or set max_in_flight."
    )
