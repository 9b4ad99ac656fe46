"""When each device is online: what it was at the start, sleep, outages, and bad firmware."""

from __future__ import annotations

from collections.abc import Callable

from iotda_provider.emulator.common.clock import MICRO, to_micro
from iotda_provider.emulator.common.randomness import Draws
from iotda_provider.emulator.scenario.scenario import Behaviour, Scenario

NEVER = 1 << 62

#: From when to when one cause keeps a device offline, in virtual microseconds.
Span = tuple[int, int]


class Connections:
    """Tells when a device is online; every time is in virtual microseconds.

    A device is offline while at least one cause keeps it offline. Each cause follows from the seed
    and the device's id; only losses by bad firmware are stored, in ``_lost``.

    :param start: the virtual time at which the emulator starts, from which delays count
    :param behaviour_of: how a device behaves, by its number
    :param id_of: its id
    """

    def __init__(
        self,
        scenario: Scenario,
        draws: Draws,
        start: int,
        behaviour_of: Callable[[int], Behaviour],
        id_of: Callable[[int], str],
    ) -> None:
        self._start = start
        self._behaviour_of = behaviour_of
        self._id_of = id_of
        self._draw = draws.stream("online")
        self._draw_sleep = draws.stream("sleep")
        self._draw_loss = draws.stream("lost")
        self._draw_outages = [draws.stream("outage", n) for n in range(len(scenario.outages))]
        self._outages = [
            (start + to_micro(one.begins), start + to_micro(one.begins + one.lasts), one.share)
            for one in scenario.outages
        ]
        self._bad = {
            package.version: package for package in scenario.packages if package.takes_offline
        }
        self._lost: dict[int, int] = {}

    def changes_by_itself(self, behaviour: Behaviour) -> bool:
        """Whether time alone changes which devices that behave so are online."""
        comes_online = behaviour.offline_share > 0 and behaviour.online_after is not None
        return comes_online or bool(behaviour.asleep_share or self._outages or self._bad)

    def installed(self, device: int, version: str, now: int) -> None:
        """A device runs another firmware, which may take it offline."""
        self._lost.pop(device, None)
        package = self._bad.get(version)
        if package is not None:
            share, delay, _, _ = self._draw_loss(f"{self._id_of(device)}/{version}")
            if share < package.takes_offline:
                self._lost[device] = now + to_micro(package.takes_offline_after.at(delay))

    def online_at(self, device: int, now: int) -> int:
        """When the device is online next, from now on; ``NEVER``: it stays offline."""
        while now < NEVER and (span := self._away(device, now)):
            now = span[1]
        return now

    def changed(self, device: int, now: int) -> int:
        """When the device last went online or offline; if before the start, a time before it."""
        if self._away(device, now) is None:
            return max(self._ends(device, now), default=0)
        # Of the time before a device went offline at the start nothing is known.
        while (span := self._away(device, now)) and span[0] <= now:
            now = span[0] - 1
        return now + 1

    def _away(self, device: int, now: int) -> Span | None:
        """The span of one cause that keeps the device offline at this time; None: it is online."""
        lost = self._lost.get(device, NEVER) if self._lost else NEVER
        if lost <= now:
            return lost, NEVER
        behaviour = self._behaviour_of(device)
        if not (behaviour.offline_share or behaviour.asleep_share or self._outages):
            return None
        device_id = self._id_of(device)
        share, delay, since, phase = self._draw(device_id)
        if share < behaviour.offline_share:
            came = self._came_online(behaviour, delay)
            if now < came:
                return self._start - to_micro(behaviour.offline_for.at(since)), came
        for (begins, ends, hit), draw in zip(self._outages, self._draw_outages, strict=True):
            if begins <= now < ends and draw(device_id)[0] < hit:
                return begins, ends
        if behaviour.asleep_share:
            period, begins = self._sleep(behaviour, device_id, phase, now)
            if begins <= now:
                return begins, begins + round(behaviour.asleep_share * period)
        return None

    def _ends(self, device: int, now: int) -> list[int]:
        """The times up to now at which a cause that kept the device offline has ended."""
        behaviour, device_id = self._behaviour_of(device), self._id_of(device)
        share, delay, _, phase = self._draw(device_id)
        ends = []
        if share < behaviour.offline_share:
            ends.append(self._came_online(behaviour, delay))
        for (_, end, hit), draw in zip(self._outages, self._draw_outages, strict=True):
            if end <= now and draw(device_id)[0] < hit:
                ends.append(end)
        if behaviour.asleep_share:
            period, begins = self._sleep(behaviour, device_id, phase, now)
            ends.append(begins - period + round(behaviour.asleep_share * period))
        return ends

    def _came_online(self, behaviour: Behaviour, delay: float) -> int:
        if behaviour.online_after is None:
            return NEVER
        return self._start + to_micro(behaviour.online_after.at(delay))

    def _sleep(self, behaviour: Behaviour, device_id: str, phase: float, now: int) -> Span:
        """How long a period is, and when the device falls asleep in the present one.

        A period begins when the device wakes up.
        """
        period = max(MICRO, to_micro(behaviour.sleep_period.at(self._draw_sleep(device_id)[0])))
        asleep = round(behaviour.asleep_share * period)
        woke = now - (now + round(phase * period)) % period
        return period, woke + period - asleep
