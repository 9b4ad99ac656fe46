"""Time that passes for an emulated fleet with what is asked of it, however busy the machine is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from iotda_provider.emulator import Emulator


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
