"""The watch over one rollout: what a guard does with what it sees.

The rules say what one look means; this package says what follows from it: when to look again, when
to read the failed subtasks, when to stop, and what to tell. It awaits nothing but an I/O object,
one in a worker and one in the triggerer, so that a guard in either can only agree.
"""

from iotda_provider.models.log import Log
from iotda_provider.rollout_guard.alerts import Alert
from iotda_provider.rollout_guard.guard_io import GuardIO
from iotda_provider.rollout_guard.memory import Memory
from iotda_provider.rollout_guard.outcome import Outcome
from iotda_provider.rollout_guard.plan import GuardPlan
from iotda_provider.rollout_guard.watch import Watch

__all__ = ["Alert", "GuardIO", "GuardPlan", "Log", "Memory", "Outcome", "Watch"]
