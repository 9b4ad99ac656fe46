"""The records of a release's waves.

Before the first wave: how many devices are in which wave, and where their ids are. When a wave
begins: its devices, and its batch tasks.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any

from iotda_provider.api import MAX_TARGETS_PER_TASK
from iotda_provider.models.json_text import PlainJson

#: The key of the devices that a trial compares; with a wave's number, of the looks at its gate.
TRIAL = "trial"
_VERSION = 2
_LONGEST_BASE = 60
#: The key of what the plan has counted, for the second look at each wave.
LOOKED = "looked"
#: Why a device is left out of its wave: another upgrade that has not ended holds it; it runs the
#: version by now; the platform has it no more; or it belongs to another product by now.
HELD, CURRENT, GONE, MOVED = "held_elsewhere", "already_current", "gone", "other_product"
#: Of a wave for devices of one version: it runs neither that nor the new one, or can't be read.
OTHER_VERSION, UNREAD_VERSION = "runs_another_version", "version_unread"


def digest_of(device_ids: Iterable[str]) -> str:
    """16 characters that change with any id, or with their order."""
    seen = hashlib.sha256()
    for device_id in device_ids:
        seen.update(f"{device_id}\n".encode())
    return seen.hexdigest()[:16]


@dataclass(frozen=True)
class PlannedWave(PlainJson):
    """One wave as it was planned.

    :param label: the wave in the words in which it was asked for
    :param devices: how many devices there are in it
    :param digest: of their ids, in order
    :param ids: the reference of a file with the ids; None: they are in XComs
    """

    label: str
    devices: int
    digest: str
    ids: str | None = None


@dataclass(frozen=True)
class Manifest:
    """The waves of one release, without the ids of their devices.

    :param release: names the release: the stamp of the task that has planned it
    :param seed: what the order was drawn from
    :param late: how many waves at the end hold only devices that were not online lately
    """

    release: str
    seed: str
    waves: tuple[PlannedWave, ...]
    late: int = 0

    def __len__(self) -> int:
        return len(self.waves)

    @property
    def labels(self) -> tuple[str, ...]:
        """Each wave in the words in which it was asked for."""
        return tuple(wave.label for wave in self.waves)

    @property
    def cumulative(self) -> tuple[int, ...]:
        """How many devices each wave has together with those before it."""
        return tuple(accumulate(wave.devices for wave in self.waves))

    @property
    def digest(self) -> str:
        """16 characters that change with any device's wave."""
        return digest_of([self.release, *(f"{w.devices} {w.digest}" for w in self.waves)])

    def to_json(self) -> dict[str, Any]:
        """As plain JSON: some hundred bytes a wave."""
        return {
            "version": _VERSION,
            "release": self.release,
            "seed": self.seed,
            "waves": [wave.to_json() for wave in self.waves],
            "late": self.late,
            "digest": self.digest,
        }

    @classmethod
    def from_json(cls, data: object) -> Manifest:
        """Read what :meth:`to_json` wrote.

        :raises ValueError: it is something else, or was changed since
        """
        try:
            if not isinstance(data, Mapping) or data["version"] != _VERSION:
                raise ValueError("not a manifest of this version")
            waves = tuple(
                PlannedWave(
                    str(wave["label"]), int(wave["devices"]), str(wave["digest"]), wave["ids"]
                )
                for wave in data["waves"]
            )
            manifest = cls(str(data["release"]), str(data["seed"]), waves, int(data["late"]))
            digest = data["digest"]
        except (KeyError, TypeError, OverflowError) as error:
            raise ValueError(f"not a manifest: {error!r}") from error
        if digest != manifest.digest:
            raise ValueError("the manifest was changed after it was written")
        return manifest


# --- a wave that has begun ------------------------------------------------------------------------


@dataclass(frozen=True)
class Part(PlainJson):
    """One batch task of a release.

    :param wave: which wave it belongs to, from 1
    :param part: which of the wave's batch tasks it is, from 1
    :param task_name: its name at the platform
    :param devices: how many devices it is for
    :param batch_task_id: None: it was not created yet, as far as is known
    """

    wave: int
    part: int
    task_name: str
    devices: int
    batch_task_id: str | None = None

    @property
    def key(self) -> str:
        """The key of the record of its confirmed devices."""
        return f"confirmed_{self.wave}_{self.part}"

    @property
    def keys(self) -> tuple[str, str]:
        """:attr:`key`, and the key of the record's copy."""
        return self.key, f"{self.key}_copy"

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Part:
        """Read a part as plain JSON (``vars()``).

        :raises ValueError: it is something else
        """
        try:
            task_id = data["batch_task_id"]
            return cls(
                int(data["wave"]),
                int(data["part"]),
                str(data["task_name"]),
                int(data["devices"]),
                None if task_id is None else str(task_id),
            )
        except (KeyError, TypeError) as error:
            raise ValueError(f"not a part of a wave: {error!r}") from error


@dataclass(frozen=True)
class BegunWave:
    """A wave that has begun: who is in it after a second look, and its batch tasks.

    :param devices: how many devices are in it
    :param ids: if its devices differ from the plan: their ids, or the reference of a file with
        them; None: they are those of the plan
    :param parts: its batch tasks, each for the next 30,000 of its devices; none: there is no device
    :param left_out: why devices were left out, and which: their ids, or the reference of a file
    :param counts: how many devices were left out, by the same reasons
    :param at: when it has begun, before any device was confirmed, in seconds since 1970
    """

    wave: int
    devices: int
    parts: tuple[Part, ...]
    ids: Sequence[str] | str | None = None
    left_out: Mapping[str, Any] = field(default_factory=dict)
    counts: Mapping[str, int] = field(default_factory=dict)
    at: float = 0.0

    @property
    def created(self) -> int:
        """How many of its batch tasks are known to be there."""
        return sum(part.batch_task_id is not None for part in self.parts)

    def to_json(self) -> dict[str, Any]:
        """As plain JSON."""
        return {**vars(self), "version": _VERSION, "parts": [part.to_json() for part in self.parts]}

    @classmethod
    def from_json(cls, data: object) -> BegunWave:
        """Read what :meth:`to_json` wrote.

        :raises ValueError: it is something else
        """
        try:
            if not isinstance(data, Mapping) or data["version"] != _VERSION:
                raise ValueError("not a wave of this version")
            return cls(
                int(data["wave"]),
                int(data["devices"]),
                tuple(map(Part.from_json, data["parts"])),
                data["ids"],
                dict(data["left_out"]),
                {str(why): int(count) for why, count in data["counts"].items()},
                float(data["at"]),
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"not a wave that has begun: {error!r}") from error


def parts_of(wave: int, waves: int, devices: int, task_name: str) -> tuple[Part, ...]:
    """The batch tasks of a wave, before they are created; their names have no stamp yet.

    :param waves: how many waves there are
    :param devices: how many devices are in this one
    :param task_name: how all of the release's names begin
    """
    sizes = [
        min(MAX_TARGETS_PER_TASK, devices - start)
        for start in range(0, devices, MAX_TARGETS_PER_TASK)
    ]
    base = task_name[:_LONGEST_BASE]
    return tuple(
        Part(wave, part, f"{base}_wave_{wave}_of_{waves}_part_{part}", size)
        for part, size in enumerate(sizes, start=1)
    )
