"""The watch over one rollout: looks, decisions, stops, memory.

The rules (``guards``) judge one look. This package decides what follows from the verdict: when to
look again, when to read the failed subtasks, when to stop the rollout, and whom to tell. Its
procedures await nothing but an I/O object (``GuardIO``). There is one for workers and one for
triggerers, so a guard decides the same in both.
"""

from iotda_provider.models.log import Log
from iotda_provider.rollout_guard.alerts import Alert
from iotda_provider.rollout_guard.guard_io import GuardIO
from iotda_provider.rollout_guard.memory import Memory
from iotda_provider.rollout_guard.outcome import Outcome
from iotda_provider.rollout_guard.plan import GuardPlan
from iotda_provider.rollout_guard.watch import Watch

__all__ = ["Alert", "GuardIO", "GuardPlan", "Log", "Memory", "Outcome", "Watch"]
