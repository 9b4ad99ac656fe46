"""Stop a batch task by hand: fill in the form, and follow what happened to each device.

Trigger it in the web UI, or from a shell:

    airflow dags trigger stop_batch_task --conf \
        '{"batch_task_id": "5c8fb9d0e2f14a5b9c0d1e2f", "scope": "the whole task"}'
"""

from __future__ import annotations

import logging
from datetime import timedelta
from typing import Any

import pendulum
from airflow.providers.common.compat.sdk import AirflowFailException, dag, task

from iotda_provider.airflow_support.words import field
from iotda_provider.operators.batch_task import StopBatchTaskOperator
from iotda_provider.operators.branch import BranchOnTargetFailuresOperator

log = logging.getLogger(__name__)

# The connections of type iotda in the form: whoever may start this DAG may use each of them.
CONNECTIONS = ["iotda_default"]
# Who is told that the task was stopped, or could not be: notifiers of Airflow, such as
#     SlackWebhookNotifier(slack_webhook_conn_id="slack", text="{{ message }}")
# docs/howto/tell-people.md has more. Without any, only the log tells.
NOTIFIERS: list[Any] = []
DEFERRABLE = True  # wait in the triggerer until the task is at rest, so that no worker is held
# Tasks survive five minutes without the platform, the broker or the workers.
RETRY_FOR_MINUTES = {"retries": 10, "retry_delay": timedelta(seconds=30)}
WHOLE_TASK = "the whole task"
# The parts of the form that are closed at first, so that its button is in sight.
SOME, ELSEWHERE = "Devices, if not the whole task", "Another connection, project or instance"
SOME_DEVICES = "only the devices below"

CONNECTION = {
    "iotda_conn_id": "{{ params.iotda_conn_id }}",
    "project_id": "{{ params.project_id or '' }}",
    "instance_id": "{{ params.instance_id or '' }}",
}


@dag(
    dag_id="stop_batch_task",
    description="Stop an upgrade, whole or for some devices, and see the result for each",
    schedule=None,
    start_date=pendulum.datetime(2026, 1, 1, tz="UTC"),
    catchup=False,
    default_args=RETRY_FOR_MINUTES,
    tags=["iotda", "by hand"],
    doc_md=__doc__,
    params={
        # Empty at first, which what_to_stop refuses: without a value it would be red at once.
        "batch_task_id": field(
            "",
            type="string",
            pattern="^[a-f0-9]{0,24}$",
            title="Batch task ID",
            description="The task to stop, as IoTDA's console shows it: up to 24 characters of "
            "a-f and 0-9.",
        ),
        "scope": field(
            SOME_DEVICES,
            type="string",
            enum=[SOME_DEVICES, WHOLE_TASK],
            title="What to stop",
            description="The whole task: every device that has not finished is stopped. It can't "
            "be undone, as a stopped task can't be started again.",
        ),
        "targets": field(
            None,
            type=["null", "array"],
            # Airflow 3 keeps blank lines and spaces.
            items={"type": "string", "pattern": r"^\s*([A-Za-z0-9_-]{1,128}\s*)?$"},
            title="Devices",
            section=SOME,
            description="Device IDs to stop, one a line. Ignored when the whole task is stopped; "
            "without any, nothing is stopped.",
        ),
        "iotda_conn_id": field(
            CONNECTIONS[0],
            type="string",
            enum=CONNECTIONS,
            title="Connection",
            section=ELSEWHERE,
            description="The Airflow connection of type iotda. The DAG's CONNECTIONS lists them.",
        ),
        "project_id": field(
            None,
            type=["null", "string"],
            pattern="^[A-Za-z0-9_-]{1,64}$",
            title="Project ID",
            section=ELSEWHERE,
            description="Only if it differs from the connection's.",
        ),
        "instance_id": field(
            None,
            type=["null", "string"],
            pattern="^[A-Za-z0-9_-]{1,64}$",
            title="Instance ID",
            section=ELSEWHERE,
            description="Only if it differs from the connection's.",
        ),
    },
)
def stop_batch_task() -> None:
    @task.branch
    def what_to_stop(params: dict[str, Any] | None = None) -> str:
        params = params or {}
        if not params["batch_task_id"]:
            raise AirflowFailException("Nothing was stopped: the form named no batch task.")
        whole = params["scope"] == WHOLE_TASK
        return "stop_the_whole_task" if whole else "stop_some_devices"

    # Two operators, so that an empty form field never means "everything".
    # The whole task is stopped only if the DAG itself leaves targets out.
    stop_whole = StopBatchTaskOperator(
        task_id="stop_the_whole_task",
        batch_task_id="{{ params.batch_task_id }}",
        poll_interval=5,
        deferrable=DEFERRABLE,
        notifiers=NOTIFIERS,
        **CONNECTION,
    )
    stop_some = StopBatchTaskOperator(
        task_id="stop_some_devices",
        batch_task_id="{{ params.batch_task_id }}",
        targets="{{ (params.targets or []) | map('trim') | select | list | tojson }}",
        deferrable=DEFERRABLE,
        notifiers=NOTIFIERS,
        **CONNECTION,
    )

    @task(trigger_rule="none_failed_min_one_success")
    def outcome(ti: Any = None) -> dict[str, Any]:
        """The result of the stop that ran, with its failed targets."""
        for stop in ("stop_the_whole_task", "stop_some_devices"):
            result = ti.xcom_pull(task_ids=stop)
            if result is not None:
                failures = ti.xcom_pull(task_ids=stop, key="failed_targets") or []
                return {**result, "failed_targets": failures}
        raise ValueError("Neither stop has left a result.")

    outcome_of_the_stop = outcome()
    follow = BranchOnTargetFailuresOperator(
        task_id="did_all_stop",
        failures=outcome_of_the_stop["failed_targets"],
        requested=outcome_of_the_stop["requested"],
        failed=outcome_of_the_stop["failed"],
        if_none="all_stopped",
        if_some="some_not_stopped",
        if_all="none_stopped",
    )

    @task
    def all_stopped(result: dict[str, Any], params: dict[str, Any] | None = None) -> None:
        # Green must mean that something was stopped.
        if result["outcome"] == "already_ended":
            raise AirflowFailException(
                f"Nothing was stopped: the task had already ended as {result['status']}."
            )
        if not result["requested"] and (params or {})["scope"] != WHOLE_TASK:
            raise AirflowFailException(
                "Nothing was stopped: the form named no devices. List them, or choose "
                f"{WHOLE_TASK!r}."
            )
        # The platform may show no counts of a task that it has stopped.
        if not result["requested"] and result["status"] != "Stopped":
            raise AirflowFailException(
                f"Nothing was stopped: no device was left to stop; the task is {result['status']}."
            )
        log.info("%s device(s) stopped; the task is %s.", result["succeeded"], result["status"])

    @task
    def some_not_stopped(result: dict[str, Any]) -> list[dict[str, Any]]:
        for row in result["failed_targets"]:
            log.warning("%s: %s %s", row["target"], row["error_code"], row["error_msg"])
        failures: list[dict[str, Any]] = result["failed_targets"]
        return failures

    @task
    def none_stopped(result: dict[str, Any]) -> None:
        raise AirflowFailException(
            f"None of the {result['requested']} device(s) could be stopped, first: "
            f"{result['failed_targets'][0]}. Is the batch task ID right?"
        )

    what_to_stop() >> [stop_whole, stop_some] >> outcome_of_the_stop >> follow
    follow >> [
        all_stopped(outcome_of_the_stop),
        some_not_stopped(outcome_of_the_stop),
        none_stopped(outcome_of_the_stop),
    ]


stop_batch_task()
