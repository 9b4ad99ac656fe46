"""The watch over one rollout: what a guard does with what it sees. No Airflow, no I/O.

The rules say what one look means; this package says what follows from it: when to look again, when
to read the failed subtasks, when to stop, and what to tell. Sensor and trigger only carry out the
steps that it asks for, so that a guard in a worker and one in the triggerer can only agree.
"""

from iotda_provider.guarding.memory import Memory
from iotda_provider.guarding.outcome import Outcome
from iotda_provider.guarding.plan import GuardPlan
from iotda_provider.guarding.steps import (
    ReadFailed,
    ReadTasks,
    RehearseStop,
    Save,
    Step,
    StopTask,
    Tell,
)
from iotda_provider.guarding.watch import Watch

__all__ = [
    "GuardPlan",
    "Memory",
    "Outcome",
    "ReadFailed",
    "ReadTasks",
    "RehearseStop",
    "Save",
    "Step",
    "StopTask",
    "Tell",
    "Watch",
]
