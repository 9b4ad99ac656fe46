"""Repeatable chance: numbers drawn from a seed and the names of what they are for."""

from __future__ import annotations

import hashlib
import struct
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate

_UNPACK = struct.Struct("<4Q").unpack
_TO_UNIT = 2.0**-53

Uniforms = tuple[float, float, float, float]


class Draws:
    """Four numbers in [0, 1) for any names, always the same four for the same seed and names.

    What a device does is drawn from the seed, the task and the device rather than from a stream
    of random numbers, so it does not depend on the order of the calls.
    """

    def __init__(self, seed: int) -> None:
        self._root = hashlib.blake2b(str(seed).encode(), digest_size=32)

    def stream(self, *names: object) -> Callable[[str], Uniforms]:
        """A function from one more name to its numbers."""
        base = self._root.copy()
        base.update("".join(f"\x1f{name}" for name in names).encode() + b"\x1f")

        def draw(name: str) -> Uniforms:
            digest = base.copy()
            digest.update(name.encode())
            a, b, c, d = _UNPACK(digest.digest())
            return (
                (a >> 11) * _TO_UNIT,
                (b >> 11) * _TO_UNIT,
                (c >> 11) * _TO_UNIT,
                (d >> 11) * _TO_UNIT,
            )

        return draw

    def hex(self, length: int, *names: object) -> str:
        """A hexadecimal text of this length (at most 64), for ids."""
        digest = self._root.copy()
        digest.update("".join(f"\x1f{name}" for name in names).encode())
        return digest.hexdigest()[:length]


@dataclass(frozen=True)
class Mix:
    """A choice among numbered things by weight; ``bounds`` are the cumulative weights."""

    values: tuple[int, ...]
    bounds: tuple[float, ...]

    @classmethod
    def of(cls, values: Sequence[int], weights: Sequence[float]) -> Mix:
        """From values and their weights, which need not sum to one."""
        return cls(tuple(values), tuple(accumulate(weights)))

    def at(self, u: float) -> int:
        """The value at this quantile (0 ≤ u < 1)."""
        return self.values[bisect_right(self.bounds, u * self.bounds[-1])]
