"""The trigger that guards a rollout in the triggerer, and stops it there."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from typing import TYPE_CHECKING, Any

from iotda_provider.exceptions import IoTDAError
from iotda_provider.guarding import GuardPlan, Memory, Outcome, Watch
from iotda_provider.sensors.guard_worker import MEMORY_KEY
from iotda_provider.triggers.base import IoTDATrigger
from iotda_provider.triggers.events import OVER, failed, tell
from iotda_provider.triggers.guard_steps import OwnXComs, TriggerSteps

if TYPE_CHECKING:
    from airflow.triggers.base import TriggerEvent

    from iotda_provider.hooks.iotda_async import IoTDAAsyncHook


class RolloutGuardTrigger(IoTDATrigger):
    """Watches a rollout until a rule is broken or it ends, and stops it where that is asked for.

    The stop is sent from here, in the same look that saw the breach, so no worker slot is waited
    for. The event is ``{"status": "over", "batch_task_ids", "result", "memory"}``, with the
    sensor's return value as ``result``; ``memory`` only where it could not be kept as an XCom. The
    XCom ``guard_memory``, which the worker's first look leaves behind, is read when it starts and
    kept up to date, so a guard whose triggerer is restarted knows what it was about.

    :param plan: a :class:`~iotda_provider.guarding.GuardPlan` as plain JSON
    :param owner: the task instance that it works for: ``dag_id``, ``run_id``, ``task_id``,
        ``map_index``
    :param on_alert: the dotted path of a function to call when a person should know
    """

    def __init__(
        self,
        *,
        plan: Mapping[str, Any],
        owner: Mapping[str, Any],
        on_alert: str | None = None,
        **connection: Any,
    ) -> None:
        super().__init__(**connection)
        self.plan = dict(plan)
        self.owner = dict(owner)
        self.on_alert = on_alert

    def arguments(self) -> dict[str, Any]:
        return {
            **super().arguments(),
            "plan": self.plan,
            "owner": self.owner,
            "on_alert": self.on_alert,
        }

    @property
    def batch_task_ids(self) -> tuple[str, ...]:
        return tuple(self.plan["batch_task_ids"])

    async def events(self, hook: IoTDAAsyncHook) -> AsyncIterator[TriggerEvent]:
        plan = GuardPlan.from_dict(self.plan)
        xcoms = OwnXComs(self.owner, self.log)
        kept = await xcoms.pull(MEMORY_KEY)
        memory = Memory.from_json(kept, plan.batch_task_ids, plan.audit_limit)
        watch = Watch(plan, memory, self.log, carry_on=True)
        steps = TriggerSteps(hook, xcoms, self.log, self.on_alert)
        while True:
            began = time.monotonic()
            try:
                outcome = await steps.run(watch.poll())
            except IoTDAError as error:
                yield failed(plan.batch_task_ids, error)
                return
            left = float("inf") if plan.deadline is None else plan.deadline - time.time()
            if outcome is None and left <= 0:
                outcome = await steps.run(watch.give_up("The guard's timeout is over."))
            if outcome is not None:
                yield await self._over(outcome, memory, xcoms)
                return
            await asyncio.sleep(max(0.0, min(began + watch.interval - time.monotonic(), left)))

    async def _over(self, outcome: Outcome, memory: Memory, xcoms: OwnXComs) -> TriggerEvent:
        payload: dict[str, Any] = {
            "status": OVER,
            "batch_task_ids": list(self.batch_task_ids),
            "result": outcome.to_result(),
        }
        if not await xcoms.push(MEMORY_KEY, memory.to_json()):
            payload["memory"] = memory.to_json()
        return tell(payload)
