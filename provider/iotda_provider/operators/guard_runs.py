"""The operators that find rollouts without a guard run."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from itertools import product
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import Context, conf

from iotda_provider.airflow_support.guard_runs import GUARD_DAG_ID, GuardRuns, find_guard_runs
from iotda_provider.exceptions import IoTDAError
from iotda_provider.models import BatchTask, TaskStatus
from iotda_provider.models.statuses import STOPPABLE_UPGRADES, UNDER_WAY
from iotda_provider.notifications.telling_task import TellingTask
from iotda_provider.operators.base import CONNECTION_FIELDS, IoTDABaseOperator
from iotda_provider.operators.guard_liveness import (
    check_heartbeat_url,
    find_overdue_guards,
    find_paused_releases,
    left_before,
    report_overdue_guards,
    send_heartbeat,
)
from iotda_provider.operators.release.own_tasks import find_own_tasks, own_stamps
from iotda_provider.procedures.create_once import is_of_release
from iotda_provider.task_io.dag_parameters import airflow_id, one_of, texts
from iotda_provider.task_io.parameters import batch_task_ids, none_if_blank, whole_number
from iotda_provider.waiting.outage import is_gone, may_pass

if TYPE_CHECKING:
    from iotda_provider.hooks.iotda import IoTDAHook

#: The types of batch tasks that a guard can stop.
_UPGRADES = tuple(map(str, STOPPABLE_UPGRADES))
_UNDER_WAY = (TaskStatus.INITIALIZING, TaskStatus.WAITING, TaskStatus.PROCESSING)
#: Key of the XCom that says since when each rollout has had no guard that watches it.
_SINCE = "without_guard_since"
#: Key of the XCom that says since when each rollout waits for its next guard run.
_GIVEN_UP = "given_up_since"
#: Seconds for reading whether guards still watch; and for all that, with messages and heartbeat, if
#: rollouts wait for their guards meanwhile.
_SECONDS_TO_READ, _SECONDS_IF_ROLLOUTS_WAIT = 30.0, 5.0
#: Seconds until the next guard run of a rollout of which many have failed.
_PAUSE = 3600.0


class FindUnguardedRolloutsOperator(TellingTask, IoTDABaseOperator):
    """Find the running rollouts that have no guard run, and return the runs to start.

    Returns rows of ``{"trigger_run_id", "conf": {"batch_task_id"}}`` to map a
    ``TriggerDagRunOperator`` over; the list is empty if every rollout has its guard. The id of a
    run is made from the rollout's id and a secret (the Variable
    ``iotda_provider.guard_run_secret``), so a run that somebody starts by hand never counts as the
    guard.

    Two kinds of rollouts get no guard run: those of which every device waits to be confirmed, which
    get one at the look after the first device has started; and the batch tasks of a release, which
    the release guards itself.

    If one of the platform's lists can't be read, the look starts the guards of the others' rollouts
    and does nothing else, not even the heartbeat. If there are none to start, it fails.

    If a guard run has ended and its rollout runs (again), another one takes its place (``...__2``
    and so on). After ``most_failed`` failed guard runs of a rollout the next one starts after an
    hour, and so on; until then each look logs an error that the rollout is not guarded.

    Each look logs an error for a rollout that has had no guard for longer than
    ``most_seconds_without_guard``: nothing starts the run, or its guard does not watch. It also
    logs an error for a guard whose XCom ``live``, which is written at least every minute, is
    overdue: its triggerer is dead or full; and for a release to device groups whose DAG is paused
    (not on Airflow 3.1). People are told of each once an hour.

    :param guard_dag_id: the DAG that guards one rollout; its parameter is ``batch_task_id``, and
        its task ``guard`` watches
    :param task_types: the types of batch tasks that are guarded
    :param most_failed: how many guard runs of one rollout may fail, each after its own retries,
        until there is an hour before each further one
    :param most_seconds_without_guard: how many seconds a rollout may run until its guard watches
    :param notifiers: Airflow's notifiers that tell people of overdue guards and paused releases
        (the event is ``overdue``, as of ``RolloutGuardSensor``)
    :param heartbeat_url: an https URL that is requested (GET) at each successful look, so that a
        service outside notices if Airflow itself is dead; the answer changes nothing
    :param iotda_conn_id: the connection (templated)
    :param project_id: instead of the connection's (templated)
    :param instance_id: instead of the connection's (templated)
    :raises ValueError: a parameter is invalid; the message names it
    """

    template_fields: Sequence[str] = CONNECTION_FIELDS

    def __init__(
        self,
        *,
        guard_dag_id: str = GUARD_DAG_ID,
        task_types: Sequence[str] = ("firmwareUpgrade", "softwareUpgrade"),
        most_failed: int = 5,
        most_seconds_without_guard: float = 180,
        notifiers: Iterable[Any] | None = None,
        heartbeat_url: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.guard_dag_id = airflow_id(guard_dag_id, "guard_dag_id")
        self.task_types = tuple(
            one_of(kind, "task_types", _UPGRADES) for kind in texts(task_types, "task_types")
        )
        self.most_failed = whole_number(most_failed, "most_failed")
        self.most_seconds_without_guard = whole_number(
            most_seconds_without_guard, "most_seconds_without_guard"
        )
        self._tell_to(notifiers, deferrable=False)
        self.heartbeat_url = check_heartbeat_url(heartbeat_url)

    def execute(self, context: Context) -> list[dict[str, Any]]:
        ti: Any = context["ti"]
        with self.hook() as hook:
            rollouts, of_releases, trouble = self._rollouts_to_guard(hook)
            runs = find_guard_runs(
                ti, rollouts, dag_id=self.guard_dag_id, most_failed=self.most_failed
            )
            missing = {
                batch_task_id: run_id
                for batch_task_id, run_id in runs.missing.items()
                # The rollout may have ended, and its guard with it, after the list was read.
                if batch_task_id not in runs.replaced
                or _may_be(hook, batch_task_id, lambda status: status in _UNDER_WAY)
            }
        if trouble is None:
            missing |= self._after_a_pause(context, rollouts, runs.given_up)
        elif not missing:
            raise trouble
        self._log_runs(rollouts, runs, missing)
        if trouble is None:  # the heartbeat, and what looks tell each other, are about all rollouts
            self._log_long_waits(context, {**runs.unwatched, **missing})
            # Rollouts that wait for their guards come first.
            paused = find_paused_releases(ti, self.log) if of_releases and not missing else None
            self._see_that_guards_watch(context, rollouts, runs, waits=bool(missing), paused=paused)
        most = conf.getint("core", "max_map_length", fallback=1024)
        if len(missing) > most:
            self.log.error(
                "%d rollouts need a guard; %d get one now, the others at the next looks.",
                len(missing),
                most,
            )
        return _rows(missing)[:most]

    def _see_that_guards_watch(
        self,
        context: Context,
        rollouts: Mapping[str, BatchTask],
        runs: GuardRuns,
        *,
        waits: bool,
        paused: Mapping[str, str] | None = None,
    ) -> None:
        """Report overdue guards and paused releases, and send the heartbeat.

        :param waits: whether rollouts get their guards only after this
        :param paused: a sentence for each paused release
        """
        ends = time.monotonic() + (_SECONDS_IF_ROLLOUTS_WAIT if waits else _SECONDS_TO_READ)

        def is_over() -> bool:
            return time.monotonic() >= ends

        overdue = find_overdue_guards(context, runs.watched, self.guard_dag_id, self.log, is_over)
        report_overdue_guards(
            context,
            overdue,
            rollouts,
            self.audience(context),
            self.log,
            is_urgent=lambda: waits and is_over(),
            paused=paused,
        )
        if self.heartbeat_url is not None:
            left = max(1.0, ends - time.monotonic()) if waits else 10.0
            send_heartbeat(self.heartbeat_url, self.log, left)

    def _rollouts_to_guard(
        self, hook: IoTDAHook
    ) -> tuple[dict[str, BatchTask], int, IoTDAError | None]:
        """The running rollouts by id, without those that need no guard run; how many of these are
        of releases; and the error of a list that can't be read, which fails this task unless some
        of the other lists' rollouts wait for their guards."""
        found: dict[str, BatchTask] = {}
        trouble: IoTDAError | None = None
        for kind, status in product(self.task_types, _UNDER_WAY):
            try:
                for task in hook.list_batch_tasks(task_type=kind, status=str(status)):
                    found[task.task_id] = task
            except IoTDAError as error:
                if not may_pass(error):
                    raise
                trouble = error
                self.log.error("A %s that is %s may have NO GUARD: %s", kind, status, error)
        of_releases = [each for each in found.values() if is_of_release(each.task_name)]
        others = [each for each in found.values() if not is_of_release(each.task_name)]
        held = {each.task_id for each in others if _holds_all(hook, each)}
        self.log.info(
            "%d rollouts are running. Left out: %d of releases, which guard them themselves, and "
            "%d of which every device waits to be confirmed.",
            len(found),
            len(of_releases),
            len(held),
        )
        unheld = {each.task_id: each for each in others if each.task_id not in held}
        return unheld, len(of_releases), trouble

    def _log_runs(
        self, rollouts: Mapping[str, BatchTask], runs: GuardRuns, missing: Mapping[str, str]
    ) -> None:
        for batch_task_id, run_id in missing.items():
            task = rollouts[batch_task_id]
            log, line = self.log.info, "%s (%s) gets the guard %s. %s"
            if batch_task_id in runs.replaced:
                log = self.log.warning
                line = "%s (%s) runs, and its guard has ended: %s takes its place. %s"
            log(line, batch_task_id, task.task_name, run_id, task.progress)

    def _after_a_pause(
        self, context: Context, rollouts: Mapping[str, BatchTask], given_up: Mapping[str, str]
    ) -> dict[str, str]:
        """The next guard runs of rollouts of which many have failed, where the last is long ago."""
        now, due = time.time(), {}
        for batch_task_id, moment in _keep_since(context, _GIVEN_UP, given_up, now).items():
            left = moment + _PAUSE - now
            if left <= 0:
                due[batch_task_id] = given_up[batch_task_id]
            self.log.error(
                "%s (%s) IS NOT GUARDED: %d guard runs or more have failed; their logs say why. "
                "The next one starts %s. To start one at once, trigger %s with "
                '{"batch_task_id": "%s"}.',
                batch_task_id,
                rollouts[batch_task_id].task_name,
                self.most_failed,
                f"in {left / 60:.0f} minutes" if left > 0 else "now",
                self.guard_dag_id,
                batch_task_id,
            )
        return due

    def _log_long_waits(self, context: Context, waiting: Mapping[str, str]) -> None:
        """Log an error for each rollout without a guard for too long."""
        now = time.time()
        for batch_task_id, moment in _keep_since(context, _SINCE, waiting, now).items():
            waited = now - moment
            if waited > self.most_seconds_without_guard:
                self.log.error(
                    "%s HAS HAD NO GUARD FOR %.0f MINUTES: %s is not started, or nothing watches "
                    "in it. Is %s paused? Are there workers, triggerers and pool slots for it?",
                    batch_task_id,
                    waited / 60,
                    waiting[batch_task_id],
                    self.guard_dag_id,
                )


