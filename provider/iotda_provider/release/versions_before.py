"""The record of which version each device ran before a release, beside the record of its waves.

The record ``before_2`` of a wave holds, for each version, which of its devices ran it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from iotda_provider.exceptions import IoTDAConfigError
from iotda_provider.models.log import Log
from iotda_provider.models.sorted_ids import MarkedIds, SortedIds
from iotda_provider.models.text import one_line
from iotda_provider.release.device_ids import iter_ids, read_devices
from iotda_provider.release.ledger import pack, unpack

if TYPE_CHECKING:
    from iotda_provider.release.storage import ReleaseFiles

#: The most versions that are written down; a device with any other one counts as unknown.
_MOST_VERSIONS = 500
_LONGEST_VERSION = 256


def key_of(wave: int) -> str:
    """The key of a wave's record."""
    return f"before_{wave}"


def write_before(
    files: ReleaseFiles, waves: Iterable[Sequence[str]], versions: Mapping[Any, Any]
) -> None:
    """Write down what the devices of every wave run now.

    :param waves: the device ids of each wave, in the order in which they are planned
    :param versions: for each version the ids of its devices, or the reference of a file with them
    :raises IoTDAConfigError: it is something else
    :raises Exception: as the storage or Airflow does
    """
    known = list(versions.items())[:_MOST_VERSIONS]
    for version, _ in known:
        if not isinstance(version, str) or not 0 < len(version) <= _LONGEST_VERSION:
            raise IoTDAConfigError(f"versions: {one_line(version, 60)!r} is no version.")
    for wave, ids in enumerate(waves, start=1):
        in_order = SortedIds(ids)
        packed = {}
        # Of a million devices, those of one wave and one version are in memory at a time.
        for version, of_it in known:
            devices = MarkedIds(in_order)
            devices.update(_each(of_it))
            if devices:
                packed[version] = pack(ids, devices)
        files.write(key_of(wave), {"devices": len(ids), "runs": packed})


def _each(ids: Any) -> Iterable[str]:
    """The ids in a list, or of a file by its reference."""
    is_file = isinstance(ids, str) and not ids.strip().startswith("[")
    return iter_ids(ids.strip(), "versions") if is_file else read_devices(ids, "versions")


def read_before(files: ReleaseFiles, wave: int, log: Log) -> dict[str, str]:
    """What each device of a wave ran before the release, without those of an unknown version.

    The last wave also has devices of earlier waves that other upgrades held when those began.

    :raises IoTDATransportError: it can't be read now
    """
    found = _read(files, wave, log)
    held = set(files.read_held(wave)) if wave == len(files.planned()) else set()
    for earlier in range(1, wave) if held else ():
        found |= {one: runs for one, runs in _read(files, earlier, log).items() if one in held}
    return found


def _read(files: ReleaseFiles, wave: int, log: Log) -> dict[str, str]:
    """The same, of the devices that were planned for the wave."""
    ids = list(files.iter_planned(wave))
    for record in files.read(key_of(wave)):
        try:
            return {
                device: str(version)
                for version, packed in record["runs"].items()
                for device in unpack(ids, packed)
            }
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            log.warning("What the devices of wave %d ran before can't be used: %s", wave, error)
    return {}
