"""The event-driven form of a guard: an asset's watcher that fires when a running rollout breaks.

Airflow 3 only. One reading of all running upgrades is shared by all watchers of a connection
(Airflow 3.3; before, each reads for itself), each with its own rules.
"""

from __future__ import annotations

import asyncio
import contextvars
import json
import logging
import time
from collections.abc import AsyncIterator, Hashable, Mapping, Sequence
from contextlib import aclosing
from functools import cached_property
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.triggers import BaseEventTrigger

from iotda_provider.airflow_support.threads import importing
from iotda_provider.triggers.base import HOOKS
from iotda_provider.triggers.loading import load

if TYPE_CHECKING:
    from airflow.triggers.base import TriggerEvent

    from iotda_provider.guarding import GuardPlan, Outcome, Watch
    from iotda_provider.guarding.tally import ClusterOf
    from iotda_provider.guards import FailureClasses, Rule
    from iotda_provider.hooks.iotda_async import IoTDAAsyncHook
    from iotda_provider.models import BatchTask

    #: What is read for all watchers at a moment.
    Snapshot = dict[str, BatchTask]

_log = logging.getLogger(__name__)
_NEEDS = (HOOKS, "iotda_provider.guarding.triggerer", "iotda_provider.triggers.board")
_FIRED_KEY = "fired"
#: Rollouts that a watcher remembers to have fired for after they have left the list.
_MOST_FIRED = 1000


