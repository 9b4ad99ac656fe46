"""One emulated instance: a world, a clock that drives it, and who may call it."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from iotda_provider.emulator.clock import Clock, to_micro
from iotda_provider.emulator.scenario import Scenario
from iotda_provider.emulator.signatures import Key, Verifier
from iotda_provider.emulator.world import World


@dataclass(frozen=True)
class Settings:
    """How an emulator is run, as against what it emulates."""

    ak: str
    sk: str
    project_id: str
    security_token: str | None = None
    seed: int = 0
    speed: float = 1.0


class Platform:
    """The world at the present moment, and the one way to change it."""

    def __init__(self, scenario: Scenario, settings: Settings) -> None:
        self.scenario = scenario
        self.settings = settings
        start = scenario.start_time
        self.world = World(
            scenario, settings.seed, float(int(time.time())) if start is None else start
        )
        self.clock = Clock(settings.speed, self.world.now)
        self.verifier = Verifier(
            [Key(settings.ak, settings.sk, settings.security_token)],
            scenario.switches.signature,
            scenario.switches.region,
        )

    def present(self) -> World:
        """The world, brought up to now."""
        self.world.advance(self.clock.now())
        return self.world

    def run(self, command: str, **arguments: Any) -> Any:
        """Change the world by one of its commands, at the present moment.

        :raises ApiError: the command is refused, and nothing has changed
        """
        return self.present().commands[command](**arguments)

    def advance(self, seconds: float) -> None:
        """Move virtual time forward."""
        self.clock.advance(to_micro(seconds))
        self.present()
