"""Give devices the old package back after a release that was stopped for the firmware's fault.

`firmware_release` starts it, if its form says so (The way back). It can also be started by hand,
for any earlier run of that DAG:

    airflow dags trigger roll_back_release --conf \
        '{"release_run_id": "manual__2026-11-29T10:00:00+00:00", "package_id": "01d8fb9d0e2f14a5"}'

Only those devices get the old package that the release has confirmed, that run its version now, and
that ran another one before. They get it in waves, behind a guard of their own: an old package that
fails is stopped, too. The run is green only if all of them run the old version, or if nobody has
said yes.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any, cast

import pendulum
from airflow.providers.common.compat.sdk import dag, task
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_1_PLUS

from iotda_provider.airflow_support.words import field
from iotda_provider.operators.release import roll_back
from iotda_provider.operators.release.at_rest import WaitUntilAtRestOperator
from iotda_provider.operators.release.find_way_back import FindDevicesToRollBackOperator
from iotda_provider.operators.release.leftovers import guard_what_is_left
from iotda_provider.operators.release.questions import ask_about_way_back
from iotda_provider.operators.release.reconcile import ReconcileReleaseOperator
from iotda_provider.operators.release.report import ReportWayBackOperator

# --- What you adapt ---
CONNECTION = "iotda_default"
# Who is told of the question, holds, breaches, stops, passed waves, and the end: notifiers of
# Airflow (docs/howto/tell-people.md). Without any, only the log tells.
NOTIFIERS: list[Any] = []
# The ids of Airflow's users who may answer; None: everybody whom Airflow lets answer.
APPROVERS = None
ANSWER_WITHIN = timedelta(hours=24)  # after that nothing is done
# MANIFEST_PATH of dags/firmware_release.py, with the release's run id in the place of run_id; and a
# path of its own for this run. None: ids are in XComs.
RELEASE_MANIFEST_PATH = None
MANIFEST_PATH = None
# URLs of files that get every device, one JSON object a line: who gets the old package or why not,
# and what came of it. They may contain {{ run_id }}. None: the XComs have the counts.
DECISIONS_PATH = None
REPORT_PATH = None
# The limits of the form. Whatever they allow together must not let a bad image pass unseen.
HIGHEST_TOLERATED_RATE = 0.2
MOST_MINUTES_TO_REPORT = 2880
BAKE_MINUTES = 5
LEAST_BAKE_MINUTES = 1
# --- The rest works as it is ---
RELEASE_DAG = "firmware_release"
SECONDS_BETWEEN_LOOKS = 10
DEFERRABLE = True  # a wave takes hours: wait in the triggerer, so that no worker is held
RETRIES = 5  # if a worker dies, the next try of its task continues the way back
SECONDS_BEFORE_A_RETRY = 60
# Airflow 2: can't ask.
HOW = ["ask", "at once"] if AIRFLOW_V_3_1_PLUS else ["at once"]


@dag(
    dag_id="roll_back_release",
    description="Give devices the old package back after a release that was stopped",
    schedule=None,
    start_date=pendulum.datetime(2026, 1, 1, tz="UTC"),
    catchup=False,
    default_args={
        "retries": RETRIES,
        "retry_delay": timedelta(seconds=SECONDS_BEFORE_A_RETRY),
        "iotda_conn_id": CONNECTION,
    },
    tags=["iotda", "release"],
    doc_md=__doc__,
    params={
        "release_run_id": field(
            type="string",
            minLength=1,
            maxLength=250,
            title="Run of the release",
            description=f"The run id of {RELEASE_DAG}.",
        ),
        "package_id": field(
            type="string",
            pattern="^[A-Za-z0-9-]{1,36}$",
            title="Package",
            description="The old package, or a rebuild of it under a higher number.",
        ),
        "how": field(
            HOW[0],
            type="string",
            enum=HOW,
            title="When",
            description="Ask: a person decides, within 24 hours.",
        ),
        "tolerated_rate": field(
            0.02,
            type="number",
            exclusiveMinimum=0,
            maximum=HIGHEST_TOLERATED_RATE,
            title="Tolerated failure rate",
            description="The way back is stopped once more than that is shown.",
        ),
        "report_within_minutes": field(
            240,
            type="number",
            exclusiveMinimum=0,
            maximum=MOST_MINUTES_TO_REPORT,
            title="A healthy device reports within (minutes)",
            description="Devices that take longer count as failed: bricked ones never report. "
            "After a stop, devices that are installing have the same time to end.",
        ),
        "bake_minutes": field(
            BAKE_MINUTES, type="number", minimum=LEAST_BAKE_MINUTES, title="Bake time (minutes)"
        ),
        "window": field(
            None,
            type=["null", "string"],
            title="Maintenance window",
            description="Such as mon-fri 22:00-05:00; empty: at any time.",
        ),
        "timezone": field("UTC", type="string", title="Timezone of the window"),
    },
)
def roll_back_release() -> None:
    def find_devices(task_id: str, **more: Any) -> FindDevicesToRollBackOperator:
        return FindDevicesToRollBackOperator(
            task_id=task_id,
            release_run_id="{{ params.release_run_id }}",
            release_dag_id=RELEASE_DAG,
            release_manifest_path=RELEASE_MANIFEST_PATH,
            package_id="{{ params.package_id }}",
            manifest_path=MANIFEST_PATH and f"{MANIFEST_PATH}.{task_id}",
            report_path=DECISIONS_PATH,
            **more,
        )

    find = find_devices("find")

    @task.branch
    def what_to_do(found: dict[str, Any], params: Any = None) -> str:
        """Nobody is asked about nobody."""
        if not found["devices"]:
            return "report"
        return "ask" if params["how"] == "ask" else "find_again"

    # A question may be open for a day: waves are planned for those that are on the bad version now.
    find_again = find_devices("find_again", trigger_rule="none_failed_min_one_success")
    found: Any = find_again.output

    @task.branch
    def if_anybody(found: dict[str, Any]) -> str:
        """There may be nobody left."""
        return "way_back.plan" if found["devices"] else "report"

    # [way back]
    rules = (
        '[{"rule": "Combined", "false_alarm": 0.01, "rules": ['
        '{"rule": "SequentialFailureTest", "tolerated_rate": {{ params.tolerated_rate }}}, '
        '{"rule": "Overdue", "after_seconds": {{ params.report_within_minutes * 60 }}, '
        '"tolerated_rate": {{ params.tolerated_rate }}}]}]'
    )
    way_back = roll_back(
        "way_back",
        devices=found["targets"],
        late=found["late"],
        document={"package_ids": ["{{ params.package_id }}"]},
        task_type="{{ ti.xcom_pull('find_again')['task_type'] }}",
        # Some may run a fix when their wave begins: these keep it.
        from_version="{{ ti.xcom_pull('find_again')['version'] }}",
        rules=rules,
        waves="{{ ti.xcom_pull('find_again')['waves'] | join(', ') }}",
        max_in_flight="{{ ti.xcom_pull('find_again')['at_a_time'] }}",
        bake_time="{{ params.bake_minutes * 60 }}",
        window="{{ params.window or '' }}",
        timezone="{{ params.timezone }}",
        manifest_path=MANIFEST_PATH,
        notifiers=NOTIFIERS,
        poll_interval=SECONDS_BETWEEN_LOOKS,
        deferrable=DEFERRABLE,
        iotda_conn_id=CONNECTION,
    )
    # [end of way back]
    at_rest = WaitUntilAtRestOperator(
        task_id="at_rest",
        batch_task_id="{{ ti.xcom_pull('way_back.outcome')['batch_task_ids'] | tojson }}",
        grace="{{ params.report_within_minutes * 60 }}",
        exposed="{{ ti.xcom_pull('way_back.outcome')['exposed'] }}",
        timeout=86400,
        poll_interval=SECONDS_BETWEEN_LOOKS,
        deferrable=DEFERRABLE,
    )
    reconcile = ReconcileReleaseOperator(
        task_id="reconcile",
        version="{{ ti.xcom_pull('find_again')['old_version'] }}",
        kind="{{ ti.xcom_pull('find_again')['kind'] }}",
        product_id="{{ ti.xcom_pull('find_again')['product_id'] or '' }}",
        from_version="{{ ti.xcom_pull('find_again')['version'] }}",
        outcome=way_back.outcome.output,
        plan_task_id=way_back.plan.task_id,
        gate=0.2,
        report_path=REPORT_PATH,
    )

    report = ReportWayBackOperator(
        task_id="report", release_run_id="{{ params.release_run_id }}", notifiers=NOTIFIERS
    )
    left = guard_what_is_left(
        create_task_ids=way_back.create_task_ids,
        outcome_task_id=way_back.outcome.task_id,
        notifiers=NOTIFIERS,
        iotda_conn_id=CONNECTION,
    )

    todo, anybody = what_to_do(cast("Any", find.output)), if_anybody(found)
    todo >> [find_again, report]
    anybody >> [way_back.plan, report]
    way_back.group >> at_rest >> reconcile >> report
    [todo, reconcile, at_rest] >> left.unfinished
    if AIRFLOW_V_3_1_PLUS:
        ask = ask_about_way_back(
            "ask",
            if_yes="find_again",
            if_no="report",
            find_task_id="find",
            answer_within=ANSWER_WITHIN,
            notifiers=NOTIFIERS,
            assigned_users=APPROVERS,
            iotda_conn_id=CONNECTION,
        )
        todo >> ask >> [find_again, report]


roll_back_release()
