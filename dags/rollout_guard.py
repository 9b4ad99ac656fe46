"""Guard every running rollout: stop the bad ones early, leave the good ones alone.

Two DAGs. `rollout_guard` looks every minute which firmware and software upgrades are running, and
starts one run of `guard_one_rollout` for each of them. The run's id is made of the rollout's, so a
rollout is never guarded twice, however many runs overlap. Where a guard run has failed for good and
its rollout still runs, the next look starts another one (`guard__<id>__2` and so on), up to
MOST_GUARDS in all; then the rollout is unguarded until somebody clears one, and the log says so
every minute. It says so, too, where a guard run has ended well and its rollout runs again, because
somebody has retried its failed devices: clear that run to have it guarded once more.

`guard_one_rollout` watches one rollout until it ends. When devices fail more often than is
tolerated it stops the rollout, collects the devices that failed and why, opens a ticket, and
branches: a faulty firmware is reported to the people who built it; devices that failed for reasons
of their own (offline, low battery) get a batch task of their own, which waits for somebody to
confirm it in the console. It can also be started by hand:

    airflow dags trigger guard_one_rollout --conf '{"batch_task_id": "5c8fb9d0e2f14a5b9c0d1e2f"}'
"""

from __future__ import annotations

import logging
from collections import Counter
from datetime import timedelta
from typing import Any

import pendulum
from airflow.providers.common.compat.sdk import (
    AirflowFailException,
    AirflowSkipException,
    Param,
    dag,
    task,
)
from airflow.providers.standard.operators.trigger_dagrun import TriggerDagRunOperator

from iotda_provider.operators.batch_task import (
    CollectFailedSubtasksOperator,
    CreateBatchTaskOperator,
)
from iotda_provider.operators.branch import (
    BranchOnTargetFailuresOperator,
    BranchOnVerdictOperator,
)
from iotda_provider.sensors.batch_task import RolloutGuardSensor

log = logging.getLogger(__name__)

CONNECTION = "iotda_default"
UPGRADES = ("firmwareUpgrade", "softwareUpgrade")
UNDER_WAY = ("Initializing", "Waitting", "Processing")  # as the platform spells them
SECONDS_BETWEEN_LOOKS = 5
RETRY_NAME = "again_"
GUARD = "guard_one_rollout"
MOST_GUARDS = 5  # guard runs that one rollout gets, each with retries of its own


def open_ticket_somewhere(title: str, text: str) -> str:
    """Put your own ticket system here; what it returns is kept as an XCom."""
    log.warning("TICKET: %s\n%s", title, text)
    return "logged"


def count_runs(ti: Any, run_ids: list[str], state: str) -> int:
    """How many of these guard runs are in this state."""
    some = 100  # at a time: their ids become a URL
    if len(run_ids) > some:
        return count_runs(ti, run_ids[:some], state) + count_runs(ti, run_ids[some:], state)
    if hasattr(ti, "get_dr_count"):
        return int(ti.get_dr_count(dag_id=GUARD, run_ids=run_ids, states=[state]))
    from airflow.models.dagrun import DagRun  # Airflow 2: a task has the database.

    return len(DagRun.find(dag_id=GUARD, run_id=run_ids, state=state))


def guard_runs(ti: Any, task_ids: list[str]) -> dict[str, str]:
    """The id of the guard run that each rollout should have, whether there is one or not yet."""
    runs = {task_id: f"guard__{task_id}" for task_id in task_ids}
    if runs and count_runs(ti, list(runs.values()), "failed"):
        for task_id, first in list(runs.items()):
            every = [first, *(f"{first}__{number}" for number in range(2, MOST_GUARDS + 1))]
            left = [run_id for run_id in every if not count_runs(ti, [run_id], "failed")]
            if not left:
                log.error("%s IS NOT GUARDED: %d guard runs have failed.", task_id, MOST_GUARDS)
                del runs[task_id]
            elif left[0] != first:
                log.warning("A guard of %s has failed; %s takes its place.", task_id, left[0])
                runs[task_id] = left[0]
    if runs and count_runs(ti, list(runs.values()), "success"):
        for task_id, run_id in runs.items():
            if count_runs(ti, [run_id], "success"):
                log.error("%s IS NOT GUARDED: it runs, and %s has ended well.", task_id, run_id)
    return runs


