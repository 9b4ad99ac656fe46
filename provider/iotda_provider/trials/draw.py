"""Which devices are compared at which gate: drawn by the release's seed, before the first wave."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from iotda_provider.models.checks import short_repr, whole
from iotda_provider.models.json_text import PlainJson

#: A device id is at most this long, and a release has at most so many waves.
_LONGEST_ID, _MOST_WAVES = 256, 100


def drawn(devices: Iterable[str], seed: str, purpose: str) -> list[str]:
    """Devices in an order that only the seed, the purpose and each one's own id decide."""

    def place(device: str) -> bytes:
        text = f"{seed}\0{purpose}\0{device}".encode()
        return hashlib.blake2b(text, digest_size=8).digest()

    return sorted(devices, key=place)


@dataclass(frozen=True)
class Draw(PlainJson):
    """The devices of a release that are compared, wave by wave.

    :param seed: what they are drawn by: the release's own seed
    :param size: the most devices of a group
    :param waves: of each wave that was drawn device by device, its devices that were online at the
        time of the plan and are connected themselves, in the order of the draw; at most ``size``
    """

    seed: str
    size: int
    waves: tuple[tuple[str, ...], ...]

    @classmethod
    def of(cls, seed: str, size: int, waves: Iterable[Collection[str]]) -> Draw:
        """Draw from the devices of each wave that can be compared."""
        return cls(seed, size, tuple(tuple(drawn(wave, seed, "trial")[:size]) for wave in waves))

    def treated(self, wave: int) -> list[str]:
        """The treated devices at the gate after a wave, from 1: of it and of those before it."""
        return self._first(self.waves[:wave])

    def control(self, wave: int) -> list[str]:
        """Its control group: of the later waves."""
        return self._first(self.waves[wave:])

    def newest(self, wave: int) -> frozenset[str]:
        """The devices of this wave alone."""
        return frozenset(self.waves[wave - 1])

    def _first(self, waves: Sequence[Sequence[str]]) -> list[str]:
        every = (device for wave in waves for device in wave)
        return drawn(every, self.seed, "trial")[: self.size]

    @property
    def gates(self) -> int:
        """K: the gates that have devices to compare on either side."""
        return sum(self.has_gate(wave) for wave in range(1, len(self.waves)))

    def has_gate(self, wave: int) -> bool:
        """Whether there are devices to compare on either side of the gate after a wave."""
        return wave < len(self.waves) and any(self.waves[:wave]) and any(self.waves[wave:])

    @classmethod
    def from_json(cls, data: object) -> Draw:
        """Read what :meth:`to_json` wrote.

        :raises ValueError: it is something else
        """
        if not isinstance(data, Mapping) or set(data) != {"seed", "size", "waves"}:
            raise ValueError(f"not the draw of a trial: {short_repr(data)}")
        waves, seed = data["waves"], data["seed"]
        if not isinstance(seed, str) or not isinstance(waves, (list, tuple)):
            raise ValueError("the draw of a trial has a seed and waves")
        if len(waves) > _MOST_WAVES or not all(
            isinstance(wave, (list, tuple))
            and all(isinstance(one, str) and 0 < len(one) <= _LONGEST_ID for one in wave)
            for wave in waves
        ):
            raise ValueError("the waves of a trial are lists of device ids")
        return cls(seed, whole("size", data["size"], least=1), tuple(map(tuple, waves)))