class RolloutBreachTrigger(BaseEventTrigger):
    """Fires once for each running upgrade that breaks a rule; for an ``AssetWatcher``.

    The payload of an event is the return value of a :class:`RolloutGuardSensor` whose verdict is
    ``breached``. It stops nothing: that is for the DAG that is scheduled on the asset. Which
    rollouts it has fired for is kept in the asset's state (Airflow 3.3), so that a restart does not
    fire again; it is kept at the next reading, so that a triggerer that dies as it fires loses no
    breach. A DAG run may still get several events, or one twice.

    :param rules: the rules as JSON (:func:`iotda_provider.guards.rules_to_json`), or as objects
    :param failure_classes: how failures are classed, where the default does not fit
    :param cluster_of: the cluster of a device, for ``leave_worst_out``
    :param task_types: ``firmwareUpgrade``, ``softwareUpgrade`` or both
    :param poll_interval: seconds between two readings of the list
    :param max_outage: seconds of trouble at the API after which the log says so as an error
    :param iotda_conn_id: the connection
    :param project_id: instead of the connection's
    :param instance_id: instead of the connection's
    """

    def __init__(
        self,
        *,
        rules: Any,
        failure_classes: FailureClasses | Mapping[str, Any] | None = None,
        cluster_of: ClusterOf | None = None,
        task_types: Sequence[str] = ("firmwareUpgrade", "softwareUpgrade"),
        poll_interval: float = 10.0,
        max_outage: float = 900.0,
        iotda_conn_id: str = "iotda_default",
        project_id: str | None = None,
        instance_id: str | None = None,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._rules = rules
        self._failure_classes = failure_classes
        self.cluster_of = cluster_of
        self.task_types: Sequence[str] = task_types
        self.poll_interval = poll_interval
        self.max_outage = max_outage
        self.iotda_conn_id = iotda_conn_id
        self.project_id = project_id
        self.instance_id = instance_id
        if not _is_in_triggerer():
            self._check()

    def _check(self) -> None:
        """Refuse what makes no sense, when the DAG is parsed.

        :raises ValueError: names the parameter
        """
        from iotda_provider.guarding.tally import check_cluster_of
        from iotda_provider.parameters import check_connection, one_of, positive, texts
        from iotda_provider.triggers.board import UPGRADES

        _ = self.failure_classes
        self.cluster_of = check_cluster_of(self.cluster_of)
        _ = self.rules
        kinds = tuple(map(str, UPGRADES))
        given_types = texts(self.task_types, "task_types")
        self.task_types = tuple(one_of(kind, "task_types", kinds) for kind in given_types)
        self.poll_interval = positive(self.poll_interval, "poll_interval")
        self.max_outage = positive(self.max_outage, "max_outage", zero=True)
        check_connection(self.iotda_conn_id, self.project_id, self.instance_id)

    @cached_property
    def rules(self) -> tuple[Rule, ...]:
        """The rules, read and checked."""
        from iotda_provider.guarding.plan import read_rules

        return read_rules(self._rules, self.cluster_of)

    @cached_property
    def failure_classes(self) -> FailureClasses:
        """How failures are classed."""
        from iotda_provider.guards import FailureClasses

        return FailureClasses.of(self._failure_classes)

    def serialize(self) -> tuple[str, dict[str, Any]]:
        from iotda_provider.guards import rules_to_json

        clusters = self.cluster_of
        return (
            f"{type(self).__module__}.{type(self).__qualname__}",
            {
                # As one text: Airflow encodes a list of mappings anew at each of its layers.
                "rules": json.dumps(rules_to_json(self.rules)),
                "failure_classes": self.failure_classes.to_json(),
                "cluster_of": dict(clusters) if isinstance(clusters, Mapping) else clusters,
                "task_types": list(self.task_types),
                "poll_interval": self.poll_interval,
                "max_outage": self.max_outage,
                "iotda_conn_id": self.iotda_conn_id,
                "project_id": self.project_id,
                "instance_id": self.instance_id,
            },
        )

    def shared_stream_key(self) -> Hashable | None:
        """All watchers of one connection with one interval share one reading."""
        return (
            "iotda-running-rollouts",
            self.iotda_conn_id,
            self.project_id,
            self.instance_id,
            tuple(self.task_types),
            self.poll_interval,
        )

    @classmethod
    async def open_shared_stream(cls, kwargs: dict[str, Any]) -> AsyncIterator[Snapshot]:
        """All running upgrades with their counts, at every interval, through any outage.

        An outage is nobody's own, so it is said in the triggerer's log, not in that of the watcher
        that happens to have come first.
        """
        await load(*_NEEDS)
        from iotda_provider.exceptions import IoTDAConfigError, IoTDAError
        from iotda_provider.retrying import retries_unsaid
        from iotda_provider.waiting import Outage, is_trouble

        outage = Outage(kwargs["max_outage"], kwargs["poll_interval"])
        async with _hook(kwargs) as hook:
            while True:
                began = time.monotonic()
                try:
                    with retries_unsaid():
                        snapshot = await _running(hook, kwargs["task_types"])
                except IoTDAConfigError:
                    raise
                except IoTDAError as error:
                    say, tell_now = outage.trouble(began, hopeless=not is_trouble(error))
                    if say:
                        level = logging.ERROR if tell_now else logging.WARNING
                        line = "The rollouts can't be watched: %s Trying on."
                        contextvars.Context().run(_log.log, level, line, error)
                    await hook.close()  # perhaps the connection has new keys by the next time
                else:
                    outage.over(began)
                    yield snapshot
                ends = began + outage.interval
                await asyncio.sleep(max(0.0, ends - time.monotonic()))

    async def filter_shared_stream(
        self, shared_stream: AsyncIterator[Snapshot]
    ) -> AsyncIterator[TriggerEvent]:
        """This watcher's own judgement on what all of them are shown."""
        await load(*_NEEDS)
        from iotda_provider.guarding.outcome import BREACHED
        from iotda_provider.guarding.triggerer import warm_up
        from iotda_provider.triggers.events import tell

        await warm_up(await importing(lambda: self.rules))
        fired = await self._load_fired()
        is_kept = True
        watches: dict[str, Watch] = {}
        async with _hook(self.serialize()[1]) as hook:
            async for snapshot in shared_stream:
                if not is_kept:
                    # Only now: an event that Airflow had not taken over yet would be lost with a
                    # triggerer that dies. Better it comes twice.
                    await self._save_fired(list(fired))
                    is_kept = True
                left = [batch_task_id for batch_task_id in fired if batch_task_id not in snapshot]
                for batch_task_id in left[:-_MOST_FIRED]:
                    del fired[batch_task_id]
                # One that has left the list has ended, and is read once more.
                for batch_task_id in [*snapshot, *(watches.keys() - snapshot.keys())]:
                    if batch_task_id in fired:
                        continue
                    outcome = await self._look(batch_task_id, watches, snapshot, hook)
                    if outcome is None or outcome.verdict != BREACHED:
                        continue
                    fired[batch_task_id] = None
                    is_kept = False
                    yield tell(outcome.to_result())

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """The same without anybody to share with: before Airflow 3.3."""
        await load(*_NEEDS)
        stream = self.open_shared_stream(self.serialize()[1])
        async for event in self.filter_shared_stream(stream):
            yield event

    async def _look(
        self,
        batch_task_id: str,
        watches: dict[str, Watch],
        snapshot: Snapshot,
        hook: IoTDAAsyncHook,
    ) -> Outcome | None:
        from iotda_provider.exceptions import IoTDAError
        from iotda_provider.guarding import Memory, Watch
        from iotda_provider.guarding.memory_store import Nowhere
        from iotda_provider.guarding.triggerer import TriggererGuardIO

        if batch_task_id not in watches:
            plan = self._plan(batch_task_id)
            memory = Memory.from_json(None, plan.batch_task_ids)
            watches[batch_task_id] = Watch(plan, memory, self.log, clock=time.time)

        async def read(wanted: str) -> BatchTask:
            return snapshot.get(wanted) or await hook.get_batch_task(wanted)

        io = TriggererGuardIO(hook, Nowhere(), self.log, read=read)
        try:
            outcome = await io.run(watches[batch_task_id].poll(io))
        except IoTDAError as error:  # that has left the list, before it was ever judged
            self.log.error("Rollout %s can't be watched: %s", batch_task_id, error)
            del watches[batch_task_id]
            return None
        if outcome is not None:
            del watches[batch_task_id]
        return outcome

    def _plan(self, batch_task_id: str) -> GuardPlan:
        from iotda_provider.guarding import GuardPlan

        return GuardPlan(
            batch_task_ids=(batch_task_id,),
            rules=self.rules,
            failure_classes=self.failure_classes,
            cluster_of=self.cluster_of,
            poll_interval=self.poll_interval,
            max_outage=self.max_outage,
            audit_limit=10,
        )

    async def _load_fired(self) -> dict[str, None]:
        """The rollouts that it has fired for, in their order."""
        store = self._store()
        kept = None if store is None else await store.aget(_FIRED_KEY)
        return dict.fromkeys(map(str, kept)) if isinstance(kept, list) else {}

    async def _save_fired(self, fired: list[str]) -> None:
        if (store := self._store()) is not None:
            await store.aset(_FIRED_KEY, fired)

    def _store(self) -> Any:
        """The state of the asset that this watcher fires for; Airflow 3.3 has one."""
        return getattr(self, "asset_state_store", None)


async def _running(hook: IoTDAAsyncHook, task_types: Sequence[str]) -> Snapshot:
    """All upgrades that are under way; one whose counts the list lacks is read by itself."""
    from iotda_provider.exceptions import IoTDANotFoundError
    from iotda_provider.models import TaskStatus
    from iotda_provider.triggers.board import UNDER_WAY

    snapshot: Snapshot = {}
    for task_type in task_types:
        for status in (status for status in UNDER_WAY if status is not TaskStatus.STOPPING):
            listed: Any = hook.list_batch_tasks(task_type=task_type, status=status)
            async with aclosing(listed) as tasks:
                async for task in tasks:
                    snapshot[task.task_id] = task
    for task_id, task in list(snapshot.items()):
        if "task_progress" not in task.raw:
            try:
                snapshot[task_id] = await hook.get_batch_task(task_id)
            except IoTDANotFoundError:
                del snapshot[task_id]
    return snapshot


def _hook(kwargs: Mapping[str, Any]) -> IoTDAAsyncHook:
    from iotda_provider.hooks.iotda_async import IoTDAAsyncHook
    from iotda_provider.parameters import given

    return IoTDAAsyncHook(
        kwargs["iotda_conn_id"],
        project_id=given(kwargs["project_id"]),
        instance_id=given(kwargs["instance_id"]),
    )


def _is_in_triggerer() -> bool:
    """Whether this runs on an event loop: what a triggerer makes there was checked before, and the
    modules that would check it are not loaded yet."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
