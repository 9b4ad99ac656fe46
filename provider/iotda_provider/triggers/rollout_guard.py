"""The trigger that guards a rollout in the triggerer, and stops it there."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from typing import TYPE_CHECKING, Any

from iotda_provider.exceptions import IoTDAError
from iotda_provider.guard_worker import MEMORY_KEY
from iotda_provider.guarding import GuardPlan, Memory, Outcome, Watch
from iotda_provider.guarding.outcome import STOPPED_ELSEWHERE
from iotda_provider.triggers.base import IoTDATrigger
from iotda_provider.triggers.board import seconds_to_tick, shared_board
from iotda_provider.triggers.events import OVER, failed, tell
from iotda_provider.triggers.guard_steps import OwnState, TriggerSteps, warm_up
from iotda_provider.triggers.live import LiveInTriggerer

if TYPE_CHECKING:
    from airflow.triggers.base import TriggerEvent

    from iotda_provider.hooks.iotda_async import IoTDAAsyncHook


#: Seconds to wait for what was known before a restart: to begin with, and where a verdict hangs on
#: it. A triggerer that has just started answers slowly.
_USUAL_SECONDS, _PATIENT_SECONDS = 5.0, 300.0


class RolloutGuardTrigger(IoTDATrigger):
    """Watches a rollout until a rule is broken or it ends, and stops it where that is asked for.

    The stop is sent from here, in the same look that saw the breach, so no worker slot is waited
    for. The event is ``{"status": "over", "batch_task_ids", "result", "memory"}``, with the
    sensor's return value as ``result``; ``memory`` only where it could not be kept as an XCom. What
    the worker's first look has left behind is read when it starts and kept up to date among the
    task instance's notes (:mod:`iotda_provider.durable`), so a guard whose triggerer is restarted,
    or whose task is cleared, knows what it was about.

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
        kept = OwnState(self.owner, self.log)
        memory = Memory.from_json(None, plan.batch_task_ids, plan.audit_limit)
        watch = Watch(plan, memory, self.log, carry_on=True)
        earlier = _Earlier(watch, asyncio.ensure_future(kept.recall()))
        connection = ("guards", self.iotda_conn_id, self.project_id, self.instance_id)
        live = LiveInTriggerer(watch, kept)
        async with shared_board(connection, self.hook) as board, live:
            steps = TriggerSteps(hook, kept, self.log, self.on_alert, read=board.read)
            try:
                await asyncio.gather(warm_up(plan.rules), steps.try_on_alert(plan.batch_task_ids))
                await earlier.wait(_USUAL_SECONDS)
                outcome = await self._wait(watch, steps, earlier, live)
                await live.settle(outcome)
                event = await self._over(outcome, memory, kept)
            except IoTDAError as error:
                event = failed(plan.batch_task_ids, error)
            finally:
                board.forget(plan.batch_task_ids)
                earlier.give_up()
        yield event

    async def _wait(
        self, watch: Watch, steps: TriggerSteps, earlier: _Earlier, live: LiveInTriggerer
    ) -> Outcome:
        """Look until it is over, at the same moments as all guards with the same interval.

        :raises IoTDAError: the first look failed in a way that will not pass
        """
        deadline = watch.plan.deadline
        while True:
            began = time.monotonic()
            try:
                outcome = await steps.run(watch.poll())
            except IoTDAError:
                # It may not have been the guard's first look, before the triggerer was restarted.
                if not await earlier.wait(_PATIENT_SECONDS):
                    raise
                outcome = await steps.run(watch.poll())
            # It may have been this guard's own stop, before the triggerer was restarted.
            is_strange = outcome is not None and outcome.verdict == STOPPED_ELSEWHERE
            if is_strange and await earlier.wait(_PATIENT_SECONDS):
                outcome = await steps.run(watch.poll())
            if outcome is not None:
                return outcome
            live.show()
            await earlier.wait(0.0)
            left = float("inf") if deadline is None else deadline - time.time()
            if left <= 0:
                return await steps.run(watch.give_up("The guard's timeout is over."))
            pause = seconds_to_tick(began, watch.interval, time.monotonic())
            await asyncio.sleep(min(pause, left))

    async def _over(self, outcome: Outcome, memory: Memory, kept: OwnState) -> TriggerEvent:
        payload: dict[str, Any] = {
            "status": OVER,
            "batch_task_ids": list(self.batch_task_ids),
            "result": outcome.to_result(),
        }
        if not await kept.push(MEMORY_KEY, memory.to_json()):
            payload["memory"] = memory.to_json()
        return tell(payload)


class _Earlier:
    """What the guard knew before its triggerer was restarted; a guard does not wait for it long.

    :param watch: gets it, once it is there
    :param pulled: it, under way
    """

    def __init__(self, watch: Watch, pulled: asyncio.Future[Any]) -> None:
        self._watch = watch
        self._pulled = pulled
        self._is_known = False

    async def wait(self, seconds: float) -> bool:
        """Wait at most so long; whether it has come just now."""
        if self._is_known:
            return False
        done, _ = await asyncio.wait({self._pulled}, timeout=seconds)
        if not done:
            return False
        self._is_known = True
        plan = self._watch.plan
        kept = Memory.from_json(self._pulled.result(), plan.batch_task_ids, plan.audit_limit)
        self._watch.memory.adopt(kept)
        return True

    def give_up(self) -> None:
        """Nobody waits for it any more."""
        self._pulled.cancel()
