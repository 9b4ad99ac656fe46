"""What the operators of one wave share: its parameters, its guard, and where it waits."""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn

from airflow.providers.common.compat.sdk import Context, conf

from iotda_provider.airflow_support.deferral import DeferrableTask
from iotda_provider.airflow_support.task_notes import owner_of
from iotda_provider.airflow_support.trigger_events import ASK, Event
from iotda_provider.exceptions import IoTDAError
from iotda_provider.guards import FailureClasses, rules_to_json
from iotda_provider.guards.audit import audit_header
from iotda_provider.notifications.on_alert import OnAlert
from iotda_provider.notifications.telling_task import TellingTask
from iotda_provider.operators.base import CONNECTION_FIELDS, IoTDABaseOperator
from iotda_provider.operators.release.plan import created_parts, plan_of
from iotda_provider.operators.release.results import TaskResult, number_in
from iotda_provider.release.confirm_wave import CONFIRMED
from iotda_provider.release.create_wave import CREATED
from iotda_provider.release.manifest import Part
from iotda_provider.release.release_guard import ReleaseGuard
from iotda_provider.release.release_io import ReleaseProcedure
from iotda_provider.release.storage import ReleaseFiles
from iotda_provider.release.watch_wave import PASSED, REJECTED, UNPROVEN
from iotda_provider.release.worker import MustWaitError, UsersFunctions, WorkerReleaseIO
from iotda_provider.rollout_guard import GuardPlan, Memory
from iotda_provider.rollout_guard.guard_metrics import GuardMetrics, shown
from iotda_provider.rollout_guard.live_in_worker import LiveInWorker
from iotda_provider.rollout_guard.live_record import Ended
from iotda_provider.rollout_guard.memory_store import (
    WorkerMemoryStore,
    forget_triggers_memory,
    load_triggers_memory,
    signature_of,
)
from iotda_provider.rollout_guard.plan import DEFAULT_STOP_TIMEOUT, read_rules
from iotda_provider.rollout_guard.reporting import afterwards, recorded
from iotda_provider.task_io.dag_parameters import (
    airflow_id,
    flag,
    is_template,
    texts,
)
from iotda_provider.task_io.parameters import positive, whole_number
from iotda_provider.waiting.deadline import Deadline

if TYPE_CHECKING:
    from iotda_provider.triggers.release import WaveTrigger

STATE_KEY = "guard_state"
#: Key of the XCom from which ``iotda-guard fit`` learns how late failures report.
DELAYS_KEY = "delays"
AUDIT_LIMIT = 100


class GuardedOperator(TellingTask, IoTDABaseOperator):
    """A task of a release with a guard of its own, which stops the release on a breach.

    :param plan_task_id: the task of ``PlanWavesOperator``
    :param rules: the guard's rules, as objects or as JSON of them (templated)
    :param failure_classes: how failures are classed, where the default does not fit
    :param after: task ids whose guards' state is carried on, the latest last
    :param notifiers: Airflow's notifiers that tell people, as of ``RolloutGuardSensor``
    :param on_alert: a function, or the dotted path of one, that gets each event, as notifiers do
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
        notifiers: Iterable[Any] | None = None,
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
        self._tell_to(notifiers, on_alert, deferrable=False)
        self.poll_interval = positive(poll_interval, "poll_interval")
        self.keeper_task_id = airflow_id(keeper_task_id, "keeper_task_id", optional=True)

    def files(self, context: Context) -> ReleaseFiles:
        """Where waves and confirmations are written down."""
        ti = context["ti"]
        plan = plan_of(ti, self.plan_task_id)
        return ReleaseFiles.of(plan, ti, self.plan_task_id, self.keeper_task_id)

    def watch_over(self, memory: Memory) -> ReleaseGuard:
        """The guard of the batch tasks that the memory is about."""
        plan = GuardPlan(
            batch_task_ids=memory.batch_task_ids,
            rules=read_rules(self.rules),
            failure_classes=self.failure_classes,
            stop_on_breach=True,
            stop_timeout=DEFAULT_STOP_TIMEOUT,
            poll_interval=self.poll_interval,
            max_outage=self.max_outage,
            audit_limit=AUDIT_LIMIT,
        )
        return ReleaseGuard(plan, memory, self.log, clock=time.time)

    def memory_of(self, context: Context, batch_task_ids: tuple[str, ...]) -> Memory:
        """What the guard remembers of these batch tasks, in this task or in tasks before it."""
        ti: Any = context["ti"]
        with self.hook() as hook:
            memory = WorkerMemoryStore(context, self.log, hook).recall(batch_task_ids, AUDIT_LIMIT)
            for task_id in reversed(self.after):
                if memory.state:
                    break
                left = ti.xcom_pull(task_ids=task_id, key=STATE_KEY)
                theirs = signature_of(hook, {**owner_of(ti), "task_id": task_id})
                known = (left or {}).get("batch_task_ids") if isinstance(left, Mapping) else None
                about = tuple(one for one in batch_task_ids if one in (known or ()))
                recalled = theirs.recall(left, batch_task_ids=about)
                memory.state, memory.retrying = recalled.state, recalled.retrying
        return memory

    def memory_store(self, context: Context) -> WorkerMemoryStore:
        """Where the guard's memory is stored."""
        with self.hook() as hook:
            return WorkerMemoryStore(context, self.log, hook)

    def carry_out(
        self,
        context: Context,
        procedure: ReleaseProcedure,
        watch: ReleaseGuard,
        *,
        ask: UsersFunctions | None = None,
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
                    self.audience(context),
                    files=self.files(context),
                    ask=ask,
                    waits=waits,
                ) as io,
            ):
                io.try_on_alert(memory.batch_task_ids)
                live = LiveInWorker(watch, io, context, self.log)
                io.show = partial(shown, live, GuardMetrics(watch, self.iotda_conn_id))
                result = io.run(procedure.run(io))
                live.settle(Ended(result["verdict"], result["summary"]))
                return result
        except IoTDAError:
            self.memory_store(context).take_back(memory.to_json())
            raise

    def leave_memory(self, context: Context, memory: Memory) -> None:
        """Leave behind what the next try and later guards need."""
        ti: Any = context["ti"]
        store = self.memory_store(context)
        store.take_back(memory.to_json())
        left = Memory(memory.batch_task_ids, state=memory.state, retrying=memory.retrying)
        ti.xcom_push(key=STATE_KEY, value=store.signature.sign(left.to_json()))

    def settle_memory(self, context: Context, memory: Memory) -> None:
        """The guard has ended well: keep only what it must know if somebody clears it."""
        self.memory_store(context).settle(memory.to_json())


