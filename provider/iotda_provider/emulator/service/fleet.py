"""The simulated devices: who they are, where they belong, and which versions they run."""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Hashable, Iterator, Sequence

from iotda_provider.emulator.common.randomness import Draws
from iotda_provider.emulator.scenario.scenario import Behaviour, Scenario
from iotda_provider.emulator.service.connections import Connections

_REGISTERED, _FROZEN = 1, 2


class Versions:
    """Version texts by small number, so that a device keeps four bytes instead of a text."""

    def __init__(self) -> None:
        self._texts: list[str] = []
        self._numbers: dict[str, int] = {}

    def number(self, text: str) -> int:
        """The number of a version; a new version gets the next one."""
        if text not in self._numbers:
            self._numbers[text] = len(self._texts)
            self._texts.append(text)
        return self._numbers[text]

    def text(self, number: int) -> str:
        """The version with this number."""
        return self._texts[number]


class Fleet:
    """Devices by number: columns of small numbers rather than an object each.

    The ids of the scenario's devices follow from their numbers, so they are not stored. Later ids,
    such as targets that are not registered, are.

    :param start: the virtual time at which the emulator starts, from which delays count
    """

    def __init__(self, scenario: Scenario, draws: Draws, start: int = 0) -> None:
        size = scenario.devices
        self.made = size
        self._prefix = scenario.device_prefix
        self._width = max(5, len(str(max(size - 1, 0))))
        #: By the places that ``segment`` answers.
        self.behaviours: list[Behaviour] = [scenario, *scenario.segments]
        self.versions = Versions()
        self._segment = array("H", bytes(2 * size))
        # 32 bits: more versions than requests will ever name.
        self._fw = array("I", bytes(4 * size))
        self._sw = array("I", bytes(4 * size))
        self._flags = bytearray(b"\x01") * size
        self._strangers: dict[str, int] = {}
        self._stranger_ids: list[str] = []
        self.connections = Connections(scenario, draws, start, self.behaviour, self.id_of)
        self._current = draws.stream("current")
        self.registered = size
        #: Lists of devices by what they were filtered by, which never changes while they are there.
        self.kept_lists: dict[Hashable, Membership] = {}
        #: The devices that passed a test last, and when that was.
        self.last_matching: tuple[Hashable, Hashable, Sequence[int]] | None = None
        #: Grows with each change of what a device is, runs or belongs to.
        self.changes = 0

    def assign(self, segment: int, devices: Sequence[int]) -> None:
        """Put devices into the scenario's segment of this place."""
        for device in devices:
            self._segment[device] = segment + 1

    def settle_versions(self, package_versions: dict[str, str]) -> None:
        """Give all devices of the scenario their versions.

        :param package_versions: product id (or ``""`` for any) to the version that devices which
            are already current run
        """
        for place, behaviour in enumerate(self.behaviours):
            fw = self.versions.number(behaviour.fw_version)
            sw = self.versions.number(behaviour.sw_version)
            target = package_versions.get(behaviour.product_id, package_versions.get(""))
            new = None if target is None else self.versions.number(target)
            for device in range(self.made):
                if self._segment[device] == place:
                    self._fw[device] = fw
                    self._sw[device] = sw
                    if new is not None and self.was_current(device, behaviour):
                        self._fw[device] = new

    def __len__(self) -> int:
        return len(self._segment)

    def __iter__(self) -> Iterator[int]:
        return self.oldest_first(0)

    def oldest_first(self, first: int) -> Iterator[int]:
        """The registered devices from ``first`` on, the oldest first."""
        return (d for d in range(first, len(self)) if self._flags[d] & _REGISTERED)

    def newest_first(self, before: int) -> Iterator[int]:
        """The registered devices below ``before``, the newest first."""
        first = min(before, len(self)) - 1
        return (d for d in range(first, -1, -1) if self._flags[d] & _REGISTERED)

    def id_of(self, device: int) -> str:
        """A device's id."""
        if device < self.made:
            return f"{self._prefix}{device:0{self._width}d}"
        return self._stranger_ids[device - self.made]

    def find(self, device_id: str) -> int | None:
        """The number of an id, registered or not; None: the id is unknown."""
        if device_id.startswith(self._prefix):
            tail = device_id[len(self._prefix) :]
            if len(tail) == self._width and tail.isascii() and tail.isdigit():
                device = int(tail)
                if device < self.made:
                    return device
        return self._strangers.get(device_id)

    def intern(self, device_id: str) -> int:
        """The number of an id; an unknown id gets a number but is not registered."""
        device = self.find(device_id)
        if device is None:
            device = len(self)
            self._strangers[device_id] = device
            self._stranger_ids.append(device_id)
            for column in (self._segment, self._fw, self._sw):
                column.append(0)
            self._flags.append(0)
        return device

    def is_registered(self, device: int) -> bool:
        """Whether the platform knows this device."""
        return bool(self._flags[device] & _REGISTERED)

    def remove(self, device: int) -> None:
        """Remove a device from the platform."""
        if self.is_registered(device):
            self._flags[device] = 0
            self.registered -= 1
            self.changes += 1
            for kept in self.kept_lists.values():
                kept.discard(device)

    def freeze(self, device: int, frozen: bool) -> None:
        """Freeze or unfreeze a device."""
        self.changes += 1
        if frozen:
            self._flags[device] |= _FROZEN
        else:
            self._flags[device] &= ~_FROZEN

    def behaviour(self, device: int) -> Behaviour:
        """How this device behaves."""
        return self.behaviours[self._segment[device]]

    def segment(self, device: int) -> int:
        """The place of the device's behaviour: 0 for the scenario's own, then the segments."""
        return self._segment[device]

    def firmware(self, device: int) -> str:
        """The firmware version that the device runs."""
        return self.versions.text(self._fw[device])

    def software(self, device: int) -> str:
        """The software version that the device runs."""
        return self.versions.text(self._sw[device])

    def version(self, device: int, *, software: bool) -> int:
        """The number of the version that an upgrade of this kind changes."""
        return (self._sw if software else self._fw)[device]

    def install(self, device: int, version: int, *, software: bool) -> None:
        """Have a device run another version, by its number."""
        (self._sw if software else self._fw)[device] = version
        self.changes += 1

    def was_current(self, device: int, behaviour: Behaviour) -> bool:
        """Whether the scenario has this device run the target version already."""
        share = behaviour.already_current
        return share > 0 and self._current(self.id_of(device))[0] < share

    @property
    def changes_by_itself(self) -> bool:
        """Whether time alone changes the status of devices."""
        return any(map(self.connections.changes_by_itself, self.behaviours))

    def status(self, device: int, now: int) -> str:
        """The device's status in the platform's words."""
        if self._flags[device] & _FROZEN:
            return "FROZEN"
        return "ONLINE" if self.connections.online_at(device, now) <= now else "OFFLINE"


class Membership:
    """The devices of one group, kept sorted."""

    def __init__(self, devices: Sequence[int] = ()) -> None:
        self.devices = array("I", sorted(set(devices)))

    def __len__(self) -> int:
        return len(self.devices)

    def __contains__(self, device: int) -> bool:
        place = bisect_left(self.devices, device)
        return place < len(self.devices) and self.devices[place] == device

    def add(self, device: int) -> None:
        """Add a device, once."""
        place = bisect_left(self.devices, device)
        if place == len(self.devices) or self.devices[place] != device:
            self.devices.insert(place, device)

    def discard(self, device: int) -> None:
        """Take a device out, if it is in."""
        place = bisect_left(self.devices, device)
        if place < len(self.devices) and self.devices[place] == device:
            del self.devices[place]
