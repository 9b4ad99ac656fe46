"""Time that passes for an emulated fleet with what is asked of it, however busy the machine is."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from iotda_provider.emulator import Emulator

#: Those that ask what time it is in a release: for its bake times, deadlines and looks.
_ASKING = (
    *(f"operators.release.{name}" for name in ("at_rest", "confirm", "create", "outcome")),
    *("operators.release.watch", "operators.release.wave"),
    *("release.triggerer", "triggers.batch_task", "triggers.release"),
)


def after_each(emulator: Emulator, call: str, act: Callable[[dict[str, Any]], object]) -> None:
    """Have something happen at the platform after each of these calls, before any other one.

    :param call: the call's name in the journal
    :param act: is given the call's entry; runs in the emulator's own thread
    """
    journal = emulator.instance.journal
    add = journal.add

    def add_and_act(entry: Any) -> None:
        add(entry)
        if entry["call"] == call:
            act(entry)

    journal.add = add_and_act  # type: ignore[method-assign]


def pass_with_looks(emulator: Emulator, seconds: float) -> None:
    """Let a fleet that stands still (``speed=0``) move on after each look at a batch task.

    So a guard sees the same, however long Airflow takes to start or to resume it.
    """
    after_each(emulator, "show_batch_task", lambda _: emulator.instance.advance(seconds))


class _PlatformsTime:
    """In the place of ``time``: what time it is at the platform; everything else is real."""

    def __init__(self, emulator: Emulator) -> None:
        self._world = emulator.instance.world

    def __getattr__(self, name: str) -> Any:
        return getattr(time, name)

    def time(self) -> float:
        """The moment, in seconds since 1970."""
        return self._world.moment()


def share_time(emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a release's time pass with its platform's, where ``dag.test()`` runs it in this process.

    With :func:`pass_with_looks` a wave's bake time is so many looks, on any machine.
    """
    shared = _PlatformsTime(emulator)
    for name in _ASKING:
        monkeypatch.setattr(f"iotda_provider.{name}.time", shared)
