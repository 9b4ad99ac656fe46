"""The trigger that guards a rollout, and stops it, from the triggerer."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.triggers.base import TriggerEvent

from iotda_provider.airflow_support.task_notes import checked_owner
from iotda_provider.airflow_support.threads import in_import_thread
from iotda_provider.task_io.parameters import (
    as_list,
    as_mapping,
    batch_task_ids,
    optional_text,
    whole_number,
)
from iotda_provider.triggers.base import IoTDATrigger

if TYPE_CHECKING:
    from iotda_provider.hooks.iotda_async import IoTDAAsyncHook
    from iotda_provider.notifications.audience import Audience
    from iotda_provider.rollout_guard import Memory, Outcome, Watch
    from iotda_provider.rollout_guard.memory_store import TriggererMemoryStore
    from iotda_provider.rollout_guard.triggerer import TriggererGuardIO
    from iotda_provider.triggers.live_in_triggerer import LiveInTriggerer


class GuardingTrigger(IoTDATrigger):
    """A trigger with a guard, which has a memory and sends alerts.

    :param owner: the task instance of this trigger: ``dag_id``, ``run_id``, ``task_id``,
        ``map_index``
    :param on_alert: the dotted path of the user's function that gets each event
    :param notifiers: Airflow's notifiers, as the class ``RecordedNotifier`` writes them as JSON
    :param try_number: the try of the task instance, for the notifiers
    """

    stored: ClassVar[tuple[str, ...]] = ("owner", "on_alert", "notifiers", "try_number")

    def __init__(
        self,
        *,
        owner: Mapping[str, Any],
        on_alert: str | None = None,
        notifiers: Sequence[Mapping[str, Any]] = (),
        try_number: int = 1,
        **common: Any,
    ) -> None:
        super().__init__(**common)
        self.owner = as_mapping(owner, "owner")
        self.on_alert = optional_text(on_alert, "on_alert")
        self.notifiers = as_list(notifiers, "notifiers")
        self.try_number = whole_number(try_number, "try_number", zero=True)

    def audience(self) -> Audience:
        """Whom this trigger tells of events.

        :raises ValueError: the stored notifiers are none
        """
        from iotda_provider.notifications.audience import About, Audience
        from iotda_provider.notifications.recorded import from_json

        about = About(
            **checked_owner(self.owner),
            try_number=self.try_number,
            iotda_conn_id=self.iotda_conn_id,
        )
        return Audience(from_json(self.notifiers), self.on_alert, about)


class RolloutGuardTrigger(GuardingTrigger):
    """Watches a rollout until a rule breaks or it ends, and stops it if the plan says so.

    The stop is sent from here, in the same look that saw the breach, so it waits for no worker
    slot. The event is ``{"status": "over", "batch_task_ids", "result", "intent", "memory"}``.
    ``result`` is the sensor's return value. ``intent`` is there only after a stop (``Memory``), and
    ``memory`` only if it could not be saved as an XCom.

    The memory of the worker's first look is read while the guard looks, and kept up to date among
    the task instance's notes (``task_notes``). So a guard whose triggerer is restarted, or whose
    task is cleared, recalls it.

    The further parameters are those of :class:`GuardingTrigger` and ``IoTDATrigger``.

    :param plan: a :class:`~iotda_provider.rollout_guard.GuardPlan` as plain JSON
    """

    needs = (
        "iotda_provider.rollout_guard.triggerer",
        "iotda_provider.rollout_guard.guard_metrics",
        "iotda_provider.triggers.events",
        "iotda_provider.triggers.shared_reads",
        "iotda_provider.triggers.live_in_triggerer",
    )

    stored: ClassVar[tuple[str, ...]] = ("plan",)

    def __init__(self, *, plan: Mapping[str, Any], **common: Any) -> None:
        super().__init__(**common)
        self.plan = as_mapping(plan, "plan")

    @property
    def batch_task_ids(self) -> tuple[str, ...]:
        return batch_task_ids(self.plan.get("batch_task_ids"))

    async def events(self, hook: IoTDAAsyncHook) -> AsyncIterator[TriggerEvent]:
        from iotda_provider.exceptions import IoTDAError
        from iotda_provider.rollout_guard import GuardPlan, Memory, Watch
        from iotda_provider.rollout_guard.memory_store import TriggererMemoryStore
        from iotda_provider.rollout_guard.triggerer import (
            TriggererGuardIO,
            TriggererRecall,
            warm_up,
        )
        from iotda_provider.triggers.events import failed
        from iotda_provider.triggers.live_in_triggerer import LiveInTriggerer
        from iotda_provider.triggers.shared_reads import open_shared_reads

        plan = await in_import_thread(GuardPlan.from_dict, self.plan)  # imports modules
        await warm_up(plan.rules)
        store = TriggererMemoryStore(self.owner, self.log)
        memory = Memory.from_json(None, plan.batch_task_ids, plan.audit_limit)
        watch = Watch(plan, memory, self.log, clock=time.time)
        earlier_memory = TriggererRecall(watch, store)
        connection = ("guards", self.iotda_conn_id, self.project_id, self.instance_id)
        live = LiveInTriggerer(watch, store)
        async with open_shared_reads(connection, self.hook) as reads, live:
            # The stop is sent by the same hook, which is open since the first look.
            io = TriggererGuardIO(
                reads.hook,
                store,
                self.log,
                self.audience(),
                read=reads.read,
                earlier_memory=earlier_memory,
            )
            io.try_on_alert(plan.batch_task_ids)
            try:
                outcome = await self._wait(watch, io, live)
                await live.settle(outcome)
                event = await self._over(outcome, memory, store)
            except IoTDAError as error:
                event = failed(plan.batch_task_ids, error)
            finally:
                reads.forget(plan.batch_task_ids)
                earlier_memory.give_up()
                store.forget_unwritten()
            await io.finish()
        yield event

    async def _wait(self, watch: Watch, io: TriggererGuardIO, live: LiveInTriggerer) -> Outcome:
        """Look until the watch is over, at the same times as all guards with the same interval.

        :raises IoTDAError: the first look failed with an error that will not pass by itself
        """
        from iotda_provider.rollout_guard.guard_metrics import GuardMetrics
        from iotda_provider.triggers.shared_reads import seconds_to_tick

        deadline = watch.plan.deadline
        measured = GuardMetrics(watch, self.iotda_conn_id)
        try:
            while True:
                began = time.monotonic()
                outcome = await io.run(watch.poll(io))
                measured.looked(began)
                if outcome is not None:
                    measured.over()
                    return outcome
                live.show()
                left = float("inf") if deadline is None else deadline - time.time()
                if left <= 0:
                    measured.over()
                    return await io.run(watch.give_up(io, "The guard's timeout is over."))
                pause = seconds_to_tick(began, watch.interval, time.monotonic())
                await asyncio.sleep(min(pause, left))
        finally:
            measured.ended()

    async def _over(
        self, outcome: Outcome, memory: Memory, store: TriggererMemoryStore
    ) -> TriggerEvent:
        from iotda_provider.triggers.events import OVER, tell

        payload: dict[str, Any] = {
            "status": OVER,
            "batch_task_ids": list(self.batch_task_ids),
            "result": outcome.to_result(),
        }
        if outcome.stop is not None:
            payload["intent"] = memory.intent
        return tell({**payload, **await store.hand_back(memory.to_json())})
