"""The triggers of a release: create, confirm and watch a wave, and wait until it is at rest."""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import AsyncIterator, Mapping
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.triggers.base import TriggerEvent

from iotda_provider.airflow_support.threads import in_import_thread
from iotda_provider.models.json_text import PlainJson
from iotda_provider.task_io.parameters import as_mapping, batch_task_ids, positive
from iotda_provider.triggers.base import IoTDATrigger
from iotda_provider.triggers.rollout_guard import GuardingTrigger

if TYPE_CHECKING:
    from iotda_provider.hooks.iotda_async import IoTDAAsyncHook
    from iotda_provider.release.release_guard import ReleaseGuard
    from iotda_provider.release.release_io import ReleaseProcedure
    from iotda_provider.release.triggerer import TriggererReleaseIO


class ReleaseTrigger(IoTDATrigger):
    """Runs a procedure of a release from where its worker had to wait.

    It starts the procedure again, which decides from what the platform says now. The event is
    ``{"status": "over" | "ask" | "timeout" | "error", "batch_task_ids", "result", "error",
    "memo"}``; ``memo`` is ``{"job", "began"}`` with the state of the job.

    :param job: the job as plain JSON
    :param began: when the task began, in seconds since the epoch
    :param starts_at: when to look first, in seconds since the epoch
    :param deadline: when the task's ``execution_timeout`` is over; None: it has none
    """

    needs: ClassVar[tuple[str, ...]] = (
        "iotda_provider.release.create_wave",
        "iotda_provider.release.confirm_wave",
        "iotda_provider.release.watch_wave",
        "iotda_provider.release.at_rest",
        "iotda_provider.release.storage",
        "iotda_provider.release.triggerer",
        "iotda_provider.rollout_guard.guard_metrics",
        "iotda_provider.triggers.events",
        "iotda_provider.triggers.live_in_triggerer",
    )

    stored: ClassVar[tuple[str, ...]] = ("job", "began", "starts_at", "deadline")

    def __init__(
        self,
        *,
        job: Mapping[str, Any],
        began: float,
        starts_at: float = 0.0,
        deadline: float | None = None,
        **connection: Any,
    ) -> None:
        super().__init__(**connection)
        self.job = as_mapping(job, "job")
        self.began = positive(began, "began", zero=True)
        self.starts_at = positive(starts_at, "starts_at", zero=True)
        self.deadline = None if deadline is None else positive(deadline, "deadline", zero=True)

    @property
    def batch_task_ids(self) -> tuple[str, ...]:
        return batch_task_ids(self.job.get("batch_task_ids"))

    async def _event(
        self, job: PlainJson, procedure: ReleaseProcedure, io: TriggererReleaseIO
    ) -> dict[str, Any]:
        """Run the procedure, and return the payload of the event."""
        from iotda_provider.exceptions import IoTDAError
        from iotda_provider.release.triggerer import AskWorkerError, TimeIsOverError
        from iotda_provider.triggers.events import ASK, OVER, TIMEOUT, failed

        about = {"batch_task_ids": list(self.batch_task_ids)}
        try:
            await io.pause(self.starts_at - time.time())
            payload = {**about, "status": OVER, "result": await io.run(procedure.run(io))}
        except AskWorkerError:
            payload = {**about, "status": ASK}
        except TimeIsOverError:
            payload = {**about, "status": TIMEOUT, "limit": "execution_timeout"}
        except IoTDAError as error:
            payload = dict(failed(self.batch_task_ids, error).payload)
        return {**payload, "memo": {"job": job.to_json(), "began": self.began}}


