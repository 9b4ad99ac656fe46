"""The failed subtasks of a rollout: read only where a rule hangs on them and their count moved."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from iotda_provider.guards import Look, Undecided, Verdict
from iotda_provider.models import BatchTask
from iotda_provider.rollout_guard.failure_tally import MOST_REASONS, Tally, add_up
from iotda_provider.rollout_guard.guard_io import GuardIO
from iotda_provider.rollout_guard.plan import GuardPlan

_ROWS = (Undecided.CLASSES, Undecided.CLUSTERS)


@dataclass
class FailedRows:
    """What was read of the failed subtasks so far, task by task.

    Reading them takes a call for every fifty failures, so what is known stays in use while their
    count stays the same, and the rules allow for the difference where it has changed.
    """

    plan: GuardPlan
    tallies: dict[str, Tally] = field(default_factory=dict)

    def are_asked_for(self, verdict: Verdict) -> bool:
        """Whether the verdict hangs on them."""
        parts = verdict.parts or (verdict,)
        return not verdict.breached and any(part.undecided in _ROWS for part in parts)

    async def read(self, io: GuardIO, tasks: Sequence[BatchTask]) -> bool:
        """Read those of the tasks whose count has changed; whether there were any.

        :raises IoTDAError: they could not be read
        """
        changed = False
        for task in tasks:
            known = self.tallies.get(task.task_id)
            if known is not None and known.fail == task.progress.fail:
                continue
            tally = Tally(task.progress.fail, self.plan.failure_classes, self.plan.cluster_of)
            if task.progress.fail:
                await io.read_failed(task.task_id, tally)
            self.tallies[task.task_id] = tally
            changed = True
        return changed

    def add_to(self, look: Look) -> Look:
        """The look with what is known of them."""
        if not self.tallies:
            return look
        classes, clusters = add_up(self.tallies)
        known = clusters if self.plan.cluster_of is not None else None
        return replace(look, failures_by_class=classes, clusters=known)

    @property
    def first_reasons(self) -> list[dict[str, Any]]:
        """The first failures of different reasons, as far as they were read: at most three."""
        found: list[dict[str, Any]] = []
        for tally in self.tallies.values():
            found += [reason for reason in tally.first_reasons if reason not in found]
        return found[:MOST_REASONS]