@dag(
    dag_id="rollout_guard",
    description="Start a guard for every running firmware and software rollout",
    schedule="* * * * *",
    start_date=pendulum.datetime(2026, 1, 1, tz="UTC"),
    catchup=False,
    tags=["iotda", "guard"],
    doc_md=__doc__,
)
def rollout_guard() -> None:
    @task
    def running_rollouts(ti: Any = None) -> list[dict[str, Any]]:
        from airflow.providers.common.compat.sdk import conf

        from iotda_provider.hooks.iotda import IoTDAHook

        with IoTDAHook(CONNECTION) as hook:
            found = {
                rollout.task_id: rollout
                for kind in UPGRADES
                for status in UNDER_WAY
                for rollout in hook.list_batch_tasks(task_type=kind, status=status)
            }
        for rollout in found.values():
            log.info("%s (%s): %s", rollout.task_id, rollout.task_name, rollout.progress)
        runs = [
            {"trigger_run_id": run_id, "conf": {"batch_task_id": task_id}}
            for task_id, run_id in guard_runs(ti, list(found)).items()
        ]
        most = conf.getint("core", "max_map_length", fallback=1024)
        if len(runs) > most:
            log.error("%d rollouts are running; only %d can be guarded.", len(runs), most)
        return runs[:most]

    # Not a mapped guard: a branch behind a mapped task runs every path (apache/airflow#67265).
    TriggerDagRunOperator.partial(
        task_id="start_guard",
        trigger_dag_id=GUARD,
        skip_when_already_exists=True,
    ).expand_kwargs(running_rollouts())


