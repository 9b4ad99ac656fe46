"""Release a firmware or software package in waves, behind a guard, gates and, if wanted, a person.

Start it from the form with the package, the device groups and the waves. It checks first (does the
package exist, which devices run it already, is another upgrade under way?). Each wave gets a batch
task of its own when it begins, in which every device waits to be confirmed. The next wave begins
only when enough of *all* devices confirmed so far have succeeded, or when a person says so.

When too many devices fail, or a person says no, the batch tasks are stopped. Then the versions that
the devices really run are read. Devices that failed by the firmware's fault are put into a
quarantine group. Devices that failed by their environment get a batch task of their own with the
same package, which waits until somebody confirms it at the console. Devices of waves that never
began are in no batch task.

If the run is over and a batch task of it still runs, it starts `guard_one_rollout`
(`dags/rollout_guard.py`) for that batch task.

The run is green only if the version was announced, or if it was a dry run. The announcement is an
asset event on which other DAGs can start; a broken rule is another one. From a shell:

    airflow dags trigger firmware_release --conf \
        '{"package_id": "5c8fb9d0e2f14a5b9c0d1e2f", "group_ids": ["e495cf17-ff79-4294"]}'
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import pendulum
from airflow.providers.common.compat.sdk import Asset, dag, task
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_1_PLUS
from airflow.providers.standard.operators.trigger_dagrun import TriggerDagRunOperator

from iotda_provider.airflow_support.words import field
from iotda_provider.operators.announce import AnnounceBreachOperator
from iotda_provider.operators.batch_task.collect import CollectFailedSubtasksOperator
from iotda_provider.operators.release import create_task_ids, staged_rollout
from iotda_provider.operators.release.at_rest import WaitUntilAtRestOperator
from iotda_provider.operators.release.check import CheckReleaseOperator
from iotda_provider.operators.release.leftovers import guard_what_is_left
from iotda_provider.operators.release.preview import PreviewReleaseOperator
from iotda_provider.operators.release.quarantine import QuarantineDevicesOperator
from iotda_provider.operators.release.reconcile import ReconcileReleaseOperator
from iotda_provider.operators.release.report import ReportReleaseOperator
from iotda_provider.operators.release.try_again import TryAgainOperator

# --- What you adapt ---
CONNECTION = "iotda_default"
# Who is told of holds, breaches, stops, passed waves, open questions, and the end: notifiers of
# Airflow, such as
#     SlackWebhookNotifier(slack_webhook_conn_id="slack", text="{{ message }}")
# docs/howto/tell-people.md has more. Without any, only the log tells.
NOTIFIERS: list[Any] = []
# The ids of Airflow's users who may answer a question; None: everybody whom Airflow lets answer.
# Leave out those who start releases: then nobody approves a release of their own.
APPROVERS = None


def external_evidence(facts: Mapping[str, Any]) -> str:
    """Put your own telemetry here. It is called once a wave's numbers say go.

    :return: ``go``, ``wait`` or ``stop``
    """
    return "go"


# The URL of a file that all workers can read and write, with {{ run_id }} in it: who is in which
# wave, with other files beside it. Needed for more than 30,000 devices. None: it is in XComs.
MANIFEST_PATH = None
# The URL of a file that gets all failed devices, one JSON object a line; it may contain
# {{ run_id }}. None: the XComs have the first thousand.
REPORT_PATH = None
# The limits of the form. Whatever they allow together must not let a bad image pass unseen. What
# you raise here, raise in dags/roll_back_release.py, too.
HIGHEST_TOLERATED_RATE = 0.2
HIGHEST_ATTEMPT_RATE = 0.5
HIGHEST_GATE_RATE = 0.2
LARGEST_FIRST_WAVE = 0.5  # of the devices: no gate and no person comes before it
LEAST_BAKE_MINUTES = 5
MOST_MINUTES_TO_REPORT = 2880
# --- The rest works as it is ---
MOST_WAVES = 6
SECONDS_BETWEEN_LOOKS = 10
DEFERRABLE = True  # a wave takes hours: wait in the triggerer, so that no worker is held
RETRIES = 5  # if a worker dies, the next try of its task continues the release
SECONDS_BEFORE_A_RETRY = 60
RELEASED = Asset("iotda://firmware/released")
BREACHED = Asset("iotda://rollout/breached")
# Airflow 2: can't ask.
APPROVALS = ["never", "when unproven", "before every wave"] if AIRFLOW_V_3_1_PLUS else ["never"]
ROLLBACKS = ["never", "ask", "at once"] if AIRFLOW_V_3_1_PLUS else ["never", "at once"]
# The parts of the form that are closed at first.
RULES, GATES = "What stops the release", "When a wave passes"
TIMES, WAY_BACK = "Which devices start when", "The way back"


@dag(
    dag_id="firmware_release",
    description="Release a package in waves, behind a guard, gates and a person",
    schedule=None,
    start_date=pendulum.datetime(2026, 1, 1, tz="UTC"),
    catchup=False,
    # Of two runs that begin at the same moment, the later one leaves out the devices in the groups
    # of the other. Allow more where your releases seldom share a device.
    max_active_runs=1,
    default_args={
        "retries": RETRIES,
        "retry_delay": timedelta(seconds=SECONDS_BEFORE_A_RETRY),
        "iotda_conn_id": CONNECTION,
    },
    tags=["iotda", "release"],
    doc_md=__doc__,
    params={
        # Empty at first, which the task check refuses: without values they would be red at once.
        "package_id": field(
            "",
            type="string",
            pattern="^[A-Za-z0-9-]{0,36}$",
            title="Package",
            description="The upgrade package's ID, as IoTDA's console shows it. Firmware or "
            "software; its version is read from it.",
        ),
        "group_ids": field(
            [],
            type="array",
            # Airflow 3 keeps blank lines and spaces.
            items={"type": "string", "pattern": r"^\s*([a-fA-F0-9-]{1,36}\s*)?$"},
            title="Device groups",
            description="IDs of the device groups to release to, one a line; more than 30,000 "
            "devices need MANIFEST_PATH. Devices that run the version already are left out.",
        ),
        "waves": field(
            "1%, 5%, 25%, 100%",
            type="string",
            minLength=1,
            title="Waves",
            description="Up to five, with commas: shares (5%) and numbers (500) count from the "
            "first device; group:ID takes a whole device group; the last one is 100% or rest. The "
            f"first one holds at most {LARGEST_FIRST_WAVE:.0%} of the devices. "
            "Devices that were not online lately come after them, in a wave of their own, or in "
            "several where they are most of the fleet.",
        ),
        "approval": field(
            APPROVALS[-2] if len(APPROVALS) > 1 else APPROVALS[0],
            type="string",
            enum=APPROVALS,
            title="Ask a person",
            description="Never: a wave that can't pass by its numbers stops the release. When "
            "unproven: a person decides if the numbers can't. Before every wave: a person decides "
            "after each wave but the last; the first one starts by itself. An open question holds "
            "this release, and every release after it, until it is answered.",
        ),
        "dry_run": field(
            False,
            type="boolean",
            title="Dry run",
            description="Check and plan, create nothing, and report what the release would do.",
        ),
        "tolerated_rate": field(
            0.02,
            type="number",
            exclusiveMinimum=0,
            maximum=HIGHEST_TOLERATED_RATE,
            title="Tolerated failure rate",
            section=RULES,
            description="The share of devices that may fail without the firmware being at fault, "
            f"at most {HIGHEST_TOLERATED_RATE:g}. The release is stopped once more than that is "
            "shown.",
        ),
        "tolerated_attempt_rate": field(
            0.2,
            type="number",
            exclusiveMinimum=0,
            maximum=HIGHEST_ATTEMPT_RATE,
            title="Tolerated rate of failed attempts",
            section=RULES,
            description="The share of devices of which an attempt may fail, if the batch task "
            f"retries failed devices; at most {HIGHEST_ATTEMPT_RATE:g}. A device counts at its "
            "first failed attempt, hours before its last one.",
        ),
        "report_within_minutes": field(
            240,
            type="number",
            exclusiveMinimum=0,
            maximum=MOST_MINUTES_TO_REPORT,
            title="A healthy device reports within (minutes)",
            section=RULES,
            description="Devices that take longer count as failed: bricked ones never report. "
            "After a stop, devices that are installing have the same time to end.",
        ),
        "trial": field(
            "can stop",
            type="string",
            enum=["off", "can stop", "required"],
            title="Trial",
            section=RULES,
            description="Compares the updated devices with devices of later waves, which still run "
            "the old version: more of them offline? Can stop: that stops the release. Required: a "
            "wave also has to show that its devices are no worse off, which takes some 150 devices "
            "in the first wave, and time after the bake time.",
        ),
        "gate_rate": field(
            0.05,
            type="number",
            exclusiveMinimum=0,
            maximum=HIGHEST_GATE_RATE,
            title="Failure rate to rule out",
            section=GATES,
            description="A wave is followed by the next one when the failure rate so far is shown "
            "to be below this; unfinished devices count as failed. At 0.05 it takes 82 "
            "devices without a failure; smaller waves need a person.",
        ),
        "bake_minutes": field(
            30,
            type="number",
            minimum=LEAST_BAKE_MINUTES,
            title="Bake time (minutes)",
            section=GATES,
            description="No wave passes sooner than this after its last device was confirmed.",
        ),
        "wave_hours": field(
            12,
            type="number",
            exclusiveMinimum=0,
            title="Time for a wave (hours)",
            section=GATES,
            description="A wave that has not passed within this time is unproven.",
        ),
        "max_in_flight": field(
            None,
            type=["null", "integer"],
            minimum=1,
            title="Devices at a time",
            section=TIMES,
            description="The most devices that are being upgraded at the same time; empty: no "
            "limit.",
        ),
        "window": field(
            None,
            type=["null", "string"],
            title="Maintenance window",
            section=TIMES,
            description="No device is confirmed outside of it, such as mon-fri 22:00-05:00; empty: "
            "at any time.",
        ),
        "timezone": field(
            "UTC",
            type="string",
            title="Timezone of the window",
            section=TIMES,
            description="Such as Asia/Shanghai.",
        ),
        "online_within_hours": field(
            24,
            type="number",
            minimum=0,
            title="Online lately (hours)",
            section=TIMES,
            description="Devices that are offline for longer come last. 0: all devices that are "
            "offline when the release starts come last. Other values need a call for each of them.",
        ),
        "rollback": field(
            "never",
            type="string",
            enum=ROLLBACKS,
            title="The way back",
            section=WAY_BACK,
            description="If the release is stopped for the firmware's fault: whether the devices "
            "that it has given the new version get the old package back. Ask: a person is asked, "
            "for 24 hours, in a DAG run of its own (roll_back_release).",
        ),
        "rollback_package_id": field(
            None,
            type=["null", "string"],
            pattern="^[A-Za-z0-9-]{1,36}$",
            title="Package of the way back",
            section=WAY_BACK,
            description="The old version, or a rebuild of it under a higher number for devices "
            "that refuse to go down. Needed unless the way back is never.",
        ),
    },
)
def firmware_release() -> None:
    # [waves]
    rules = (
        '[{"rule": "Combined", "false_alarm": 0.01, "rules": ['
        '{"rule": "SequentialFailureTest", "tolerated_rate": {{ params.tolerated_rate }}}, '
        '{"rule": "SequentialFailureTest", "counts": "attempts", '
        '"tolerated_rate": {{ params.tolerated_attempt_rate }}}, '
        '{"rule": "Overdue", "after_seconds": {{ params.report_within_minutes * 60 }}, '
        '"tolerated_rate": {{ params.tolerated_rate }}}]}]'
    )
    group_ids = "{{ params.group_ids | map('trim') | select | list | tojson }}"
    # What the check and the dry run must take as the waves do.
    planned: Any = {
        "rules": rules,
        "gate": "{{ params.gate_rate }}",
        "trial": "{{ params.trial }}",
        "window": "{{ params.window or '' }}",
        "timezone": "{{ params.timezone }}",
    }
    check = CheckReleaseOperator(
        task_id="check",
        package_id="{{ params.package_id }}",
        group_ids=group_ids,
        online_within="{{ params.online_within_hours }}",
        create_task_id=[*create_task_ids("rollout", MOST_WAVES), "try_again"],
        manifest_path=MANIFEST_PATH,
        waves="{{ params.waves }}",
        max_waves=MOST_WAVES,
        approval="{{ params.approval }}",
        largest_first_wave=LARGEST_FIRST_WAVE,
        rollback="{{ params.rollback }}",
        rollback_package_id="{{ params.rollback_package_id or '' }}",
        is_dry_run="{{ params.dry_run }}",
        **planned,
    )
    checked: Any = check.output
    rollout = staged_rollout(
        "rollout",
        devices=checked["targets"],
        task_type="{{ ti.xcom_pull('check')['task_type'] }}",
        document={"package_ids": ["{{ params.package_id }}"]},
        group_ids=group_ids,
        manifest_path=MANIFEST_PATH,
        waves="{{ params.waves }}",
        max_waves=MOST_WAVES,
        late=checked["late"],
        versions=checked["versions"],
        bake_time="{{ params.bake_minutes * 60 }}",
        wave_timeout="{{ params.wave_hours * 3600 }}",
        max_in_flight="{{ params.max_in_flight or '' }}",
        evidence=external_evidence,
        # Airflow 2: can't ask.
        approval="{{ params.approval }}" if AIRFLOW_V_3_1_PLUS else "never",
        on_no_answer="hold",
        subject="the {{ ti.xcom_pull('check')['kind'] }} {{ ti.xcom_pull('check')['version'] }} "
        "for {{ ti.xcom_pull('check')['devices'] }} device(s)",
        notifiers=NOTIFIERS,
        assigned_users=APPROVERS,
        poll_interval=SECONDS_BETWEEN_LOOKS,
        deferrable=DEFERRABLE,
        iotda_conn_id=CONNECTION,
        **planned,
    )
    # [end of waves]
    outcome: Any = rollout.outcome.output

    @task.branch
    def dry_run_or_not(params: Any = None) -> str:
        """A dry run creates nothing."""
        return "preview" if params["dry_run"] else "rollout.plan"

    preview = PreviewReleaseOperator(
        task_id="preview",
        checked=checked,
        left_out=checked["left_out"],
        bake_time="{{ params.bake_minutes * 60 }}",
        poll_interval=SECONDS_BETWEEN_LOOKS,
        **planned,
    )
    # As `guard_one_rollout` does.
    broken = AnnounceBreachOperator(task_id="announce_breach", outlets=[BREACHED], result=outcome)
    at_rest = WaitUntilAtRestOperator(
        task_id="at_rest",
        batch_task_id="{{ ti.xcom_pull('rollout.outcome')['batch_task_ids'] | tojson }}",
        grace="{{ params.report_within_minutes * 60 }}",
        exposed="{{ ti.xcom_pull('rollout.outcome')['exposed'] }}",
        timeout=86400,
        poll_interval=SECONDS_BETWEEN_LOOKS,
        deferrable=DEFERRABLE,
    )

    @task.branch
    def what_is_there(rest: dict[str, Any]) -> list[str]:
        """Of batch tasks that somebody has deleted no failures can be collected."""
        return ["collect", "reconcile"] if rest["found"] else ["reconcile"]

    # Which devices failed, and why: for people, and for other DAGs.
    collect = CollectFailedSubtasksOperator(
        task_id="collect",
        batch_task_id="{{ ti.xcom_pull('at_rest')['found'] | tojson }}",
        report_path=REPORT_PATH,  # of every device that failed; the XCom has the first
        max_xcom_targets=100,
    )
    reconcile = ReconcileReleaseOperator(
        task_id="reconcile",
        version="{{ ti.xcom_pull('check')['version'] }}",
        kind="{{ ti.xcom_pull('check')['kind'] }}",
        product_id="{{ ti.xcom_pull('check')['product_id'] or '' }}",
        outcome=outcome,
        plan_task_id=rollout.plan.task_id,
        gate="{{ params.gate_rate }}",
        tolerated_rate="{{ params.tolerated_rate }}",
    )
    found: Any = reconcile.output

    @task.branch
    def what_to_do(result: dict[str, Any], found: dict[str, Any], params: Any = None) -> list[str]:
        """Announce a release that is proven; otherwise clean up."""
        if result["verdict"] == "released" and found["proven"]:
            return ["announce"]
        wanted = {
            "try_again": found["to_retry"],
            "quarantine": found["counts"]["firmware"],
            "way_back": found["firmware_at_fault"] and params["rollback"] != "never",
        }
        return ["report", *(task_id for task_id, is_wanted in wanted.items() if is_wanted)]

    # The platform retries no device of a stopped task. The new task waits for a person, who then
    # knows whether the firmware was at fault.
    try_again = TryAgainOperator(
        task_id="try_again",
        # The Rollouts page shows it below the release.
        task_name="again_{{ ti.xcom_pull('rollout.outcome')['batch_task_ids'] | first }}",
        task_type="{{ ti.xcom_pull('check')['task_type'] }}",
        targets="{{ ti.xcom_pull('reconcile', key='to_retry') }}",
        document={"package_ids": ["{{ params.package_id }}"]},
        need_confirm=True,
    )
    quarantine = QuarantineDevicesOperator(
        task_id="quarantine",
        targets="{{ ti.xcom_pull('reconcile', key='to_quarantine') }}",
        group_name="quarantine_{{ ti.xcom_pull('check')['version'] }}",
        description="Failed by the firmware's own fault",
    )
    # A run of its own, so that the release of a fix need not wait for it.
    way_back = TriggerDagRunOperator(
        task_id="way_back",
        trigger_dag_id="roll_back_release",
        trigger_run_id="of__{{ run_id }}",
        skip_when_already_exists=True,
        deferrable=DEFERRABLE,
        conf="{{ dict(release_run_id=run_id, package_id=params.rollback_package_id, "
        "how=params.rollback, tolerated_rate=params.tolerated_rate, "
        "report_within_minutes=params.report_within_minutes) | tojson }}",
    )

    @task(outlets=[RELEASED])
    def announce(about: dict[str, Any], found: dict[str, Any], outlet_events: Any = None) -> str:
        """Emit the asset event of the released version."""
        facts = {name: about[name] for name in ("version", "package_id", "kind")}
        outlet_events[RELEASED].extra = {**facts, "devices": found["running"]}
        return str(found["summary"])

    report = ReportReleaseOperator(
        task_id="report", package_id="{{ params.package_id }}", notifiers=NOTIFIERS
    )
    # In any case, also if somebody marks the run as failed: a batch task may still run, and
    # nothing else guards it.
    left = guard_what_is_left(
        create_task_ids=rollout.create_task_ids,
        outcome_task_id=rollout.outcome.task_id,
        notifiers=NOTIFIERS,
        iotda_conn_id=CONNECTION,
    )

    todo, announced = what_to_do(outcome, found), announce(checked, found)
    check >> dry_run_or_not() >> [preview, rollout.group]
    rollout.group >> at_rest >> what_is_there(at_rest.output) >> [collect, reconcile]
    reconcile >> todo >> [announced, try_again, quarantine, way_back, report]
    [preview, broken, collect, announced, try_again, quarantine, way_back] >> report
    # Not after the report, which may wait for its own retries.
    [at_rest, collect, announced, try_again, quarantine, way_back] >> left.unfinished


firmware_release()
