"""The sensor that guards a rollout: it watches until a rule breaks or the rollout has ended."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import (
    AirflowSensorTimeout,
    AirflowTaskTimeout,
    BaseSensorOperator,
    Context,
    PokeReturnValue,
    conf,
)

from iotda_provider.airflow_support.deferral import DeferrableTask
from iotda_provider.airflow_support.mapped_xcoms import MappedXComsAsLists
from iotda_provider.airflow_support.task_notes import owner_of
from iotda_provider.airflow_support.trigger_events import Event, nonsense
from iotda_provider.airflow_support.user_kills import note_try
from iotda_provider.exceptions import IoTDAError, TaskNotStoppableError
from iotda_provider.guards import FailureClasses, Rule
from iotda_provider.guards.audit import audit_header
from iotda_provider.links.rollout_guard import RolloutGuardLink
from iotda_provider.notifications.on_alert import OnAlert
from iotda_provider.notifications.telling_task import TellingTask
from iotda_provider.rollout_guard import GuardPlan, Memory, Outcome, Watch
from iotda_provider.rollout_guard import outcome as outcomes
from iotda_provider.rollout_guard.failure_tally import ClusterOf, check_cluster_of
from iotda_provider.rollout_guard.live_in_worker import LiveInWorker
from iotda_provider.rollout_guard.memory import fitted
from iotda_provider.rollout_guard.memory_store import (
    WorkerMemoryStore,
    forget_triggers_memory,
    load_triggers_memory,
)
from iotda_provider.rollout_guard.plan import (
    DEFAULT_POLL_INTERVAL,
    DEFAULT_STOP_TIMEOUT,
    ON_GUARD_LOST,
    read_rules,
)
from iotda_provider.rollout_guard.reporting import recorded
from iotda_provider.rollout_guard.worker import WorkerGuardIO, WorkerRecall
from iotda_provider.sensors.guard_loop import look_until_over, verified
from iotda_provider.task_io.connected import ConnectedTask
from iotda_provider.task_io.dag_parameters import (
    check_sensor_times,
    count_or_template,
    flag,
    ids_or_template,
    is_template,
    one_of,
    text_or_template,
)
from iotda_provider.task_io.parameters import as_count, batch_task_ids, positive, whole_number
from iotda_provider.task_io.reports import check_report_path, own_report_path, write_report
from iotda_provider.waiting.deadline import Deadline
from iotda_provider.waiting.outage import DEFAULT_MAX_OUTAGE

if TYPE_CHECKING:
    from iotda_provider.hooks.iotda import IoTDAHook

#: The most bytes of JSON of the XCom ``audit``; a file (``report_path``) has the whole trail.
_LARGEST_AUDIT = 18_000

Rules = Rule | Iterable[Rule | Mapping[str, Any]] | str


class RolloutGuardSensor(
    ConnectedTask, TellingTask, MappedXComsAsLists, DeferrableTask, BaseSensorOperator
):
    """Watch a rollout until a rule breaks or it ends; succeeds in both cases.

    It reads the platform's cumulative counts every ``poke_interval`` seconds, with one API call for
    each batch task, however many devices it has. So a restarted guard decides as if it had never
    been away. Some rules need more: classes, clusters or the devices with a failed attempt. For
    them it reads subtasks, too. With ``stop_on_breach`` it sends the stop itself, in the look that
    saw the breach, after saving the reason; a stop that fails is sent again at each look. Only a
    rollout that ended by itself is ``completed``. After ``max_outage`` without a usable look the
    guard tells a person, and goes on looking, less often, until its ``timeout``.

    XComs: the return value ``{"batch_task_id", "verdict": "breached" | "completed" |
    "stopped_elsewhere" | "lost", "rule", "evidence", "status", "progress", "stop", "summary",
    "shadow", "guard_lost"}``; ``summary``, the return value's sentence; ``audit``, the looks,
    thinned to 18 kB, unless there is a ``report_path``; ``rollout``, what is guarded and how, from
    the first look on; ``live``, the present state, about 1 kB, at least every minute
    (``LiveRecord``); and ``alert``, the last message to a person.

    :param batch_task_id: the batch task, or the list of batch tasks of one rollout, which is judged
        by its summed counts and stopped as a whole (templated)
    :param rules: the rules, as objects or as their JSON; the rollout is stopped when any of them
        breaks (templated)
    :param failure_classes: assigns failures to classes, if the default does not fit:
        ``{error code or "re:<expression>": "environment" | "firmware" | "unknown"}``
    :param cluster_of: the cluster of a device, for ``leave_worst_out``: a regular expression with
        one group that is searched for in the device id, or a mapping from device id to cluster
    :param already_current: how many targets ran the new version before the rollout began; the
        platform reports them as instant successes (templated)
    :param stop_on_breach: stop the rollout when a rule breaks
    :param shadow: decide and report, and never stop anything
    :param rehearse_stop: with ``stop_on_breach``, check when the guard begins whether this
        connection may stop the rollout. The check asks to stop a target that is in no batch task,
        so nothing is stopped. If it is refused, a person is told at once, and the guard goes on
    :param on_guard_lost: what to do when ``timeout`` is over before the rollout has ended:
        ``fail``, or ``stop`` the rollout and fail
    :param wait_for_stop: after a stop, wait until the rollout is at rest before reporting it
    :param stop_timeout: the most seconds of that wait
    :param notifiers: Airflow's notifiers that tell people of a hold, a breach, a stop, a stop that
        failed, and a guard that is blind or lost. In a template, ``message`` is the message, and
        ``event`` has ``kind``, ``sentence``, ``severity``, ``link``, ``batch_task_ids``, ``time``
        and ``progress``. A deferred guard needs notifiers that the triggerer can import; if it
        can't, the XCom ``alert`` (``notifier_missing``) and the log say so when the guard begins
    :param on_alert: a function, or the dotted path of one, that gets each event, as notifiers do
    :param report_path: URL of a file that gets the audit trail, one JSON object a line (templated)
    :param audit_limit: the most records of the audit trail, about 500 bytes each
    :param poke_interval: seconds between two looks
    :param timeout: seconds after which the guard's own time is over
    :param stop_on_kill: stop the rollout when a user ends this task instance
    :param deferrable: watch in the triggerer instead of in the worker
    :param max_outage: seconds without a usable look after which a person is told
    :param iotda_conn_id: the connection (templated)
    :param project_id: instead of the connection's (templated)
    :param instance_id: instead of the connection's (templated)
    :raises ValueError: a parameter is invalid; the message names it
    """

    template_fields: Sequence[str] = (
        "batch_task_id",
        "rules",
        "already_current",
        "report_path",
        "iotda_conn_id",
        "project_id",
        "instance_id",
    )
    operator_extra_links = (RolloutGuardLink(),)
    ui_color = "#e3eef4"

    def __init__(
        self,
        *,
        batch_task_id: str | Sequence[str],
        rules: Rules,
        failure_classes: FailureClasses | Mapping[str, str] | None = None,
        cluster_of: ClusterOf | None = None,
        already_current: Any = 0,
        stop_on_breach: bool = False,
        shadow: bool = False,
        rehearse_stop: bool = True,
        on_guard_lost: str = "fail",
        wait_for_stop: bool = True,
        stop_timeout: float = DEFAULT_STOP_TIMEOUT,
        notifiers: Iterable[Any] | None = None,
        on_alert: OnAlert | None = None,
        report_path: str | None = None,
        audit_limit: int = 200,
        poke_interval: float = DEFAULT_POLL_INTERVAL,
        stop_on_kill: bool = False,
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        max_outage: float = DEFAULT_MAX_OUTAGE,
        iotda_conn_id: str = "iotda_default",
        project_id: str | None = None,
        instance_id: str | None = None,
        **kwargs: Any,
    ) -> None:
        check_sensor_times({"poke_interval": poke_interval, **kwargs})
        super().__init__(poke_interval=poke_interval, **kwargs)
        self.batch_task_id = ids_or_template(batch_task_id)
        self.rules = rules
        self.failure_classes = FailureClasses.of(failure_classes)
        self.cluster_of = check_cluster_of(cluster_of)
        self.already_current = count_or_template(already_current, "already_current")
        self.stop_on_breach = flag(stop_on_breach, "stop_on_breach")
        self.shadow = flag(shadow, "shadow")
        self.rehearse_stop = flag(rehearse_stop, "rehearse_stop")
        self.on_guard_lost = one_of(on_guard_lost, "on_guard_lost", ON_GUARD_LOST)
        self.wait_for_stop = flag(wait_for_stop, "wait_for_stop")
        self.stop_timeout = positive(stop_timeout, "stop_timeout")
        self.report_path = text_or_template(report_path, "report_path", optional=True)
        self._report_template = report_path
        self.audit_limit = whole_number(audit_limit, "audit_limit")
        self.stop_on_kill = flag(stop_on_kill, "stop_on_kill")
        self.deferrable = flag(deferrable, "deferrable")
        self._tell_to(notifiers, on_alert, deferrable=deferrable)
        self.max_outage = positive(max_outage, "max_outage", zero=True)
        self._connect_to(iotda_conn_id, project_id, instance_id)
        self._watch: Watch | None = None
        self._check(kwargs)

    def _check(self, kwargs: Mapping[str, Any]) -> None:
        positive(self.poke_interval, "poke_interval")
        if self.shadow and self.stop_on_kill:
            raise ValueError("stop_on_kill: a guard with shadow=True never stops anything")
        if self.audit_limit < 10:
            raise ValueError(f"audit_limit must be at least 10, got {self.audit_limit}")
        for name in ("soft_fail", "silent_fail", "never_fail"):
            if kwargs.get(name):
                raise ValueError(f"{name} would hide that a rollout is not guarded: leave it out")
        if self.mode != "poke":
            raise ValueError(
                "mode: a guard runs in its worker ('poke') or, with deferrable=True, in the "
                "triggerer; with 'reschedule' nobody would guard between two looks"
            )
        if not is_template(self.rules):
            read_rules(self.rules, self.cluster_of)

    def execute(self, context: Context) -> Any:
        own_report_path(self, context)
        plan = self._plan()
        with self.hook() as hook:
            store = WorkerMemoryStore(context, self.log, hook)
            memory = Memory.from_json(None, plan.batch_task_ids, plan.audit_limit)
            self._watch = watch = Watch(plan, memory, self.log, clock=time.time)
            try:
                with self._io(hook, context) as io:
                    recall = partial(
                        store.recall, plan.batch_task_ids, plan.audit_limit, asks_again=True
                    )
                    earlier_memory = io.begin_recall(watch, recall)
                    io.try_on_alert(plan.batch_task_ids)
                    outcome = self._look_on(context, io, watch, earlier_memory)
                    outcome = outcome and verified(watch, io, outcome)
            except AirflowTaskTimeout:
                store.take_back(memory.to_json())
                raise
        if outcome is not None:
            return self._finish(context, watch, store, outcome)
        return self._defer(context, watch, store)

    def _look_on(
        self, context: Context, io: WorkerGuardIO, watch: Watch, earlier_memory: WorkerRecall
    ) -> Outcome | None:
        try:
            return look_until_over(
                watch,
                io,
                LiveInWorker(watch, io, context, self.log),
                earlier_memory,
                connection=self.connection,
                time_is_over=self._time_is_over(),
                deferrable=self.deferrable,
            )
        except AirflowTaskTimeout:
            # A retry may go on guarding, unless the user wants a stop now.
            if not watch.plan.stops_when_lost:
                raise
            return io.run(watch.give_up(io, "The task's execution_timeout is over."))

    def poke(self, context: Context) -> PokeReturnValue:
        """Look once; for tests, and for code that drives a sensor by hand."""
        if self._watch is None:
            plan = self._plan()
            self._watch = Watch(plan, Memory(plan.batch_task_ids), self.log, clock=time.time)
        with self.hook() as hook, self._io(hook, context) as io:
            outcome = io.run(self._watch.poll(io))
        return PokeReturnValue(outcome is not None, outcome.to_result() if outcome else None)

    def on_kill(self) -> None:
        """Stop the rollout if ``stop_on_kill`` is set."""
        if not self.stop_on_kill:
            return
        with self.hook() as hook:
            came = hook.stop_whole_tasks(batch_task_ids(self.batch_task_id))
        for batch_task_id, error in came.items():
            if isinstance(error, TaskNotStoppableError):
                self.log.info("The task was killed, and nothing was left to stop: %s", error)
            elif error is not None:
                what = f"batch task {batch_task_id} could not be stopped"
                self.log.error("The task was killed, but %s: %s", what, error)

    def _io(self, hook: IoTDAHook, context: Context) -> WorkerGuardIO:
        return WorkerGuardIO(hook, context, self.log, self.audience(context))

    def _plan(self) -> GuardPlan:
        self.report_path = check_report_path(self.report_path)
        return GuardPlan(
            batch_task_ids=batch_task_ids(self.batch_task_id),
            rules=read_rules(self.rules, self.cluster_of),
            failure_classes=self.failure_classes,
            cluster_of=self.cluster_of,
            already_current=as_count(self.already_current, "already_current"),
            stop_on_breach=self.stop_on_breach,
            shadow=self.shadow,
            rehearse_stop=self.rehearse_stop and self.stop_on_breach and not self.shadow,
            on_guard_lost=self.on_guard_lost,
            wait_for_stop=self.wait_for_stop,
            stop_timeout=self.stop_timeout,
            poll_interval=self.poke_interval,
            max_outage=self.max_outage,
            deadline=self._deadline().at,
            audit_limit=self.audit_limit,
        )

    def _deadline(self) -> Deadline:
        now = time.time()
        return Deadline.of(self.timeout, self.execution_timeout, began=now, now=now)

    def _time_is_over(self) -> str:
        return f"The guard's {self._deadline().limit} is over."

    def _defer(self, context: Context, watch: Watch, store: WorkerMemoryStore) -> None:
        from iotda_provider.triggers.rollout_guard import RolloutGuardTrigger

        store.hand_over(watch.memory.to_json())
        if self.stop_on_kill:
            note_try(context["ti"])
        trigger = RolloutGuardTrigger(
            plan={
                **watch.plan.to_dict(),
                "rehearse_stop": watch.plan.rehearse_stop and not watch.has_rehearsed,
            },
            owner=owner_of(context["ti"]),
            **self.told(context),
            **self.connection,
            stop_on_kill=self.stop_on_kill,
        )
        self.wait_in_triggerer(trigger, self._deadline(), self.poke_interval)

    def without_triggerer(self, context: Context) -> dict[str, Any]:
        # No triggerer has sent an event before Airflow's own time limit.
        with self.hook() as hook:
            watch, store = self._resumed_watch(context, hook)
            with self._io(hook, context) as io:
                outcome = io.run(watch.poll(io)) or io.run(watch.give_up(io, self._time_is_over()))
                outcome = verified(watch, io, outcome)
            return self._finish(context, watch, store, outcome)

    def waited_for(self, context: Context) -> Sequence[str]:
        return batch_task_ids(self.batch_task_id)

    def resumed(self, context: Context, event: Event) -> dict[str, Any]:
        """Verify and report the outcome of the trigger's watch.

        :raises IoTDAError: the trigger could not watch; or as :meth:`execute`
        """
        if event.result is None:
            raise event.error or nonsense(event, "it has no result")
        try:
            outcome = Outcome.from_result(event.result)
        except (KeyError, ValueError) as error:
            raise nonsense(event, str(error)) from None
        with self.hook() as hook:
            watch, store = self._resumed_watch(context, hook, event.memory)
            if outcome.stop is not None:
                # The event comes from the trigger itself, so its stop needs no signature.
                watch.memory.intent = watch.memory.intent or event.intent
            if outcome.stop is not None and watch.memory.intent is not None:
                with self._io(hook, context) as io:
                    outcome = io.run(watch.verify(io)) or outcome
            return self._finish(context, watch, store, outcome)

    def _resumed_watch(
        self, context: Context, hook: IoTDAHook, told: Any = None
    ) -> tuple[Watch, WorkerMemoryStore]:
        plan = self._plan()
        store = WorkerMemoryStore(context, self.log, hook)
        more = (told, load_triggers_memory(context))
        memory = store.recall(plan.batch_task_ids, plan.audit_limit, *more)
        return Watch(plan, memory, self.log, clock=time.time), store

    def _finish(
        self, context: Context, watch: Watch, store: WorkerMemoryStore, outcome: Outcome
    ) -> dict[str, Any]:
        """Report the outcome.

        :raises AirflowSensorTimeout: the guard's time was over before the rollout had ended
        :raises IoTDAError: the rollout had to be stopped, and could not be stopped
        """
        ti: Any = context["ti"]
        result = outcome.to_result()
        ti.xcom_push(key="summary", value=outcome.summary)
        store.take_back(watch.memory.to_json())
        facts = recorded(watch.memory, outcome.verdict)
        header = audit_header(watch.plan.rules, batch_task_id=result["batch_task_id"], **facts)
        trail = [header, *watch.memory.trail.records]
        failed = outcome.stop is not None and outcome.stop["outcome"] == outcomes.FAILED
        if outcome.guard_lost or failed or self.report_path:
            # Before anything that may fail, because a branch needs the return value even then.
            ti.xcom_push(key="return_value", value=result)
        if self.report_path:
            write_report(self.report_path, trail)
        else:
            short = fitted({"trail": watch.memory.trail.records}, _LARGEST_AUDIT)["trail"]
            ti.xcom_push(key="audit", value=[header, *short])
        forget_triggers_memory(context)
        is_well = outcome.verdict == outcomes.COMPLETED
        (self.log.info if is_well else self.log.warning)("%s", outcome.summary)
        if outcome.guard_lost:
            by_task = self._deadline().limit == "execution_timeout"
            raise (AirflowTaskTimeout if by_task else AirflowSensorTimeout)(outcome.summary)
        if failed:
            raise IoTDAError(outcome.summary)
        store.settle(watch.memory.to_json())
        return result
