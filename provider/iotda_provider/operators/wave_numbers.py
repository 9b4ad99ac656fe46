"""The numbers by which waves are watched, read alike before the first of them and in each."""

from __future__ import annotations

from typing import Any, NamedTuple

from iotda_provider.parameters import read_number, read_whole_number


class WatchNumbers(NamedTuple):
    """How long a wave is watched, and which devices it can't count on.

    :param bake_time: seconds after its last confirmation before which it can't pass
    :param wave_timeout: seconds after which it is unproven
    :param already_current: devices of the batch task that ran the version before
    """

    bake_time: float
    wave_timeout: float
    already_current: int

    @classmethod
    def read(cls, bake_time: Any, wave_timeout: Any, already_current: Any) -> WatchNumbers:
        """The numbers, as templates have rendered them.

        :raises ValueError: one of them is none; the message names it
        """
        return cls(
            read_number(bake_time, "bake_time", zero=True),
            read_number(wave_timeout, "wave_timeout"),
            read_whole_number(already_current, "already_current", zero=True),
        )
