"""The task group that releases to devices in waves, each behind a guard and a gate."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from typing import Any, NamedTuple

from airflow.providers.common.compat.sdk import TaskGroup, conf
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_1_PLUS

from iotda_provider.airflow_support.questions import checked_users
from iotda_provider.guards import EnoughSuccess, FailureClasses
from iotda_provider.models.text import what_is
from iotda_provider.notifications.recorded import record
from iotda_provider.operators.release.confirm import ConfirmWaveOperator
from iotda_provider.operators.release.create import CreateWaveOperator
from iotda_provider.operators.release.gate import WaveGateOperator
from iotda_provider.operators.release.outcome import RolloutOutcomeOperator
from iotda_provider.operators.release.plan import PlanWavesOperator
from iotda_provider.operators.release.questions import question, question_of
from iotda_provider.operators.release.stop import StopReleaseOperator
from iotda_provider.operators.release.watch import Evidence, WatchWaveOperator
from iotda_provider.release.gate import APPROVALS, NEVER
from iotda_provider.release.wave_specs import wave_specs
from iotda_provider.rollout_guard.alerts import OnAlert
from iotda_provider.task_io.dag_parameters import is_template, one_of, text_or_template
from iotda_provider.task_io.parameters import positive, whole_number

_JOIN = "none_failed_min_one_success"
_LIMIT = "execution_timeout"
#: Airflow's own limit, less the names of the tasks; and more waves than a page of Airflow can show.
_LONGEST_ID, _MOST_WAVES = 200, 100


class StagedRollout(NamedTuple):
    """A staged rollout in a DAG.

    :param group: the task group, for ``create >> rollout.group``
    :param plan: its first task; ``plan.output`` says which wave has how many devices
    :param outcome: its last task; ``outcome.output["verdict"]`` says how it has ended
    :param create_task_ids: the tasks in it that create batch tasks
    """

    group: TaskGroup
    plan: PlanWavesOperator
    outcome: RolloutOutcomeOperator
    create_task_ids: tuple[str, ...] = ()


def staged_rollout(
    group_id: str = "rollout",
    *,
    devices: Any,
    task_type: str,
    document: Any,
    rules: Any,
    task_name: str = "release",
    app_id: str | None = None,
    task_policy: Any = None,
    group_ids: Any = None,
    waves: Any = ("1%", "5%", "25%", "100%"),
    gate: Any = None,
    max_waves: int = 6,
    late: Any = (),
    versions: Any = None,
    from_version: str | None = None,
    is_way_back: bool = False,
    seed: str | None = None,
    manifest_path: str | None = None,
    bake_time: Any = 0,
    wave_timeout: Any = 86400,
    evidence: Evidence | None = None,
    evidence_interval: float | None = None,
    trial: Any = None,
    already_current: Any = 0,
    chunk: int = 100,
    max_in_flight: Any = None,
    window: Any = None,
    timezone: str = "UTC",
    rehearse_stop: bool = True,
    approval: str = NEVER,
    on_no_answer: str = "hold",
    answer_within: timedelta | None = None,
    subject: str = "",
    notifiers: Iterable[Any] | None = None,
    released_as: str = "released",
    assigned_users: Sequence[str | Mapping[str, str]] | None = None,
    on_alert: OnAlert | None = None,
    failure_classes: FailureClasses | Mapping[str, str] | None = None,
    poll_interval: float = 10,
    deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
    iotda_conn_id: str = "iotda_default",
    project_id: str | None = None,
    instance_id: str | None = None,
    **task_arguments: Any,
) -> StagedRollout:
    """Release a package to devices in waves.

    Each wave has a batch task of its own, and several where it has more than 30,000 devices: they
    are created when it begins, and hold its devices until they are confirmed. Devices of later
    waves are in no batch task, so no mistake reaches further than the present wave.

    Each wave: create, and confirm, once the maintenance window is open (at most 100 devices in a
    call, with a look of the guard before each, which looks while the window is closed, too), watch,
    bake, and the gate. A wave passes on ``EnoughSuccess`` over all devices so far, where every
    unfinished one counts as failed; on a person's word; or not at all. On a breach the guard stops
    all batch tasks of the release; on a person's no, the group does.

    The number of waves is known only when the DAG runs, so ``max_waves`` of them are unrolled, and
    those that a release does not have are passed through or skipped. A task that was killed or
    cleared decides anew from what the platform says and from what was written down, so no batch
    task is created twice, and no device is confirmed twice or forgotten.

    :param group_id: the id of the task group
    :param devices: the devices to release to, up to a million: a list, an XCom of one, text that
        begins with ``[``, or the URL of a file with one id a line (templated)
    :param task_type: ``firmwareUpgrade`` or ``softwareUpgrade`` (templated)
    :param document: ``{"package_ids": [...]}`` (templated)
    :param rules: the guard's rules, as objects or as JSON of them (templated)
    :param task_name: how the names of its batch tasks begin, which end with
        ``_wave_2_of_4_part_1`` and a stamp (templated)
    :param app_id: resource space of its batch tasks (templated)
    :param task_policy: of its batch tasks, as of ``CreateBatchTaskOperator`` (templated)
    :param group_ids: the device groups that the release is for, for people and for other releases
        (templated)
    :param waves: see :class:`~iotda_provider.operators.release.plan.PlanWavesOperator` (templated)
    :param gate: ``EnoughSuccess(...)``, or the failure rate that a wave must rule out; None: 5 %
        (templated)
    :param max_waves: the most waves that a release may have
    :param late: devices that form the last wave, or several, as they were not online lately
        (templated)
    :param versions: what each device runs now, for the way back: see
        :class:`~iotda_provider.operators.release.plan.PlanWavesOperator` (templated)
    :param from_version: only for devices that still run this version when their wave begins, as on
        the way back; None: whatever they run (templated)
    :param is_way_back: whether it brings the old version back: no other release holds it up
    :param seed: what the order is drawn from; None: what names the release (templated)
    :param manifest_path: URL of a file for the plan of the waves, with others beside it; needed for
        more than 30,000 devices; None: in XCom (templated)
    :param bake_time: seconds that a wave waits after its last confirmation before it may pass
        (templated)
    :param wave_timeout: seconds after which a wave that has not passed is unproven (templated)
    :param evidence: a function, or the dotted path of one, that must agree, too: see
        :class:`~iotda_provider.operators.release.watch.WatchWaveOperator`
    :param evidence_interval: seconds between two questions for it; None: six looks
    :param trial: a :class:`~iotda_provider.trials.DeviceTrial`, or ``off``, ``can stop`` or
        ``required``: whether devices are worse off with the new version than those of later waves.
        None: off (templated)
    :param already_current: devices of the release that ran the new version before it (templated)
    :param chunk: the most devices in one call
    :param max_in_flight: the most confirmed devices without an outcome; None: no limit (templated)
    :param window: a ``MaintenanceWindow``, or text such as ``mon-fri 22:00-05:00`` (templated)
    :param timezone: the timezone of a window that is text (templated)
    :param rehearse_stop: before the first device is confirmed, find out whether the connection may
        stop the release, and do not begin where it may not; nothing is stopped for that
    :param approval: when a person is asked: ``never`` (an unproven wave stops the release), ``when
        unproven`` or ``before every wave``; a template needs Airflow 3.1 too (templated)
    :param on_no_answer: what a person's silence means: ``hold``, for as long as it takes, or
        ``stop`` after ``answer_within``
    :param answer_within: for ``stop``
    :param subject: how a question names the release, such as ``firmware 2.0.0 for group north``;
        empty: by its DAG run (templated)
    :param notifiers: Airflow's notifiers that tell people of what the guard sees and does, of a
        wave that has passed, of an open question, and of the end (``released`` or ``not_released``)
    :param released_as: what a good end is called: ``rolled_back`` if the old version comes back
    :param assigned_users: who may answer it: the ids of Airflow's users, or ``{"id", "name"}`` of
        them; None: whoever may answer questions of this DAG at all
    :param on_alert: a function, or the dotted path of one, that gets each event of the guard
    :param failure_classes: how failures are classed, where the default does not fit
    :param poll_interval: seconds between two looks
    :param deferrable: wait in the triggerer, so that no worker is held while a wave is under way
    :param iotda_conn_id: the connection (templated)
    :param project_id: instead of the connection's (templated)
    :param instance_id: instead of the connection's (templated)
    :param task_arguments: for every task in it, such as ``retries``; ``execution_timeout`` for all
        but the questions
    :raises ValueError: a parameter makes no sense, or needs a newer Airflow; the message names it
    """
    text_or_template(group_id, "group_id")
    if len(group_id) > _LONGEST_ID:
        raise ValueError(f"group_id must be at most {_LONGEST_ID} characters, got {len(group_id)}")
    if whole_number(max_waves, "max_waves") > _MOST_WAVES:
        raise ValueError(f"max_waves must be at most {_MOST_WAVES}, got {max_waves!r}")
    positive(poll_interval, "poll_interval")
    one_of(on_no_answer, "on_no_answer", ("hold", "stop"))
    if (on_no_answer == "stop") != (answer_within is not None):
        raise ValueError("give answer_within and on_no_answer='stop' together, or neither")
    silence: Any = answer_within
    if silence is not None and not isinstance(silence, timedelta):
        what = what_is(silence, instead_of="a timedelta")
        raise ValueError(f"answer_within must be a timedelta, got {what}")
    if not is_template(approval):
        one_of(approval, "approval", APPROVALS)
    if approval != NEVER and not AIRFLOW_V_3_1_PLUS:
        raise ValueError(
            f"approval={approval!r} needs Airflow 3.1 or later, which can ask a person "
            "(HITLBranchOperator); below it, only approval='never' works"
        )
    if not is_template(waves) and len(wave_specs(waves)) > max_waves:
        raise ValueError(
            f"waves has {len(wave_specs(waves))} of them, and max_waves is {max_waves}"
        )
    users = checked_users(assigned_users)
    told = record(notifiers, importable=deferrable)
    gate = EnoughSuccess(0.05) if gate is None else gate
    connection: dict[str, Any] = {
        "iotda_conn_id": iotda_conn_id,
        "project_id": project_id,
        "instance_id": instance_id,
    }
    common = {**connection, "deferrable": deferrable, **task_arguments}

    with TaskGroup(group_id) as group:
        places = range(1, max_waves + 1)
        outcome_id = group.child_id("outcome")  # type: ignore[no-untyped-call]

        def name(place: int, step: str) -> str:
            label = f"wave_{place}_{step}"
            return str(group.child_id(label))  # type: ignore[no-untyped-call]

        creates = tuple(name(place, "create") for place in places)
        plan = PlanWavesOperator(
            task_id="plan",
            keeper_task_id=outcome_id,
            create_task_ids=creates,
            devices=devices,
            task_type=task_type,
            document=document,
            group_ids=group_ids,
            waves=waves,
            gate=gate,
            late=late,
            versions=versions,
            seed=seed,
            max_waves=max_waves,
            manifest_path=manifest_path,
            bake_time=bake_time,
            wave_timeout=wave_timeout,
            already_current=already_current,
            trial=trial,
            rules=rules,
            poll_interval=poll_interval,
            **connection,
            **task_arguments,
        )
        steps: list[dict[str, str | None]] = [
            {
                "ask": name(place, "ask") if approval != NEVER else None,
                **{one: name(place, one) for one in ("create", "confirm", "watch", "gate", "stop")},
            }
            for place in places
        ]
        guarded = {
            "plan_task_id": plan.task_id,
            "rules": rules,
            "failure_classes": failure_classes,
            "notifiers": told,
            "on_alert": on_alert,
            "poll_interval": poll_interval,
            "keeper_task_id": outcome_id,
        }
        outcome = RolloutOutcomeOperator(
            task_id="outcome",
            steps=steps,
            released_as=released_as,
            after=tuple(
                str(step[kind]) for step in steps for kind in ("create", "confirm", "watch")
            ),
            trigger_rule=_JOIN,
            **guarded,
            **connection,
            **task_arguments,
        )
        about = subject or "the release {{ run_id }}"
        before: list[Any] = [plan]
        guards: list[str] = []
        opened_by: dict[str, str | None] | None = None
        for place, step in zip(places, steps, strict=True):
            create = CreateWaveOperator(
                task_id=f"wave_{place}_create",
                wave=place,
                create_task_id=name(place - 1, "create") if place > 1 else None,
                task_name=task_name,
                task_type=task_type,
                document=document,
                task_policy=task_policy,
                app_id=app_id,
                from_version=from_version,
                is_way_back=is_way_back,
                opened_by=opened_by,
                window=window,
                timezone=timezone,
                after=tuple(guards),
                trigger_rule=_JOIN,
                **guarded,
                **common,
            )
            guards.append(create.task_id)
            confirm = ConfirmWaveOperator(
                task_id=f"wave_{place}_confirm",
                wave=place,
                create_task_id=create.task_id,
                chunk=chunk,
                max_in_flight=max_in_flight,
                window=window,
                timezone=timezone,
                rehearse_stop=rehearse_stop,
                after=tuple(guards),
                **guarded,
                **common,
            )
            guards.append(confirm.task_id)
            watch = WatchWaveOperator(
                task_id=f"wave_{place}_watch",
                wave=place,
                create_task_id=create.task_id,
                confirm_task_id=confirm.task_id,
                gate=gate,
                bake_time=bake_time,
                wave_timeout=wave_timeout,
                evidence=evidence,
                evidence_interval=evidence_interval,
                already_current=already_current,
                trial=trial,
                after=tuple(guards),
                **guarded,
                **common,
            )
            guards.append(watch.task_id)
            follows = name(place + 1, "create") if place < max_waves else outcome.task_id
            # One for each wave: a common one would wait until all later waves are skipped.
            stop = StopReleaseOperator(
                task_id=f"wave_{place}_stop",
                create_task_id=create.task_id,
                trigger_rule=_JOIN,
                **connection,
                **task_arguments,
            )
            gate_task = WaveGateOperator(
                task_id=f"wave_{place}_gate",
                watch_task_id=watch.task_id,
                if_passed=follows,
                if_ask=step["ask"],
                if_stop=stop.task_id,
                if_over=outcome.task_id,
                approval=approval,
                question=question_of(about, place),
                notifiers=told,
                iotda_conn_id=iotda_conn_id,
                **task_arguments,
            )
            before >> create >> confirm >> watch >> gate_task >> [stop, outcome]
            stop >> outcome
            before = [gate_task]
            opened_by = {"gate": gate_task.task_id, "ask": step["ask"], "entry": follows}
            if step["ask"] is not None:
                ask = question(
                    place,
                    about,
                    f"ti.xcom_pull('{watch.task_id}')",
                    create_task_id=create.task_id,
                    if_go_on=follows,
                    if_stop=stop.task_id,
                    after=tuple(guards),
                    response_timeout=answer_within,
                    assigned_users=users or None,
                    **guarded,
                    **connection,
                    # A person may take any time.
                    **{key: task_arguments[key] for key in task_arguments if key != _LIMIT},
                )
                guards.append(ask.task_id)
                gate_task >> ask >> stop
                before.append(ask)
                if place == max_waves:
                    ask >> outcome
    return StagedRollout(group, plan, outcome, creates)
