"""What a guard measures at each of its looks."""

from __future__ import annotations

import random
import time
from typing import Protocol
from weakref import WeakSet

from iotda_provider.airflow_support import metrics
from iotda_provider.guards.audit import look_of
from iotda_provider.rollout_guard.watch import Watch


class Shows(Protocol):
    """What shows people the state of a guard."""

    def show(self) -> None: ...


#: The counters of a guard, and those of its connection, that show what may go wrong.
_OF_GUARDS = (
    *("iotda.devices.started", "iotda.devices.failed"),
    *("iotda.guards.running_seconds", "iotda.guards.blind_seconds", "iotda.guards.looks_late"),
)
_OF_CONNECTIONS = ("iotda.stops.sent", "iotda.stops.failed", "iotda.api.refusals")
#: A look is late if it begins half an interval too late, and a second at least.
_LATE_INTERVALS = 0.5
_LATE_SECONDS = 1.0
#: Counted devices are saved in the guard's memory after this many seconds, or twice as many. If the
#: process dies, the next one counts again what was not saved. For this, all guards of a process
#: together save at most so often a second.
_SAVE_SECONDS, _SAVES_PER_SECOND = 15.0, 5.0

#: The guards of this process.
_measured: WeakSet[GuardMetrics] = WeakSet()


class GuardMetrics:
    """The metrics of one guard in one process.

    All but one are counters, so the sums over guards, processes and restarts are right: the rate of
    ``iotda.guards.running_seconds`` is the number of running guards.

    :param watch: the guard
    :param iotda_conn_id: the guard's connection, a tag of each metric
    """

    def __init__(self, watch: Watch, iotda_conn_id: str) -> None:
        self._watch = watch
        self._tags = {
            "iotda_conn_id": iotda_conn_id,
            metrics.BATCH_TASK_ID: "+".join(watch.plan.batch_task_ids),
        }
        self._began: float | None = None
        self._due = float("inf")
        # The highest counts so far: a retry lets the platform's count of failures fall.
        self._counted: dict[str, int] | None = None
        # A wave's guard goes on from what the guards of earlier tasks have counted.
        self._carried = watch.memory.started
        _measured.add(self)
        for name in _OF_GUARDS:
            metrics.begin(name, **self._tags)
        for name in _OF_CONNECTIONS:
            metrics.begin(name, iotda_conn_id=iotda_conn_id)

    def looked(self, began: float) -> None:
        """Measure a look, after its end.

        :param began: when it began, by ``time.monotonic()``
        """
        self._count("iotda.guards.looks", 1)
        if began > self._due:
            self._count("iotda.guards.looks_late", 1)
        interval = self._watch.interval
        self._due = began + interval + max(_LATE_INTERVALS * interval, _LATE_SECONDS)
        if self._began is not None:
            self._count("iotda.guards.running_seconds", began - self._began)
            if self._watch.blind_since is not None:
                self._count("iotda.guards.blind_seconds", began - self._began)
        self._began = began
        # An earlier process may have counted some devices, and its memory says which.
        if not self._watch.awaits_memory:
            self._count_devices()
        if (share := self._watch.share_of_bound) is not None:
            metrics.gauge("iotda.guards.evidence", round(share, 4), id(self), **self._tags)

    def over(self) -> None:
        """The guard has its outcome: it does not wait for an earlier process's memory any more."""
        self._count_devices()

    def ended(self) -> None:
        """The guard has ended here, or goes on in another process."""
        _measured.discard(self)
        metrics.gauge("iotda.guards.evidence", None, id(self), **self._tags)

    def _count_devices(self) -> None:
        if not self._watch.tasks:
            return
        seen = self._watch.progress_json
        if self._counted is None:
            self._counted = self._counted_before(seen["fail"])
        for name, metric in (("started", "started"), ("fail", "failed")):
            self._count(f"iotda.devices.{metric}", seen[name] - self._counted[name])
            if seen[name] > self._counted[name] and metrics.are_sent():
                self._save_soon()
            self._counted[name] = max(seen[name], self._counted[name])

    def _save_soon(self) -> None:
        if self._watch.save_by == float("inf"):
            pause = max(_SAVE_SECONDS, len(_measured) / _SAVES_PER_SECOND)
            self._watch.save_by = self._watch.clock() + random.uniform(pause, 2 * pause)  # noqa: S311

    def _counted_before(self, failed: int) -> dict[str, int]:
        """The most that the looks of earlier processes, or of earlier tasks, have seen.

        :param failed: the devices that have failed by now
        """
        memory = self._watch.memory
        looks = [look_of(record).progress for record in memory.recalled]
        started = max((look.started for look in looks), default=0)
        started = max(started, memory.recalled_started, self._carried)
        if started and not looks:
            # It is not known how many had failed: count those from now on.
            return {"started": started, "fail": failed}
        return {"started": started, "fail": max((look.fail for look in looks), default=0)}

    def _count(self, name: str, number: float) -> None:
        metrics.count(name, round(number, 3), **self._tags)


def shown(live: Shows, measured: GuardMetrics) -> None:
    """After a look of a release's guard: show it, and measure it."""
    measured.looked(time.monotonic())
    live.show()
