"""Guard every running rollout: stop the bad ones early, leave the good ones alone.

There are two DAGs. `rollout_guard` finds, every minute, the running firmware and software upgrades
that have no guard, and starts one run of `guard_one_rollout` for each. If a guard run has ended and
its rollout runs again, because somebody has retried failed devices, another one takes its place
(`guard__<id>__<mark>__2` and so on). After MOST_FAILED_GUARDS failed guard runs of a rollout the
next one starts after an hour. Until then the log says every minute that the rollout is not guarded,
and also if a rollout waits too long for its guard. If a guard no longer watches, because its
triggerer is dead, people are told as well.

Two kinds of rollouts get no guard run: those of which every device waits to be confirmed, until the
first device has started, and the batch tasks of a release, which guards them itself.

`guard_one_rollout` watches one rollout until it ends. When more devices fail than are tolerated, or
have a failed attempt, or do not report in time, it stops the rollout, tells people at once,
collects the failed devices, tells the reasons, and branches. A faulty firmware is
reported to the people who built it. Devices that failed for environmental reasons (offline, low
battery) get a new batch task, which waits for somebody to confirm it in the console. You can also
start a guard by hand:

    airflow dags trigger guard_one_rollout --conf '{"batch_task_id": "5c8fb9d0e2f14a5b9c0d1e2f"}'

That guard watches the rollout in addition to those that `rollout_guard` starts. Where a guard run
has failed, start another one in this way instead of running its tasks again. A failed run may have
created a batch task for a second try (`again_...`). A new run does not know of it, and may create
another one with the same devices: confirm only one of them.

After a breach an asset event is emitted, on which other DAGs can start.
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
    Asset,
    dag,
    task,
)
from airflow.providers.standard.operators.trigger_dagrun import TriggerDagRunOperator

from iotda_provider.airflow_support.words import field
from iotda_provider.notifications.from_task import tell_people
from iotda_provider.operators.announce import AnnounceBreachOperator
from iotda_provider.operators.batch_task import (
    CollectFailedSubtasksOperator,
    CreateBatchTaskOperator,
)
from iotda_provider.operators.branch import (
    BranchOnTargetFailuresOperator,
    BranchOnVerdictOperator,
)
from iotda_provider.operators.guard_runs import FindUnguardedRolloutsOperator
from iotda_provider.sensors.batch_task import RolloutGuardSensor

log = logging.getLogger(__name__)

# Who is told of a hold, a breach, a stop and its reasons, and of guards that are blind or overdue:
# notifiers of Airflow, such as
#     SlackWebhookNotifier(slack_webhook_conn_id="slack", text="{{ message }}")
# docs/howto/tell-people.md has more. Without any, only the log tells.
NOTIFIERS: list[Any] = []
CONNECTION = "iotda_default"
UPGRADES = ("firmwareUpgrade", "softwareUpgrade")
SECONDS_BETWEEN_LOOKS = 5
DEFERRABLE = True  # a rollout takes days: watch in the triggerer, and hold no worker meanwhile
# The defaults of the form, and its limits: a guard that tolerates every failure is no guard.
TOLERATED_RATE, HIGHEST_TOLERATED_RATE = 0.02, 0.2
TOLERATED_ATTEMPT_RATE, HIGHEST_ATTEMPT_RATE = 0.2, 0.5
MINUTES_TO_REPORT, MOST_MINUTES_TO_REPORT = 26 * 60, 9 * 24 * 60
FALSE_ALARM, LEAST_FALSE_ALARM, HIGHEST_FALSE_ALARM = 0.01, 0.0001, 0.1
# A task outlives five minutes without the platform, the broker or workers.
RETRY_FOR_MINUTES = {"retries": 10, "retry_delay": timedelta(seconds=30)}
# How many guard runs of one rollout may fail, each after its own retries, until there is an hour
# before each further one.
MOST_FAILED_GUARDS = 5
# In a busy Airflow a pool of its own, which you must create, keeps slots free for guards.
POOL = "default_pool"
# The URL of a service that calls people when it has got no request for some minutes: a dead Airflow
# can't say that it is dead. None: nobody notices.
HEARTBEAT_URL = None
RETRY_NAME = "again_"
GUARD = "guard_one_rollout"
BREACHED = Asset("iotda://rollout/breached")


@dag(
    dag_id="rollout_guard",
    description="Start a guard for every running firmware and software rollout",
    schedule="* * * * *",
    start_date=pendulum.datetime(2026, 1, 1, tz="UTC"),
    catchup=False,
    # Two runs at the same time would find the same rollouts.
    max_active_runs=1,
    default_args=RETRY_FOR_MINUTES,
    tags=["iotda", "guard"],
    doc_md=__doc__,
)
def rollout_guard() -> None:
    unguarded = FindUnguardedRolloutsOperator(
        task_id="running_rollouts",
        guard_dag_id=GUARD,
        task_types=UPGRADES,
        most_failed=MOST_FAILED_GUARDS,
        notifiers=NOTIFIERS,
        heartbeat_url=HEARTBEAT_URL,
        iotda_conn_id=CONNECTION,
        pool=POOL,
    )
    # Not a mapped guard: a branch behind a mapped task runs every path (apache/airflow#67265).
    TriggerDagRunOperator.partial(
        task_id="start_guard",
        trigger_dag_id=GUARD,
        skip_when_already_exists=True,
        pool=POOL,
    ).expand_kwargs(unguarded.output)


@dag(
    dag_id=GUARD,
    description="Stop one rollout when too many of its devices fail, then take the safe path",
    schedule=None,
    start_date=pendulum.datetime(2026, 1, 1, tz="UTC"),
    catchup=False,
    max_active_runs=1000,
    # A run of a paused DAG waits; a guard must not wait.
    is_paused_upon_creation=False,
    default_args=RETRY_FOR_MINUTES,
    tags=["iotda", "guard"],
    doc_md=__doc__,
    params={
        "batch_task_id": field(
            type="string",
            pattern="^[a-f0-9]{1,24}$",
            title="Batch task ID",
            description="The rollout to guard, as IoTDA's console shows it.",
        ),
        "tolerated_rate": field(
            TOLERATED_RATE,
            type="number",
            exclusiveMinimum=0,
            maximum=HIGHEST_TOLERATED_RATE,
            title="Tolerated failure rate",
            description="The share of devices that may fail without the firmware being at fault, "
            f"at most {HIGHEST_TOLERATED_RATE:g}.",
        ),
        "tolerated_attempt_rate": field(
            TOLERATED_ATTEMPT_RATE,
            type="number",
            exclusiveMinimum=0,
            maximum=HIGHEST_ATTEMPT_RATE,
            title="Tolerated rate of failed attempts",
            description="The share of devices of which an attempt may fail, if the batch task "
            f"retries failed devices; at most {HIGHEST_ATTEMPT_RATE:g}. A device counts at its "
            "first failed attempt, hours before its last one.",
        ),
        "report_within_minutes": field(
            MINUTES_TO_REPORT,
            type="number",
            exclusiveMinimum=0,
            maximum=MOST_MINUTES_TO_REPORT,
            title="A healthy device reports within (minutes)",
            description="Devices that take longer count as failed: bricked ones never report. The "
            "platform waits 25 hours for a device that is offline, and retries take their time.",
        ),
        "false_alarm": field(
            FALSE_ALARM,
            type="number",
            # The smaller the chance, the more devices fail before the rollout is stopped.
            minimum=LEAST_FALSE_ALARM,
            maximum=HIGHEST_FALSE_ALARM,
            title="Chance of a false alarm",
            description="The largest chance of ever stopping a rollout within all of that, from "
            f"{LEAST_FALSE_ALARM:g} to {HIGHEST_FALSE_ALARM:g}.",
        ),
    },
)
def guard_one_rollout() -> None:
    rollout = "{{ params.batch_task_id }}"
    rules = (
        '[{"rule": "Combined", "false_alarm": {{ params.false_alarm }}, "rules": ['
        '{"rule": "SequentialFailureTest", "tolerated_rate": {{ params.tolerated_rate }}}, '
        '{"rule": "SequentialFailureTest", "counts": "attempts", '
        '"tolerated_rate": {{ params.tolerated_attempt_rate }}}, '
        '{"rule": "Overdue", "after_seconds": {{ params.report_within_minutes * 60 }}, '
        '"tolerated_rate": {{ params.tolerated_rate }}}]}]'
    )
    guard = RolloutGuardSensor(
        task_id="guard",
        batch_task_id=rollout,
        iotda_conn_id=CONNECTION,
        rules=rules,
        stop_on_breach=True,
        poke_interval=SECONDS_BETWEEN_LOOKS,
        deferrable=DEFERRABLE,
        notifiers=NOTIFIERS,
        timeout=timedelta(days=9),  # a rollout may start 7 days ahead, and wait 25 h for a device
        pool=POOL,
    )
    verdict: Any = guard.output

    branch = BranchOnVerdictOperator(
        task_id="verdict",
        verdict=verdict,
        if_breached="collect_failures",
        if_completed="all_is_well",
        if_lost="who_has_deleted_it",
        # Also after a guard that failed: it has pushed its result before.
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

    # The guard has told of everything else itself.
    @task(trigger_rule="all_done")
    def tell(batch_task_id: str, result: dict[str, Any] | None, **context: Any) -> None:
        if result is None:
            tell_people(
                NOTIFIERS,
                context,  # type: ignore[arg-type]
                "may_be_unguarded",
                f"The guard of rollout {batch_task_id} has left no result, so nobody knows the "
                "state of the rollout. See the log of the task guard, and the batch task at the "
                "console.",
                batch_task_ids=[batch_task_id],
                iotda_conn_id=CONNECTION,
            )

    # Also after a guard that failed because it could not stop the rollout.
    announced = AnnounceBreachOperator(
        task_id="announce_breach", trigger_rule="all_done", outlets=[BREACHED], result=verdict
    )

    # Also after a guard that failed because it could not stop the rollout, and if the failures
    # could not be collected.
    @task(trigger_rule="none_skipped")
    def tell_reasons(
        batch_task_id: str,
        result: dict[str, Any] | None,
        rows: list[dict[str, Any]] | None,
        **context: Any,
    ) -> None:
        reasons = Counter(f"{row['error_code']} {row['error_msg']}" for row in rows or ())
        lines = [f"{count} device(s): {reason}." for reason, count in reasons.most_common(5)]
        if rows is None:
            lines = [
                "Which devices failed, and why, could not be found out: see the log of the task "
                f"collect_failures, and then start {GUARD} for this rollout once more."
            ]
        summary = "Its guard has left no result." if result is None else result["summary"]
        tell_people(
            NOTIFIERS,
            context,  # type: ignore[arg-type]
            "reasons",
            " ".join((f"Rollout {batch_task_id}:", *lines, summary)),
            batch_task_ids=[batch_task_id],
            iotda_conn_id=CONNECTION,
        )

    @task
    def report_firmware(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """The devices that failed because of the firmware, for the people who have built it."""
        faulty = [row for row in rows if row["failure_class"] != "environment"]
        for row in faulty[:20]:
            log.warning("%s: %s %s", row["target"], row["error_code"], row["error_msg"])
        return faulty

    @task
    def what_to_retry(batch_task_id: str) -> dict[str, Any]:
        """The devices that failed for environmental reasons, and what to send them again."""
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

    # A new batch task, because the platform retries nothing in a stopped one. It waits for a person
    # to confirm it, who by then knows whether the firmware was at fault.
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

    # Also after a guard that could not stop the rollout.
    @task(trigger_rule="none_skipped")
    def nothing_failed(result: dict[str, Any]) -> None:
        log.warning("No device has finally failed. %s", result["summary"])

    @task
    def all_is_well(result: dict[str, Any]) -> None:
        log.info("%s", result["summary"])

    @task(trigger_rule="none_skipped")
    def who_has_deleted_it(result: dict[str, Any]) -> None:
        log.warning("%s", result["summary"])

    @task(trigger_rule="none_failed_min_one_success")
    def outcome(result: dict[str, Any] | None) -> str:
        """Fail if the rollout may be going on unguarded, so that the run fails too."""
        if result is None:
            raise AirflowFailException("The guard has left no result.")
        stop_failed = (result["stop"] or {}).get("outcome") == "failed"
        if result["guard_lost"] or stop_failed:
            raise AirflowFailException(result["summary"])
        return str(result["summary"])

    told, reasons = tell(rollout, verdict), tell_reasons(rollout, verdict, failures)
    report = report_firmware(failures)
    well, deleted = all_is_well(verdict), who_has_deleted_it(verdict)
    nothing = nothing_failed(verdict)
    end = outcome(verdict)
    guard >> [told, announced, branch]
    branch >> [collect, well, deleted]
    collect >> [why, reasons]
    why >> [report, again, nothing]
    again >> retry
    [told, reasons, report, retry, nothing, well, deleted] >> end


rollout_guard()
guard_one_rollout()
