"""One emulated instance: a world, the clock that drives it, and what is kept about its calls."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from iotda_provider.emulator.common.clock import END_OF_TIME, MICRO, Clock, to_micro
from iotda_provider.emulator.common.errors import ScenarioError
from iotda_provider.emulator.common.randomness import Draws
from iotda_provider.emulator.identity.iam import Iam
from iotda_provider.emulator.identity.signatures import Key
from iotda_provider.emulator.scenario.faults import Fault, Faults, name_faults
from iotda_provider.emulator.scenario.scenario import Scenario
from iotda_provider.emulator.service.world import World
from iotda_provider.emulator.state.journal import Journal
from iotda_provider.emulator.state.store import Anchor, Command, Store

MAX_SPEED = 1_000_000


def check_speed(speed: float, name: str = "speed") -> None:
    """Refuse a speed at which no time can move.

    :raises ScenarioError: the speed is not from 0 to ``MAX_SPEED``
    """
    if not 0 <= speed <= MAX_SPEED:
        raise ScenarioError(f"{name} must be from 0 to {MAX_SPEED}, not {speed:g}")


@dataclass(frozen=True)
class Settings:
    """How an emulator is run: keys, speed, seed and files. The scenario says what it emulates.

    :param security_token: makes the key a temporary one
    :param speed: virtual seconds per real second, from 0 to ``MAX_SPEED``
    :param state: the file that is kept over a restart; None: nothing is kept
    :param control_key: the key that control calls need; None: there are no control calls
    :raises ScenarioError: the speed makes no sense
    """

    ak: str
    sk: str
    project_id: str
    security_token: str | None = None
    seed: int = 0
    speed: float = 1.0
    state: Path | None = None
    control_key: str | None = None

    def __post_init__(self) -> None:
        check_speed(self.speed)


class Instance:
    """The world at the present moment, and the one way to change it.

    :param scenario: as in a scenario file; None: what the state file says, or the defaults
    :raises ScenarioError: the scenario or the state file can't be used
    """

    def __init__(self, scenario: object, settings: Settings) -> None:
        self.settings = settings
        self._store = None if settings.state is None else Store(settings.state)
        try:
            self._begin(scenario)
        except BaseException:
            self.close()
            raise
        # Stops listening for this many real seconds; the server sets it.
        self.refuse: Callable[[float], None] | None = None
        # Sleeps for this many real seconds, at most until the server's end.
        self.pause: Callable[[float], Awaitable[None]] = asyncio.sleep

    def _begin(self, scenario: object) -> None:
        settings, store = self.settings, self._store
        source, start_time = self._identify(scenario)
        self.scenario = Scenario.read(source)
        self.world = World(self.scenario, settings.seed, start_time)
        self.faults = Faults(Draws(settings.seed), store.count_fault if store else None)
        for fault in name_faults(self.scenario.faults, self.faults.next_id):
            self.faults.add(fault)
        # The platform's own limits; unlike faults, they cannot be removed.
        self.limits = Faults(Draws(settings.seed))
        for limit in _documented_limits(self.scenario):
            self.limits.add(limit)
        self.journal = Journal(store.note if store else None, store.notes() if store else ())
        self.iam = Iam(
            self.scenario.iam,
            Key(settings.ak, settings.sk, settings.security_token),
            settings.project_id,
            self.scenario.switches.signature,
            self.scenario.switches.region,
        )
        self.commands: Mapping[str, Callable[..., Any]] = {
            **self.world.commands,
            "add_fault": self._add_fault,
            "remove_fault": self.faults.remove,
        }
        if store is not None:
            # Only after the world was made: an invalid scenario is not stored.
            store.identify(source, settings.seed, start_time)
        end = to_micro(END_OF_TIME - self.world.origin)
        self.clock = Clock(settings.speed, self._replay(), end=end)
        self._anchor()

    def close(self) -> None:
        """Close the state file."""
        if self._store is not None:
            self._store.close()

    def present(self) -> World:
        """The world at the present moment."""
        self.world.advance(self.clock.now())
        return self.world

    def run(self, command: str, **arguments: Any) -> Any:
        """Run one command at the present moment; it is in the state file when this returns.

        :raises ApiError: the command is refused, and nothing has changed
        """
        world = self.present()
        result = self.commands[command](**arguments)
        if self._store is not None:
            self._store.append(Command(world.now, command, arguments))
        return result

    def advance(self, seconds: float) -> None:
        """Move virtual time forward; all that was due has happened when this returns."""
        self.clock.advance(to_micro(seconds))
        self._anchor()
        self.present()

    def add_fault(self, fault: object) -> str:
        """Add a fault's rule; returns the rule's id.

        :raises ScenarioError: one line that names the field
        """
        checked = Fault.read(fault, "fault").named(self.faults.next_id())
        self.run("add_fault", fault=checked.model_dump(exclude_unset=True))
        return checked.id

    def _add_fault(self, fault: Mapping[str, Any]) -> None:
        self.faults.add(Fault.read(fault, "fault"))

    def forget_journal(self) -> None:
        """Empty the journal."""
        self.journal.clear()
        if self._store is not None:
            self._store.forget_notes()

    def _identify(self, scenario: object) -> tuple[object, float]:
        """The scenario and start time: those of the state file, if it has them."""
        known = None if self._store is None else self._store.identity
        if known is None:
            source = {} if scenario is None else scenario
            start = Scenario.read(source).start_time
            # Whole seconds, as ids are.
            return source, float(int(time.time())) if start is None else start
        state, seed = self.settings.state, self.settings.seed
        # As JSON: the file has lists where Python may have tuples.
        if scenario is not None and json.loads(json.dumps(scenario)) != known.scenario:
            raise ScenarioError(f"{state} was made with another scenario")
        if known.seed != seed:
            raise ScenarioError(f"{state} was made with the seed {known.seed}, not {seed}")
        return known.scenario, known.start_time

    def _replay(self) -> int:
        """Repeat the commands of the state file; returns the virtual time."""
        if self._store is None:
            return self.world.now
        for command in self._store.commands():
            self.world.advance(command.at)
            self.commands[command.name](**command.arguments)
        for fault_id, seen, fired in self._store.fault_counts():
            self.faults.restore(fault_id, seen, fired)
        anchor = self._store.anchor
        if anchor is None:
            return self.world.now
        away = max(0.0, time.time() - anchor.real)
        return max(self.world.now, anchor.virtual + int(away * anchor.speed * MICRO))

    def _anchor(self) -> None:
        if self._store is not None:
            self._store.anchor = Anchor(time.time(), self.clock.now(), self.settings.speed)


def _documented_limits(scenario: Scenario) -> list[Fault]:
    rate = scenario.switches.search_per_second
    if rate is None:
        return []
    limit = "search_devices"
    return [Fault(id=limit, kind="rate_limit", call=(limit,), per_second=rate)]