@dag(
    dag_id=GUARD,
    description="Stop one rollout when too many of its devices fail, then take the safe path",
    schedule=None,
    start_date=pendulum.datetime(2026, 1, 1, tz="UTC"),
    catchup=False,
    max_active_runs=1000,
    # A new run waits to be unpaused; a guard must not.
    is_paused_upon_creation=False,
    tags=["iotda", "guard"],
    doc_md=__doc__,
    params={
        "batch_task_id": Param(
            type="string",
            pattern="^[a-f0-9]{1,24}$",
            title="Batch task ID",
            description="The rollout to guard, as IoTDA's console shows it.",
        ),
        "tolerated_rate": Param(
            0.02,
            type="number",
            exclusiveMinimum=0,
            exclusiveMaximum=1,
            title="Tolerated failure rate",
            description="The share of devices that may fail without the firmware being at fault.",
        ),
        "false_alarm": Param(
            0.01,
            type="number",
            exclusiveMinimum=0,
            exclusiveMaximum=1,
            title="Chance of a false alarm",
            description="The largest chance of ever stopping a rollout within that rate.",
        ),
    },
)
def guard_one_rollout() -> None:
    rollout = "{{ params.batch_task_id }}"
    guard = RolloutGuardSensor(
        task_id="guard",
        batch_task_id=rollout,
        iotda_conn_id=CONNECTION,
        rules='[{"rule": "SequentialFailureTest", "tolerated_rate": {{ params.tolerated_rate }}, '
        '"false_alarm": {{ params.false_alarm }}}]',
        stop_on_breach=True,
        poke_interval=SECONDS_BETWEEN_LOOKS,
        timeout=timedelta(days=9),  # a rollout may start 7 days ahead, and wait 25 h for a device
        retries=5,
        retry_delay=timedelta(seconds=30),
    )
    verdict: Any = guard.output

    branch = BranchOnVerdictOperator(
        task_id="verdict",
        verdict=verdict,
        if_breached="collect_failures",
        if_completed="all_is_well",
        if_lost="who_has_deleted_it",
        # A guard that fails has said why before.
        trigger_rule="all_done",
    )

    collect = CollectFailedSubtasksOperator(
        task_id="collect_failures", batch_task_id=rollout, iotda_conn_id=CONNECTION
    )
    failures: Any = collect.output
    why = BranchOnTargetFailuresOperator(
        task_id="why_did_they_fail",
        failures=failures,
        failed="{{ ti.xcom_pull('collect_failures', key='failed') }}",
        if_none="nothing_failed",
        if_some="report_firmware",
        by_failure_class={"environment": "what_to_retry", "firmware": "report_firmware"},
    )

    # Also where the guard failed, because it could not stop what it had to.
    @task(trigger_rule="none_skipped")
    def open_ticket(result: dict[str, Any], rows: list[dict[str, Any]]) -> str:
        reasons = Counter(f"{row['error_code']} {row['error_msg']}" for row in rows)
        lines = [f"{count} device(s): {reason}" for reason, count in reasons.most_common()]
        title = f"Rollout {result['batch_task_id']}: {result['verdict'].replace('_', ' ')}"
        return open_ticket_somewhere(title, "\n".join([result["summary"], *lines]))

    @task
    def report_firmware(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """For the people who built the firmware."""
        guilty = [row for row in rows if row["failure_class"] != "environment"]
        for row in guilty[:20]:
            log.warning("%s: %s %s", row["target"], row["error_code"], row["error_msg"])
        return guilty

    @task
    def what_to_retry(batch_task_id: str) -> dict[str, Any]:
        """The devices that failed for reasons of their own, and what to send them again."""
        from iotda_provider.guards import classify
        from iotda_provider.hooks.iotda import IoTDAHook

        with IoTDAHook(CONNECTION) as hook:
            rollout = hook.get_batch_task(batch_task_id)
            if rollout.task_name.startswith(RETRY_NAME):
                raise AirflowSkipException("This was the second try; a third is up to a person.")
            return {
                "task_name": f"{RETRY_NAME}{rollout.task_id}",
                "task_type": str(rollout.task_type),
                "document": rollout.raw.get("document"),
                "targets": [
                    row.target
                    for row in hook.iter_subtasks(batch_task_id, status="Fail")
                    if classify(row.error_code, row.error_msg) == "environment"
                ],
            }

    # A new batch task, as the platform retries nothing in one that was stopped. It waits for a
    # person, who knows by then whether the firmware was at fault.
    again: Any = what_to_retry(rollout)
    retry = CreateBatchTaskOperator(
        task_id="retry_environmental",
        iotda_conn_id=CONNECTION,
        task_name="{{ ti.xcom_pull('what_to_retry')['task_name'] }}",
        task_type="{{ ti.xcom_pull('what_to_retry')['task_type'] }}",
        targets=again["targets"],
        document=again["document"],
        need_confirm=True,
    )

    @task
    def nothing_failed() -> None:
        log.info("The rollout was stopped, but no device has failed.")

    @task
    def all_is_well(result: dict[str, Any]) -> None:
        log.info("%s", result["summary"])

    @task(trigger_rule="none_skipped")
    def who_has_deleted_it(result: dict[str, Any]) -> str:
        return open_ticket_somewhere(f"Rollout {result['batch_task_id']}", result["summary"])

    @task(trigger_rule="none_failed_min_one_success")
    def outcome(result: dict[str, Any]) -> str:
        """Fails where the rollout may be going on unguarded, so that the run fails too."""
        stop_failed = (result["stop"] or {}).get("outcome") == "failed"
        if result["guard_lost"] or stop_failed:
            raise AirflowFailException(result["summary"])
        return str(result["summary"])

    ticket = open_ticket(verdict, failures)
    report = report_firmware(failures)
    well, deleted, nothing = all_is_well(verdict), who_has_deleted_it(verdict), nothing_failed()
    end = outcome(verdict)
    branch >> [collect, well, deleted]
    collect >> [why, ticket]
    why >> [report, again, nothing]
    again >> retry
    [ticket, report, retry, nothing, well, deleted] >> end


rollout_guard()
guard_one_rollout()
