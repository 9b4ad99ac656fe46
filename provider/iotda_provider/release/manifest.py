"""Which device is in which wave, written down before the first wave starts."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

_VERSION = 1


def digest_of(batch_task_id: str, waves: Iterable[Iterable[str]]) -> str:
    """16 characters that change with any device's wave."""
    text = "\n".join(",".join(wave) for wave in waves)
    return hashlib.sha256(f"{batch_task_id}\n{text}".encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Manifest:
    """The membership of every wave of one release.

    :param batch_task_id: the release's batch task
    :param seed: what the order was drawn from
    :param labels: each wave in the words in which it was asked for
    :param waves: the device ids of each wave, in the order in which they are confirmed
    :param late: how many waves at the end hold only devices that were not online: 0 or 1
    """

    batch_task_id: str
    seed: str
    labels: tuple[str, ...]
    waves: tuple[tuple[str, ...], ...]
    late: int = 0

    def __post_init__(self) -> None:
        every = [device for wave in self.waves for device in wave]
        if len(set(every)) < len(every):
            raise ValueError("a device is in two waves")
        if len(self.labels) != len(self.waves) or not all(self.waves):
            raise ValueError("every wave needs a label, and devices")

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

    def up_to(self, wave: int) -> tuple[str, ...]:
        """The devices of the first so many waves, in order."""
        return tuple(device for members in self.waves[:wave] for device in members)

    def after(self, wave: int) -> tuple[str, ...]:
        """The devices of all waves after the first so many, in order."""
        return tuple(device for members in self.waves[wave:] for device in members)

    @property
    def digest(self) -> str:
        """16 characters that change with any device's wave."""
        return digest_of(self.batch_task_id, self.waves)

    def to_json(self) -> dict[str, Any]:
        """As plain JSON: about 20 bytes for each device."""
        return {
            "version": _VERSION,
            "batch_task_id": self.batch_task_id,
            "seed": self.seed,
            "labels": list(self.labels),
            "waves": [list(wave) for wave in self.waves],
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
            manifest = cls(
                str(data["batch_task_id"]),
                str(data["seed"]),
                tuple(map(str, data["labels"])),
                tuple(tuple(map(str, wave)) for wave in data["waves"]),
                int(data["late"]),
            )
            digest = data["digest"]
        except (KeyError, TypeError, OverflowError) as error:
            raise ValueError(f"not a manifest: {error!r}") from error
        if digest != manifest.digest:
            raise ValueError("the manifest was changed after it was written")
        return manifest
