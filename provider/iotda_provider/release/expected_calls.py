"""How many API calls a release takes, if nothing comes in between. No I/O.

It follows the steps of the release one by one. What it leaves out takes more calls: devices that
take longer than the bake time, other upgrades whose rows are read, whatever changes between the
plan and a wave, and each call that has to be repeated.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from iotda_provider.api import MAX_PAGE, MAX_TARGETS_PER_CALL
from iotda_provider.release.outline import Outline

#: Lists of the batch tasks of each type of upgrade, and of each type in each status under way.
_OWN_TASKS, _UNDER_WAY = 2, 8
#: The product's devices, and those with the version: counted before each wave.
_COUNTS = 2
#: A batch task is looked for in three lists, created, and looked for once more.
_TO_CREATE = 5
#: Looks of the guard while a wave is created, besides one for each batch task.
_LOOKS_TO_CREATE = 3


@dataclass(frozen=True)
class WaveSize:
    """One wave.

    :param devices: its devices
    :param parts: its batch tasks
    :param looks: the guard's looks between its last confirmation and its end
    :param is_late: whether it holds devices that were not online lately, which no trial compares
    """

    devices: int
    parts: int
    looks: int
    is_late: bool = False


def expected_calls(
    outline: Outline, waves: Sequence[WaveSize], compared: int = 0
) -> dict[str, int]:
    """The calls of a whole release, by what they are for.

    :param compared: the most devices of either group of the trial; 0: there is no trial
    :return: ``checking``, ``planning``, ``creating``, ``confirming``, ``watching``, ``comparing``
        (the trial) and ``ending``
    """
    product = _pages(outline.of_product)
    on_time = [wave.devices for wave in waves if not wave.is_late]
    calls = dict.fromkeys(("creating", "confirming", "watching", "comparing"), 0)
    tasks = 0
    for place, wave in enumerate(waves):
        looks_to_create = (_LOOKS_TO_CREATE + wave.parts) * tasks
        creations = _TO_CREATE * wave.parts + wave.parts  # each is read once it is there
        calls["creating"] += _UNDER_WAY + _COUNTS + creations + looks_to_create
        tasks += wave.parts
        chunks = math.ceil(wave.devices / MAX_TARGETS_PER_CALL)
        # A look comes before each call, after the last one of each batch task, and at the end.
        calls["confirming"] += chunks + (chunks + wave.parts + 1) * tasks + (place == 0)
        calls["watching"] += wave.looks * tasks
        if compared and not wave.is_late and 0 <= place < len(on_time) - 1:
            groups = sum(on_time[: place + 1]), sum(on_time[place + 1 :])
            calls["comparing"] += _reading(
                sum(min(group, compared) for group in groups), outline.of_product
            )
    drawn = sum(min(devices, compared) for devices in on_time)
    planning = _OWN_TASKS + 1 + _COUNTS
    if compared:
        planning += 1 + _reading(drawn, outline.of_product)
    return {
        "checking": _OWN_TASKS
        + outline.packages
        + max(outline.groups, _pages(outline.in_groups))
        + product
        + _UNDER_WAY
        + outline.asked_when_online,
        "planning": planning,
        **calls,
        # At rest, failures, subtasks, what is left: each batch task is read for each of these.
        "ending": 4 * tasks + product + _UNDER_WAY,
    }


def _pages(rows: int) -> int:
    return max(1, math.ceil(rows / MAX_PAGE))


def _reading(devices: int, of_product: int) -> int:
    """Calls to read some devices: the pages of their product, or one page and one call each."""
    pages = _pages(of_product)
    return pages if pages <= devices else devices + 1