__all__ = ["CONFIRMED", "CREATED", "PASSED", "REJECTED", "SURPLUS", "UNPROVEN", "WaveOperator"]
SURPLUS = "surplus"


class WaveOperator(DeferrableTask, GuardedOperator):
    """One task of one wave.

    It decides by what the platform says now, by the manifest and by the record of confirmations. So
    a task that was killed and started again goes on where it was.
    With ``deferrable`` it works in its worker for as long as there is something to do, and waits in
    the triggerer, where the guard goes on looking and sends the stop itself.

    :param wave: which wave, from 1
    :param create_task_id: the ``CreateWaveOperator`` whose result names the batch tasks so far: the
        wave's own, or to create it that of the wave before; None: nothing was created before
    :param plan_task_id: the task of ``PlanWavesOperator``
    :param rules: the guard's rules, as objects or as JSON of them (templated)
    :param failure_classes: how failures are classed, where the default does not fit
    :param after: task ids whose guards' state is carried on, the latest last
    :param notifiers: Airflow's notifiers that tell people, as of ``RolloutGuardSensor``; a deferred
        wave needs ones that the triggerer can import
    :param on_alert: a function, or the dotted path of one, that gets each event, as notifiers do
    :param poll_interval: seconds between two looks
    :param deferrable: wait in the triggerer instead of in the worker
    :param keeper_task_id: a task that starts after all waves, with a copy of what was confirmed, so
        that it outlives a cleared plan; None: there is none
    :param iotda_conn_id: the connection (templated)
    :param project_id: instead of the connection's (templated)
    :param instance_id: instead of the connection's (templated)
    """

    def __init__(
        self,
        *,
        wave: int,
        create_task_id: str | None = None,
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.wave = whole_number(wave, "wave")
        self.create_task_id = airflow_id(create_task_id, "create_task_id", optional=True)
        self.deferrable = flag(deferrable, "deferrable")
        self._tell_to(self.notifiers, self.on_alert, deferrable=self.deferrable)

    # --- what a subclass says ---------------------------------------------------------------------

    #: The `ReleaseProcedure` that does the job, and the class in ``triggers.release`` that goes on.
    procedure_class: ClassVar[type[Any]]
    trigger_name: ClassVar[str]

    @abstractmethod
    def begin(self, context: Context, plan: Mapping[str, Any], parts: Sequence[Part]) -> Any:
        """The job of this task, or its result if there is nothing to do.

        :param plan: what the plan task has returned
        :param parts: the batch tasks that are guarded meanwhile
        """

    def is_guarded(self, part: Part) -> bool:
        """Whether this task guards a batch task of the release; it is the same in all its tries."""
        return True

    def conclude(self, context: Context, files: ReleaseFiles, result: dict[str, Any]) -> None:
        """Push the XComs besides the return value."""

    def asks(self) -> UsersFunctions | None:
        """The user's functions that a worker calls; None: none."""
        return None

    # --- in the worker ----------------------------------------------------------------------------

    def execute(self, context: Context) -> dict[str, Any]:
        began = time.time()
        plan = plan_of(context["ti"], self.plan_task_id)
        if self.wave > len(plan["waves"]):
            return self.surplus()
        job = self.begin(context, plan, self.guarded(context))
        if isinstance(job, Mapping):
            return self.logged(dict(job))
        memory = self.memory_of(context, job.batch_task_ids)
        return self._work(context, job, memory, began=began)

    def guarded(self, context: Context) -> list[Part]:
        """The batch tasks that this task guards: all that were created, by earlier passes, too."""
        if self.create_task_id is None:
            parts = self.files(context).created_parts()
        else:
            parts = created_parts(context["ti"], self.create_task_id)
        return [part for part in parts if self.is_guarded(part)]

    def _work(self, context: Context, job: Any, memory: Memory, *, began: float) -> dict[str, Any]:
        """Do the job here; if it is deferrable, only until it has to wait."""
        watch = self.watch_over(memory)
        procedure = self.procedure_class(job, watch)
        try:
            result = self.carry_out(
                context, procedure, watch, ask=self.asks(), waits=not self.deferrable
            )
        except MustWaitError as wait:
            self._defer(context, job, watch, began=began, wait=wait.seconds)
        return self._finish(context, memory, result)

    # --- in the triggerer -------------------------------------------------------------------------

    def _defer(
        self, context: Context, job: Any, watch: ReleaseGuard, *, began: float, wait: float
    ) -> NoReturn:
        """Wait in the triggerer; ``self`` is lost on the way, so what is known travels along."""
        from iotda_provider.triggers import release as triggers

        ti: Any = context["ti"]
        now = time.time()
        self.memory_store(context).hand_over(watch.memory.to_json())
        whole = self.execution_timeout
        trigger: WaveTrigger = getattr(triggers, self.trigger_name)(
            # The wave finds by itself the batch tasks that it has created meanwhile.
            guard={**watch.plan.to_dict(), "batch_task_ids": list(job.batch_task_ids)},
            job=job.to_json(),
            files=self.files(context).to_json(),
            owner=owner_of(ti),
            began=began,
            starts_at=now + wait,
            deadline=None if whole is None else began + whole.total_seconds(),
            **self.told(context),
            **self.connection,
        )
        # Beyond its time it may have to see a stop come true.
        left = max(0.0, job.deadline - now) + watch.plan.stop_timeout
        limit = Deadline.of(left, whole, began=began, now=now)
        self.wait_in_triggerer(trigger, limit, max(self.poll_interval, wait))

    def waited_for(self, context: Context) -> Sequence[str]:
        return [str(part.batch_task_id) for part in self.guarded(context)]

    def resumed(self, context: Context, event: Event) -> dict[str, Any]:
        store = self.memory_store(context)
        more = (event.memory, load_triggers_memory(context))
        memory = store.recall(event.batch_task_ids, AUDIT_LIMIT, *more)
        if event.result is not None:
            return self._finish(context, memory, dict(event.result))
        if event.status == ASK:
            memo = TaskResult(event.memo, "the trigger")
            job = self.procedure_class.job_class.from_json(memo["job"])
            return self._work(context, job, memory, began=number_in(memo, "began"))
        store.take_back(memory.to_json())
        forget_triggers_memory(context)
        raise self.error_of(event)

    # --- the end ----------------------------------------------------------------------------------

    def _finish(self, context: Context, memory: Memory, result: dict[str, Any]) -> dict[str, Any]:
        self.leave_memory(context, memory)
        self._tell_of_delays(context, memory, result)
        self.conclude(context, self.files(context), result)
        self.settle_memory(context, memory)
        forget_triggers_memory(context)
        return self.logged(result)

    def _tell_of_delays(self, context: Context, memory: Memory, result: dict[str, Any]) -> None:
        """Leave how late failures were reported; after the last wave, say if they came sooner."""
        ti: Any = context["ti"]
        rules, verdict = read_rules(self.rules), str(result["verdict"])
        ti.xcom_push(key=DELAYS_KEY, value=[audit_header(rules, **recorded(memory, verdict))])
        is_last = self.wave == len(plan_of(ti, self.plan_task_id)["waves"])
        if is_last and verdict in (PASSED, UNPROVEN):
            result["summary"] += afterwards(rules, memory.state)[0]

    def logged(self, result: dict[str, Any]) -> dict[str, Any]:
        """Log a result's sentence, as a warning if it is bad, and return the result."""
        well = result["verdict"] in (CREATED, CONFIRMED, PASSED, SURPLUS)
        (self.log.info if well else self.log.warning)("%s", result["summary"])
        return result

    def surplus(self) -> dict[str, Any]:
        """The result of a wave that this release does not have."""
        return self.logged(
            {
                "wave": self.wave,
                "verdict": SURPLUS,
                "summary": f"There is no wave {self.wave} in this release.",
            }
        )
