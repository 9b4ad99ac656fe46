"""The failed subtasks of a rollout, which are read only when a rule needs them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from iotda_provider.guards import Look, Undecided, Verdict
from iotda_provider.models import BatchTask, Subtask, SubtaskStatus
from iotda_provider.rollout_guard.failure_tally import MOST_REASONS, Tally, add_up
from iotda_provider.rollout_guard.guard_io import GuardIO
from iotda_provider.rollout_guard.plan import GuardPlan

_ROWS = (Undecided.CLASSES, Undecided.CLUSTERS)


@dataclass
class FailedSubtasks:
    """The failed subtasks that were read so far, by batch task.

    Reading them takes one API call for every fifty failures. So a task's subtasks are read again
    only when its count of failures has changed; the rules allow for the difference.
    """

    plan: GuardPlan
    tallies: dict[str, Tally] = field(default_factory=dict)
    attempts: Tally = field(init=False)

    def __post_init__(self) -> None:
        self.attempts = Tally(0, self.plan.failure_classes)

    def note_attempt(self, row: Subtask) -> None:
        """Note why a device's last attempt has failed; the device waits for a retry."""
        self.attempts.add(replace(row, status=SubtaskStatus.FAIL))

    def are_needed(self, verdict: Verdict) -> bool:
        """Whether the rules need the failed subtasks to reach a verdict."""
        parts = verdict.parts or (verdict,)
        return not verdict.breached and any(part.undecided in _ROWS for part in parts)

    async def read(self, io: GuardIO, tasks: Sequence[BatchTask]) -> bool:
        """Read the failed subtasks of each task whose count of failures has changed.

        :returns: whether anything was read
        :raises IoTDAError: the subtasks could not be read
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
        """The look with the failures by class and by cluster, if any were read."""
        if not self.tallies:
            return look
        classes, clusters = add_up(self.tallies)
        known = clusters if self.plan.cluster_of is not None else None
        return replace(look, failures_by_class=classes, clusters=known)

    @property
    def first_reasons(self) -> list[dict[str, Any]]:
        """At most three failures with different reasons: class, code, message and first device."""
        found: list[dict[str, Any]] = []
        for tally in (*self.tallies.values(), self.attempts):
            found += [reason for reason in tally.first_reasons if reason not in found]
        return found[:MOST_REASONS]
