"""What everything that guards a release in a worker shares: its rules, its memory, its files."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from iotda_provider.airflow_support.task_notes import owner_of
from iotda_provider.exceptions import IoTDAError
from iotda_provider.guards import FailureClasses, rules_to_json
from iotda_provider.operators.base import CONNECTION_FIELDS, IoTDABaseOperator
from iotda_provider.operators.release.plan import plan_of
from iotda_provider.release.release_guard import WaveWatch
from iotda_provider.release.storage import ReleaseFiles
from iotda_provider.release.worker import AskEvidence, WorkerReleaseIO
from iotda_provider.rollout_guard import GuardPlan, Memory
from iotda_provider.rollout_guard.alerts import OnAlert
from iotda_provider.rollout_guard.live_in_worker import LiveInWorker
from iotda_provider.rollout_guard.live_record import Ended
from iotda_provider.rollout_guard.memory_store import WorkerMemoryStore, signature_of
from iotda_provider.rollout_guard.plan import DEFAULT_STOP_TIMEOUT, read_rules
from iotda_provider.task_io.dag_parameters import airflow_id, function_or_path, is_template, texts
from iotda_provider.task_io.parameters import positive

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from iotda_provider.release.confirm_wave import WaveConfirming
    from iotda_provider.release.last_look import LastLook
    from iotda_provider.release.watch_wave import WaveWatching

STATE_KEY = "guard_state"
AUDIT_LIMIT = 100


class GuardedOperator(IoTDABaseOperator):
    """A task of a release with a guard of its own, which stops the release on a breach.

    :param plan_task_id: the task of ``PlanWavesOperator``
    :param rules: the guard's rules, as objects or as JSON of them (templated)
    :param failure_classes: how failures are classed, where the default does not fit
    :param after: task ids whose guards' state is carried on, the latest last
    :param on_alert: a function, or the dotted path of one, that is told what a person should know
    :param poll_interval: seconds between two looks
    :param keeper_task_id: a task that starts after all waves, with a copy of what was confirmed, so
        that it outlives a cleared plan; None: there is none
    :param iotda_conn_id: the connection (templated)
    :param project_id: instead of the connection's (templated)
    :param instance_id: instead of the connection's (templated)
    """

    template_fields: Sequence[str] = ("rules", *CONNECTION_FIELDS)

    def __init__(
        self,
        *,
        plan_task_id: str,
        rules: Any,
        failure_classes: FailureClasses | Mapping[str, str] | None = None,
        after: Sequence[str] = (),
        on_alert: OnAlert | None = None,
        poll_interval: float = 10,
        keeper_task_id: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.plan_task_id = airflow_id(plan_task_id, "plan_task_id")
        self.rules = rules if is_template(rules) else rules_to_json(read_rules(rules))
        self.failure_classes = FailureClasses.of(failure_classes)
        self.after = texts(after, "after")
        self.on_alert = function_or_path(on_alert, "on_alert")
        self.poll_interval = positive(poll_interval, "poll_interval")
        self.keeper_task_id = airflow_id(keeper_task_id, "keeper_task_id", optional=True)

    def files(self, context: Context) -> ReleaseFiles:
        """Where waves and confirmations are written down."""
        ti = context["ti"]
        plan = plan_of(ti, self.plan_task_id)
        return ReleaseFiles.of(plan, ti, self.plan_task_id, self.keeper_task_id)

    def watch_over(self, batch_task_id: str, memory: Memory) -> WaveWatch:
        """The guard."""
        plan = GuardPlan(
            batch_task_ids=(batch_task_id,),
            rules=read_rules(self.rules),
            failure_classes=self.failure_classes,
            stop_on_breach=True,
            stop_timeout=DEFAULT_STOP_TIMEOUT,
            poll_interval=self.poll_interval,
            max_outage=self.max_outage,
            audit_limit=AUDIT_LIMIT,
        )
        return WaveWatch(plan, memory, self.log, clock=time.time)

    def memory_of(self, context: Context, batch_task_id: str) -> Memory:
        """What the guard remembers of this task's tries, or of the tasks before it."""
        about = (batch_task_id,)
        ti: Any = context["ti"]
        with self.hook() as hook:
            memory = WorkerMemoryStore(context, self.log, hook).recall(about, AUDIT_LIMIT)
            for task_id in reversed(self.after):
                if memory.state:
                    break
                left = ti.xcom_pull(task_ids=task_id, key=STATE_KEY)
                theirs = signature_of(hook, {**owner_of(ti), "task_id": task_id})
                memory.state = theirs.recall(left, batch_task_ids=about).state
        return memory

    def kept(self, context: Context) -> WorkerMemoryStore:
        """Where the guard's memory is kept."""
        with self.hook() as hook:
            return WorkerMemoryStore(context, self.log, hook)

    def carry_out(
        self,
        context: Context,
        procedure: WaveConfirming | WaveWatching | LastLook,
        watch: WaveWatch,
        *,
        ask: AskEvidence | None = None,
        waits: bool = True,
    ) -> dict[str, Any]:
        """The result of a procedure, carried out in this worker.

        :param watch: the guard that it looks through

        :raises MustWaitError: it has to wait, and ``waits`` says not here
        :raises IoTDAError: as the procedure does; what the guard remembers is kept
        """
        memory = watch.memory
        try:
            with (
                self.hook() as hook,
                WorkerReleaseIO(
                    hook,
                    context,
                    self.log,
                    self.on_alert,
                    files=self.files(context),
                    ask=ask,
                    waits=waits,
                ) as io,
            ):
                io.try_on_alert(memory.batch_task_ids)
                live = LiveInWorker(watch, io, context, self.log)
                io.show = live.show
                result = io.run(procedure.run(io))
                live.settle(Ended(result["verdict"], result["summary"]))
                return result
        except IoTDAError:
            self.kept(context).take_back(memory.to_json())
            raise

    def leave(self, context: Context, memory: Memory) -> None:
        """Leave behind what the next try would know, and what later guards go on with."""
        ti: Any = context["ti"]
        kept = self.kept(context)
        kept.take_back(memory.to_json())
        left = Memory(memory.batch_task_ids, state=memory.state)
        ti.xcom_push(key=STATE_KEY, value=kept.signature.sign(left.to_json()))

    def settle(self, context: Context, memory: Memory) -> None:
        """The guard has ended well: leave no more behind than one that is cleared has to know."""
        self.kept(context).settle(memory.to_json())
