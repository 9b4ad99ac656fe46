"""A release in waves: the task group, and the operators that it is made of."""

from __future__ import annotations

from typing import TYPE_CHECKING

from iotda_provider.models.lazy_names import lazily

if TYPE_CHECKING:
    from iotda_provider.operators.release.own_tasks import create_task_ids
    from iotda_provider.operators.release.task_group import StagedRollout, staged_rollout
    from iotda_provider.operators.release.way_back import roll_back

__all__ = ["StagedRollout", "create_task_ids", "roll_back", "staged_rollout"]

__getattr__ = lazily(
    __name__,
    {
        "own_tasks": ("create_task_ids",),
        "way_back": ("roll_back",),
        "task_group": ("StagedRollout", "staged_rollout"),
    },
)
