"""The attempts of simulated devices that the platform retries."""

from __future__ import annotations

from typing import Any

import numpy as np


class Attempts:
    """Which attempts of each device fail, and when a device waits for its next one.

    :param failed: for each attempt, which devices failed it (and all attempts before)
    """

    def __init__(self, failed: list[Any]) -> None:
        self._failed = failed
        self._waits: list[tuple[Any, Any, Any]] = []

    @classmethod
    def draw(
        cls, devices: int, *, final: float, first: float | None, retries: int, random: Any
    ) -> Attempts:
        """Draw the failed attempts of some devices.

        A failed device fails its next attempt, too, with the same chance at each of them.

        :param final: the share of devices that fail all their attempts
        :param first: the share that fails its first attempt; None: ``final``
        :param retries: attempts after the first one
        """
        first = final if first is None else max(first, final)
        again = (final / first) ** (1 / retries) if retries and first else 0.0
        failed = [random.random(devices) < (first if retries else final)]
        for _ in range(retries):
            failed.append(failed[-1] & (random.random(devices) < again))
        return cls(failed)

    @property
    def all_failed(self) -> Any:
        """Which devices have failed all their attempts."""
        return self._failed[-1]

    def durations(self, failing: list[Any], succeeding: Any, interval: float) -> Any:
        """How long each device takes from its start to its end, in seconds.

        :param failing: for each attempt, how long it takes to fail
        :param succeeding: how long an attempt takes to succeed
        :param interval: how long a failed device waits for its next attempt
        """
        passed = np.zeros(len(succeeding))
        self._waits = []
        for failed, takes in zip(self._failed[:-1], failing[:-1], strict=True):
            passed = np.where(failed, passed + takes, passed)
            self._waits.append((failed, passed, passed + interval))
            passed = np.where(failed, passed + interval, passed)
        return passed + np.where(self.all_failed, failing[-1], succeeding)

    def waiting(self, start: Any, until: Any) -> tuple[Any, Any, Any]:
        """When devices wait for a retry: begin, end and device, of all waits.

        :param start: when each device has started
        :param until: when each device was stopped; infinity: it was not
        """
        begins, ends, devices = [], [], []
        for failed, begin, end in self._waits:
            (which,) = np.nonzero(failed & (start + begin < until))
            begins.append((start + begin)[which])
            ends.append(np.minimum(start + end, until)[which])
            devices.append(which)
        if not begins:
            return np.zeros(0), np.zeros(0), np.zeros(0, dtype=int)
        return np.concatenate(begins), np.concatenate(ends), np.concatenate(devices)


def found_by_id(waits: tuple[Any, Any, Any], retrying: Any, time: Any, interval: float) -> Any:
    """For every look, the devices that a guard has found waiting by then, by their ids.

    It reads the ids twice in the time that a device waits, if any device does.

    :param waits: begin, end and device of each wait
    :param retrying: for every look, the devices that wait
    """
    begins, ends, devices = waits
    readings: list[float] = []
    for index in np.nonzero(retrying)[0]:
        if not readings or time[index] - readings[-1] >= interval / 2:
            readings.append(float(time[index]))
    moments = np.array([*readings, np.inf])
    seen = moments[np.searchsorted(moments, begins)]
    first = np.full(int(devices.max()) + 1 if len(devices) else 0, np.inf)
    np.minimum.at(first, devices, np.where(seen < ends, seen, np.inf))
    return np.searchsorted(np.sort(first), time, side="right")