def _keep_since(
    context: Context, key: str, waiting: Collection[str], now: float
) -> dict[str, float]:
    """Since when each of these has waited, in seconds since the epoch; an XCom keeps that."""
    ti: Any = context["ti"]
    since = _since(left_before(ti, key), waiting, now)
    ti.xcom_push(key=key, value=since)
    return since


def _since(before: Mapping[str, Any], waiting: Collection[str], now: float) -> dict[str, float]:
    """Since when each of these has waited, in seconds since the epoch."""
    return {
        each: min(now, float(before[each])) if isinstance(before.get(each), (int, float)) else now
        for each in waiting
    }


def _holds_all(hook: IoTDAHook, task: BatchTask) -> bool:
    """Whether every device of a batch task waits to be confirmed.

    If the list leaves out what says so, the batch task itself is read. If that can't be read, the
    answer is no, so that the rollout gets its guard.
    """
    if task.progress.started:
        return False
    if task.raw.get("need_confirm") is None or not task.raw.get("task_progress"):
        try:
            task = hook.get_batch_task(task.task_id)
        except IoTDAError:
            return False
    begun = task.progress.started or task.lacks_counts
    return task.raw.get("need_confirm") is True and not begun


def _may_be(hook: IoTDAHook, batch_task_id: str, is_so: Callable[[TaskStatus], bool]) -> bool:
    """Whether ``is_so`` is true of the status; yes if it can't be read, no if the task is gone."""
    try:
        return is_so(hook.get_batch_task(batch_task_id).status)
    except IoTDAError as error:
        return not is_gone(error)


