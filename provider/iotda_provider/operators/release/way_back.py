"""The way back: a staged rollout of the old package, behind a guard of its own."""

from __future__ import annotations

from typing import Any

from iotda_provider.guards import Combined, Overdue, SequentialFailureTest
from iotda_provider.operators.release.task_group import StagedRollout, staged_rollout

#: The failure rate that a wave of the way back must rule out: 19 devices without a failure do so.
GATE = 0.2
_TOLERATED, _REPORT_WITHIN = 0.02, 4 * 3600
#: Stops an old package that fails, and one after which devices report nothing.
_RULES = Combined(
    [SequentialFailureTest(_TOLERATED), Overdue(_REPORT_WITHIN, _TOLERATED)], false_alarm=0.01
)


def roll_back(
    group_id: str = "roll_back",
    *,
    devices: Any,
    document: Any,
    task_type: str = "firmwareUpgrade",
    rules: Any = None,
    from_version: str | None = None,
    waves: Any = ("19", "100%"),
    gate: Any = GATE,
    max_waves: int = 3,
    task_name: str = "roll_back",
    **more: Any,
) -> StagedRollout:
    """Give devices an old package back, in waves behind a guard of their own.

    It is a :func:`~iotda_provider.operators.release.staged_rollout`: it can be resumed, and it is
    stopped if the old package fails, too.
    ``FindDevicesToRollBackOperator`` (``operators/release/find_way_back.py``) says which devices
    they are, and which waves fit their number. Its good end is the event ``rolled_back``.

    :param group_id: the id of the task group
    :param devices: the devices that get the old package: see ``staged_rollout`` (templated)
    :param document: ``{"package_ids": [...]}`` with the old package (templated)
    :param task_type: ``firmwareUpgrade`` or ``softwareUpgrade`` (templated)
    :param rules: the guard's rules; None: at most 2 % of the devices may fail, or take longer than
        four hours (templated)
    :param from_version: the version that they go back from: a device that does not run it any more
        when its wave begins is left out, as after the release of a fix; None: whatever they run,
        which takes devices off a fix (templated)
    :param waves: see ``staged_rollout`` (templated)
    :param gate: the failure rate that a wave must rule out (templated)
    :param max_waves: the most waves
    :param task_name: how the names of its batch tasks begin (templated)
    :param more: any other argument of ``staged_rollout``
    """
    return staged_rollout(
        group_id,
        devices=devices,
        document=document,
        task_type=task_type,
        rules=_RULES if rules is None else rules,
        from_version=from_version,
        waves=waves,
        gate=gate,
        max_waves=max_waves,
        task_name=task_name,
        **{"released_as": "rolled_back", "is_way_back": True, **more},
    )
