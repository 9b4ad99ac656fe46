"""Guard the newest running firmware rollout: stop it when too many devices fail, then take the
safe path.

Every five minutes it looks for a running firmware upgrade. It watches the share of failed devices
among those that have started; when the share is too high it stops the rollout, collects the
devices that failed and why, and branches: a faulty image is reported to the people who built it,
devices that failed for reasons of their own (offline, low battery) are kept for another try.
"""

from __future__ import annotations

import logging
from typing import Any

import pendulum
from airflow.providers.common.compat.sdk import (
    AirflowSkipException,
    Param,
    PokeReturnValue,
    dag,
    task,
)

from iotda_provider.operators.batch_task import StopBatchTaskOperator
from iotda_provider.operators.branch import BranchOnTargetFailuresOperator

log = logging.getLogger(__name__)


@dag(
    dag_id="rollout_guard",
    description="Stop a running firmware rollout when too many of its devices fail",
    schedule="*/5 * * * *",
    start_date=pendulum.datetime(2026, 1, 1, tz="UTC"),
    catchup=False,
    max_active_runs=1,
    tags=["iotda", "guard"],
    doc_md=__doc__,
    params={
        "batch_task_id": Param(
            None,
            type=["null", "string"],
            pattern="^[a-f0-9]{1,24}$",
            title="Batch task ID",
            description="The rollout to guard. Empty: the newest firmware upgrade that is running.",
        ),
        "max_failure_rate": Param(
            0.10,
            type="number",
            exclusiveMinimum=0,
            maximum=1,
            title="Highest failure rate",
            description="Share of failed devices among the started ones at which the rollout is "
            "stopped.",
        ),
        "min_sample": Param(
            50,
            type="integer",
            minimum=1,
            title="Smallest sample",
            description="Devices that must have started before the failure rate says anything.",
        ),
        "iotda_conn_id": Param(
            "iotda_default", type="string", title="Connection", description="Of type iotda."
        ),
    },
)
def rollout_guard() -> None:
    @task
    def find_rollout(params: dict[str, Any] | None = None) -> str:
        from iotda_provider.hooks.iotda import IoTDAHook

        values = params or {}
        if values["batch_task_id"]:
            return str(values["batch_task_id"])
        with IoTDAHook(values["iotda_conn_id"]) as hook:
            running = hook.list_batch_tasks(task_type="firmwareUpgrade", status="Processing")
            newest = next(running, None)
        if newest is None:
            raise AirflowSkipException("No firmware upgrade is running.")
        log.info("Guarding %s (%s): %s.", newest.task_id, newest.task_name, newest.progress)
        return newest.task_id

    @task.sensor(poke_interval=2, timeout=24 * 3600, mode="poke")
    def watch_failure_rate(
        batch_task_id: str, params: dict[str, Any] | None = None
    ) -> PokeReturnValue:
        from iotda_provider.guards import MaxFailureRate
        from iotda_provider.hooks.iotda import IoTDAHook

        values = params or {}
        rule = MaxFailureRate(values["max_failure_rate"], min_sample=values["min_sample"])
        with IoTDAHook(values["iotda_conn_id"]) as hook:
            rollout = hook.get_batch_task(batch_task_id)
        if rollout.status.is_terminal or rollout.status.is_stop:
            return PokeReturnValue(is_done=True, xcom_value={"breached": False})
        verdict = rule.check(rollout.progress)
        log.info("%s.", rollout.progress)
        return PokeReturnValue(
            is_done=verdict.breached,
            xcom_value={
                "breached": verdict.breached,
                "why": verdict.sentence,
                "progress": rollout.progress.to_dict(),
            },
        )

    @task.short_circuit(ignore_downstream_trigger_rules=False)
    def is_breached(verdict: dict[str, Any]) -> bool:
        log.info("%s", verdict.get("why", "The rollout ended without a breach."))
        return bool(verdict["breached"])

    rollout_id = find_rollout()
    breached = is_breached(watch_failure_rate(rollout_id))
    stop = StopBatchTaskOperator(
        task_id="stop_rollout",
        batch_task_id=rollout_id,
        iotda_conn_id="{{ params.iotda_conn_id }}",
        poll_interval=2,
    )

    @task
    def collect_failures(
        batch_task_id: str, params: dict[str, Any] | None = None
    ) -> list[dict[str, Any]]:
        """Which devices failed in the rollout, and why."""
        from iotda_provider.hooks.iotda import IoTDAHook

        with IoTDAHook((params or {})["iotda_conn_id"]) as hook:
            return [
                {"target": row.target, "error_code": row.error_code, "error_msg": row.error_msg}
                for row in hook.iter_subtasks(batch_task_id, status="Fail")
            ]

    failures = collect_failures(rollout_id)
    follow = BranchOnTargetFailuresOperator(
        task_id="why_did_they_fail",
        failures=failures,
        if_none="nothing_failed",
        if_some="report_bad_image",
        by_failure_class={"environment": "keep_for_retry", "firmware": "report_bad_image"},
    )

    @task
    def nothing_failed() -> None:
        log.info("The rollout was stopped, but no device has failed.")

    @task
    def keep_for_retry(rows: list[dict[str, Any]]) -> None:
        log.info(
            "%d device(s) failed in all; those hit by their surroundings can retry.", len(rows)
        )

    @task
    def report_bad_image(rows: list[dict[str, Any]]) -> None:
        reasons: dict[str, int] = {}
        for row in rows:
            reason = f"{row['error_code']} {row['error_msg']}"
            reasons[reason] = reasons.get(reason, 0) + 1
        for reason, count in sorted(reasons.items(), key=lambda item: -item[1]):
            log.warning("%d device(s): %s", count, reason)

    breached >> stop >> failures >> follow
    follow >> [nothing_failed(), keep_for_retry(failures), report_bad_image(failures)]


rollout_guard()
