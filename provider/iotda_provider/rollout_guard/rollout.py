"""The rollout that a guard watches: its batch tasks as they were last read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from iotda_provider.guards import total_progress
from iotda_provider.guards.evaluation import GuardState
from iotda_provider.guards.miscounts import Miscounts
from iotda_provider.models import BatchTask
from iotda_provider.models.log import Log
from iotda_provider.notifications.messages import with_outcome
from iotda_provider.rollout_guard.alerts import Alert
from iotda_provider.rollout_guard.guard_io import GuardIO
from iotda_provider.rollout_guard.memory import Memory
from iotda_provider.rollout_guard.outcome import capitalised, now_in_words, to_text
from iotda_provider.rollout_guard.plan import GuardPlan
from iotda_provider.waiting.outage import is_gone


class Rollout:
    """The batch tasks of one rollout, with the guard's plan and memory.

    :param plan: the guard's plan
    :param memory: the guard's memory of earlier looks
    :param log: the task's log
    :param clock: returns the time in seconds since the epoch
    """

    def __init__(
        self, plan: GuardPlan, memory: Memory, log: Log, clock: Callable[[], float]
    ) -> None:
        self.plan = plan
        self.memory = memory
        self.log = log
        self.tasks: list[BatchTask] = []
        self.clock = clock
        self._miscounts = Miscounts()
        self._last_line = ""

    async def _read(self, io: GuardIO) -> list[str]:
        """Read the rollout's batch tasks.

        :returns: the ids of the batch tasks that do not exist
        :raises IoTDAError: a batch task could not be read
        """
        tasks: dict[str, BatchTask] = {}
        gone: list[str] = []
        wanted = self.plan.batch_task_ids
        # One wrong answer must not lose a rollout: a missing or torn one is read a second time.
        for _ in range(2):
            answers = await io.read_tasks(wanted)
            gone = []
            for batch_task_id, answer in zip(wanted, answers, strict=True):
                if isinstance(answer, BatchTask):
                    tasks[batch_task_id] = answer
                elif not is_gone(answer):
                    raise answer
                elif (ended := self.memory.ended_task(batch_task_id)) is not None:
                    tasks[batch_task_id] = ended
                else:
                    gone.append(batch_task_id)
            torn = [key for key, task in tasks.items() if not task.progress.adds_up]
            torn = [] if self._miscounts.persist else torn
            torn += [key for key, task in tasks.items() if task.lacks_counts]
            wanted = (*gone, *torn)
            if not wanted:
                break
        self.tasks = [tasks[key] for key in self.plan.batch_task_ids if key in tasks]
        self.memory.note_ended(self.tasks)
        return gone

    @property
    def progress_json(self) -> dict[str, int]:
        """The summed counts of the last look as plain JSON, with all devices that ever started.

        The platform's own count of the started devices falls at a stop.
        """
        counts = total_progress(task.progress for task in self.tasks).to_dict()
        return {**counts, "started": max(counts["started"], self.memory.started)}

    def _plausible_state(self) -> dict[str, Any]:
        """The rules' state without what can't be true: anybody may write notes."""
        state = GuardState.from_json(self.memory.state)
        if not state.tasks:
            return {}
        created = [born for task in self.tasks if (born := task.created_at) is not None]
        born = min(created) if len(created) == len(self.tasks) else None
        if born is not None and born > self.clock():
            born = None  # the platform's clock is ahead of ours
        return state.without_impossible_times(born, self.clock()).to_json()

    def _going_on(self) -> list[BatchTask]:
        """The batch tasks that have neither ended nor been stopped."""
        return [t for t in self.tasks if not t.status.is_stop and not t.status.is_terminal]

    def _log_if_new(self, outcome: str, said: object = None) -> None:
        """Log an outcome and the counts, if they have changed; the outcome first, as it decides.

        :param said: the number of failed devices that the outcome says
        """
        label, now = capitalised(self.plan.label), now_in_words(self.tasks, said)
        line = f"{outcome} {label} is {now}."
        if line != self._last_line:
            self._last_line = line
            self.log.info("%s", line)

    async def tell(self, io: GuardIO, kind: str, sentence: str) -> None:
        """Tell a person about this rollout; the sentence begins with what it is about."""
        counts = [task.progress.to_dict() for task in self.tasks]
        facts = {
            "batch_task_ids": list(self.plan.batch_task_ids),
            "time": to_text(self.clock()),
            "progress": [self.progress_json] if len(counts) == 1 else counts,
        }
        await io.tell(Alert(kind, with_outcome(kind, sentence), facts))


def in_words(tasks: Sequence[BatchTask]) -> str:
    """The summed counts of batch tasks, for people."""
    return str(total_progress(task.progress for task in tasks))