def _rows(runs: Mapping[str, str]) -> list[dict[str, Any]]:
    """What ``TriggerDagRunOperator`` is mapped over, to start a run for each batch task."""
    return [
        {"trigger_run_id": run_id, "conf": {"batch_task_id": batch_task_id}}
        for batch_task_id, run_id in runs.items()
    ]


class FindUnfinishedOfReleaseOperator(IoTDABaseOperator):
    """At the end of a release, find its batch tasks that go on, and return guard runs for them.

    Without these runs nobody guards them, as ``rollout_guard`` starts none for a release's batch
    tasks. Returns rows of ``{"trigger_run_id", "conf": {"batch_task_id"}}`` to map a
    ``TriggerDagRunOperator`` over; the list is empty if all have ended or have a guard run. The
    batch tasks are found by the stamp of the task that creates them. If the platform does not
    answer, those of ``batch_task_id`` get a guard anyway; without any, this task fails.

    Make this task, and the task that starts the runs, teardowns (``as_teardown()``), because
    Airflow runs teardowns even if somebody marks the release as failed or successful.

    :param create_task_id: the task of this DAG that creates the release's batch task, or the list
        of those that do
    :param batch_task_id: the known batch task, or the list of them; None or blank: those with the
        stamp only (templated)
    :param guard_dag_id: the DAG that guards one rollout
    :param iotda_conn_id: the connection (templated)
    :param project_id: instead of the connection's (templated)
    :param instance_id: instead of the connection's (templated)
    :raises ValueError: a parameter is invalid; the message names it
    """

    template_fields: Sequence[str] = ("batch_task_id", *CONNECTION_FIELDS)

    def __init__(
        self,
        *,
        create_task_id: str | Sequence[str] = "create",
        batch_task_id: Any = None,
        guard_dag_id: str = GUARD_DAG_ID,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        ids = (create_task_id,) if isinstance(create_task_id, str) else create_task_id
        self.create_task_ids = tuple(
            airflow_id(one, "create_task_id") for one in texts(ids, "create_task_id")
        )
        self.batch_task_id = batch_task_id
        self.guard_dag_id = airflow_id(guard_dag_id, "guard_dag_id")

    def execute(self, context: Context) -> list[dict[str, Any]]:
        ti: Any = context["ti"]
        ids = none_if_blank(self.batch_task_id)
        known = () if ids is None else batch_task_ids(ids, empty=True)
        with self.hook() as hook:
            found, trouble = [], None
            try:
                found = self._by_stamp(hook, context)
            except IoTDAError as error:
                self.log.error("The batch tasks of this release can't be found: %s", error)
                trouble = error
            every = dict.fromkeys([*known, *found])
            unfinished = [
                each for each in every if _may_be(hook, each, lambda status: not status.is_terminal)
            ]
        if not unfinished and trouble is not None:
            raise trouble
        if not unfinished:
            self.log.info("No batch task of this release goes on.")
            return []
        runs = find_guard_runs(ti, unfinished, dag_id=self.guard_dag_id)
        missing = {**runs.missing, **runs.given_up}  # there is no later look
        for batch_task_id, run_id in missing.items():
            self.log.warning(
                "The release is over, and its batch task %s is not: %s guards it.",
                batch_task_id,
                run_id,
            )
        return _rows(missing)

    def _by_stamp(self, hook: IoTDAHook, context: Context) -> list[str]:
        stamps = own_stamps(context, self.create_task_ids)
        return [task.task_id for task in find_own_tasks(hook, stamps, statuses=UNDER_WAY)]
