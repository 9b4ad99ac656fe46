"""Links from a task in Airflow's UI to the page that explains its result."""

from __future__ import annotations

from typing import TYPE_CHECKING

from iotda_provider.models.lazy_names import lazily

if TYPE_CHECKING:
    from iotda_provider.links.rollout_guard import RolloutGuardLink

__all__ = ["RolloutGuardLink"]

__getattr__ = lazily(__name__, {"rollout_guard": ("RolloutGuardLink",)})