class WaveTrigger(GuardingTrigger, ReleaseTrigger):
    """Goes on with one wave and its guard, which stops the release from here.

    The guard's memory is kept as a ``RolloutGuardTrigger`` keeps it; the event has ``memory`` only
    if it could not be saved. Another triggerer may take this trigger over while it still runs. Then
    both confirm devices and merge their records, and together exceed ``max_in_flight`` by at most
    the devices of one call. To confirm a device twice changes nothing.

    :param guard: a :class:`~iotda_provider.rollout_guard.GuardPlan` as plain JSON
    :param files: a :class:`~iotda_provider.release.storage.ReleaseFiles` as plain JSON
    """

    stored: ClassVar[tuple[str, ...]] = ("guard", "files")

    def __init__(
        self, *, guard: Mapping[str, Any], files: Mapping[str, Any], **common: Any
    ) -> None:
        super().__init__(**common)
        self.guard = as_mapping(guard, "guard")
        self.files = as_mapping(files, "files")

    @property
    def batch_task_ids(self) -> tuple[str, ...]:
        ids = self.guard.get("batch_task_ids")
        return () if ids == [] else batch_task_ids(ids)

    @property
    @abstractmethod
    def procedure(self) -> str:
        """The dotted path of the class that does the work, and knows the class of its job."""

    def begin(self, watch: ReleaseGuard) -> tuple[PlainJson, ReleaseProcedure]:
        """The job, and the procedure that carries it out."""
        module, _, name = self.procedure.rpartition(".")
        procedure = getattr(import_module(module), name)
        job = procedure.job_class.from_json(self.job)
        return job, procedure(job, watch)

    async def events(self, hook: IoTDAAsyncHook) -> AsyncIterator[TriggerEvent]:
        from iotda_provider.airflow_support.task_notes import LARGEST
        from iotda_provider.release.release_guard import ReleaseGuard, guard_plan
        from iotda_provider.release.storage import ReleaseFiles
        from iotda_provider.release.triggerer import TriggererReleaseIO
        from iotda_provider.rollout_guard import Memory
        from iotda_provider.rollout_guard.guard_metrics import GuardMetrics, shown
        from iotda_provider.rollout_guard.live_record import Ended
        from iotda_provider.rollout_guard.memory import fitted
        from iotda_provider.rollout_guard.memory_store import TriggererMemoryStore
        from iotda_provider.rollout_guard.triggerer import TriggererRecall, warm_up
        from iotda_provider.triggers.events import OVER, tell
        from iotda_provider.triggers.live_in_triggerer import LiveInTriggerer

        plan = await in_import_thread(guard_plan, self.guard)  # imports modules
        await warm_up(plan.rules)
        store = TriggererMemoryStore(self.owner, self.log)
        memory = Memory.from_json(None, plan.batch_task_ids, plan.audit_limit)
        watch = ReleaseGuard(plan, memory, self.log, clock=time.time)
        files = ReleaseFiles.from_json(self.files)
        job, procedure = await in_import_thread(self.begin, watch)
        earlier_memory = TriggererRecall(watch, store)
        live = LiveInTriggerer(watch, store)
        io = TriggererReleaseIO(
            hook,
            store,
            self.log,
            self.audience(),
            earlier_memory=earlier_memory,
            files=files,
            deadline=self.deadline,
        )
        measured = GuardMetrics(watch, self.iotda_conn_id)
        io.show = partial(shown, live, measured)
        io.try_on_alert(plan.batch_task_ids)
        try:
            async with live:
                payload = await self._event(job, procedure, io)
                if payload["status"] == OVER:
                    measured.over()
                    result = payload["result"]
                    await live.settle(Ended(result["verdict"], result["summary"]))
        finally:
            measured.ended()
            earlier_memory.give_up()
            store.forget_unwritten()
        await io.finish()
        left = await store.hand_back(fitted(memory.to_json(), LARGEST))
        yield tell({**payload, **left})


class CreateWaveTrigger(WaveTrigger):
    """Goes on creating the batch tasks of one wave."""

    procedure = "iotda_provider.release.create_wave.WaveCreation"


class ConfirmWaveTrigger(WaveTrigger):
    """Goes on confirming one wave."""

    procedure = "iotda_provider.release.confirm_wave.WaveConfirmation"


class WatchWaveTrigger(WaveTrigger):
    """Goes on watching one wave; the event is ``ask`` when external evidence must be asked for."""

    procedure = "iotda_provider.release.watch_wave.WaveDecision"

    def begin(self, watch: ReleaseGuard) -> tuple[PlainJson, ReleaseProcedure]:
        if self.job.get("trial") is not None:
            from iotda_provider.models.heavy_libraries import warm_up

            warm_up()
        return super().begin(watch)


class AtRestTrigger(ReleaseTrigger):
    """Waits until no device of a release is installing."""

    async def events(self, hook: IoTDAAsyncHook) -> AsyncIterator[TriggerEvent]:
        from iotda_provider.release.at_rest import RestJob, UntilAtRest
        from iotda_provider.release.triggerer import TriggererReleaseIO
        from iotda_provider.rollout_guard.memory_store import NoMemoryStore
        from iotda_provider.triggers.events import tell

        io = TriggererReleaseIO(hook, NoMemoryStore(), self.log, deadline=self.deadline)
        job = RestJob.from_json(self.job)
        yield tell(await self._event(job, UntilAtRest(job, self.log, clock=time.time), io))
