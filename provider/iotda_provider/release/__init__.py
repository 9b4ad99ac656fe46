"""A release in waves: who comes when, whether a wave may go on, and what came of it.

The planning and the arithmetic are pure: no Airflow, no I/O. ``staged_rollout``, the task group
made of them, is imported from here too, and loads Airflow only then.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from iotda_provider.release.gate import GateReading, as_gate, forecast, read_gate
from iotda_provider.release.maintenance_window import MaintenanceWindow
from iotda_provider.release.manifest import Manifest
from iotda_provider.release.planning import plan_waves
from iotda_provider.release.reconciliation import Reconciliation, reconcile
from iotda_provider.release.wave_specs import WaveSpec, parse_waves

if TYPE_CHECKING:
    from iotda_provider.operators.release.staged_rollout import StagedRollout, staged_rollout

__all__ = [
    "GateReading",
    "MaintenanceWindow",
    "Manifest",
    "Reconciliation",
    "StagedRollout",
    "WaveSpec",
    "as_gate",
    "forecast",
    "parse_waves",
    "plan_waves",
    "read_gate",
    "reconcile",
    "staged_rollout",
]


def __getattr__(name: str) -> Any:
    if name in ("StagedRollout", "staged_rollout"):
        from iotda_provider.operators.release import staged_rollout as module

        return getattr(module, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
