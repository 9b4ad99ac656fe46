"""The shipped guard where teams run it: Celery, Postgres, Redis, two triggerers, 300 rollouts.

The tests are one story, each goes on from the one before: ``make test-distributed``, some ten
minutes on two cores; with IOTDA_ROLLOUTS=20 instead of 300, a few. To see that they can fail, put a
fault into the harness's copy:

    IOTDA_MUTATION=late-stop make test-distributed

or ``not-deferrable``, or ``no-retries``.
"""

from __future__ import annotations

import os
import re
import time
from collections import Counter
from datetime import datetime, timezone

import psutil  # type: ignore[import-untyped,unused-ignore]
import pytest
from tests.distributed.cluster import Cluster
from tests.distributed.rollouts import Rollouts
from tests.system.restarts.parts import VERSION

pytestmark = [
    pytest.mark.timeout(3600),
    pytest.mark.skipif(VERSION < (3, 3), reason="the harness is for Airflow 3.3"),
]

LOOK = "rollout_guard"
#: Further rollouts that are guarded; fewer for whoever works at these tests.
MORE = int(os.environ.get("IOTDA_ROLLOUTS", "300"))
#: Healthy ones among them whose guards workers begin.
BY_WORKERS = 20
#: Seconds that may lie between the look that sees a breach and its stop.
MOST_SECONDS_TO_STOP = 15.0
#: Seconds that a new rollout may run until its guard is deferred, however many others there are.
MOST_SECONDS_WITHOUT_GUARD = 90.0
#: Triggers that no triggerer works at: its owner is unset, has ended or shows no life.
WITHOUT_OWNER = """
    select t.id from trigger t left join job j on j.id = t.triggerer_id
    where j.id is null or j.state <> 'running' or j.latest_heartbeat < now() - interval '60 seconds'
"""


def at_rest(cluster: Cluster) -> bool:
    """No task is at work or waits for a worker, by Airflow's record and by what runs."""
    busy = cluster.query(
        "select 1 from task_instance where state in ('scheduled', 'queued', 'running', "
        "'restarting') limit 1"
    )
    return not busy and not held_processes(cluster)


def held_processes(cluster: Cluster) -> list[psutil.Process]:
    """What the worker's processes have started to run a task."""
    found = []
    for process in cluster.processes("worker"):
        try:
            parent = process.parent()
            if parent is not None and "ForkPoolWorker" in parent.name():
                found.append(process)
        except psutil.NoSuchProcess:
            continue
    return found


def wait_for_guards(cluster: Cluster, rollouts: Rollouts, ids: list[str]) -> None:
    """Wait until each of these has a deferred guard, and nothing is at work any more."""
    patience = 600 + 3 * len(ids)
    wanted = set(ids)
    cluster.wait_for(
        f"{len(wanted)} deferred guards",
        lambda: wanted <= rollouts.guarded(cluster).keys(),
        patience=patience,
    )
    cluster.wait_for("rest", lambda: at_rest(cluster))


def wait_for_owners(cluster: Cluster) -> None:
    """Wait until a triggerer that shows life works at each trigger; a new one has none yet."""
    cluster.wait_for(
        "an owner of each trigger",
        lambda: cluster.query("select 1") and not cluster.query(WITHOUT_OWNER),
    )


def state_at_the_end(cluster: Cluster, run_id: str) -> str:
    """How a run of the DAG that looks has ended."""
    ended = "select state from dag_run where run_id = %s and state in ('success', 'failed')"
    ((state,),) = cluster.wait_for(f"{run_id}'s end", lambda: cluster.query(ended, run_id))
    return str(state)


def wait_for_success(cluster: Cluster, rollouts: Rollouts, ids: list[str]) -> None:
    """Wait until these rollouts' guard runs have ended, and have ended well."""

    def have_ended() -> bool:
        return set(rollouts.runs(cluster, ids).values()) <= {"success", "failed"}

    cluster.wait_for("the end of the guard runs", have_ended, patience=600)
    for batch_task_id, state in rollouts.runs(cluster, ids).items():
        assert state == "success", rollouts.tasks(cluster, batch_task_id)


def assert_stopped_once(rollouts: Rollouts) -> None:
    """Each rollout that has failed so far was stopped once, and no other one at all."""
    stops = {key: len(rollouts.stops(key)) for key in rollouts.all}
    assert stops == {key: int(key in rollouts.failed) for key in rollouts.all}


def test_twelve_rollouts_hold_no_worker_and_start_nothing_in_the_steady_state(
    cluster: Cluster, rollouts: Rollouts
) -> None:
    rollouts.begin(11, bad=1, stage=1)
    cluster.unpause(LOOK)
    cluster.unpause("guard_one_rollout")
    wait_for_guards(cluster, rollouts, rollouts.all)

    steady = datetime.now(timezone.utc)
    for number in (1, 2):
        run_id = f"steady_{number}"
        body = {"dag_run_id": run_id, "logical_date": None}
        cluster.call("POST", f"dags/{LOOK}/dagRuns", body)
        assert state_at_the_end(cluster, run_id) == "success"
    cluster.wait_for("rest", lambda: at_rest(cluster))

    # What a worker has run; the scheduler settles what has nothing to do by itself.
    started = cluster.query(
        "select dag_id, task_id, count(*), count(distinct run_id) from task_instance "
        "where start_date > %s and coalesce(hostname, '') <> '' group by 1, 2",
        steady,
    )
    assert len(started) == 1, f"more than the looking was started: {started}"
    ((dag_id, _, count, runs),) = started
    assert (dag_id, count) == (LOOK, runs)
    assert runs >= 2
    wait_for_owners(cluster)


def test_a_bad_one_of_them_is_stopped_and_its_reasons_told(
    cluster: Cluster, rollouts: Rollouts
) -> None:
    bad = rollouts.fail(1)

    wait_for_success(cluster, rollouts, bad)

    assert_stopped_once(rollouts)
    assert rollouts.tasks(cluster, bad[0])["tell_reasons"] == "success"
    assert seconds_to_stop(cluster, rollouts, bad[0]) < MOST_SECONDS_TO_STOP


def seconds_to_stop(cluster: Cluster, rollouts: Rollouts, batch_task_id: str) -> float:
    """From the look that saw the breach to the moment at which the platform had the stop."""
    (stop,) = rollouts.stops(batch_task_id)
    return stop - rollouts.saw_the_breach(cluster, batch_task_id)


def test_three_hundred_more_are_guarded(cluster: Cluster, rollouts: Rollouts) -> None:
    cluster.call("PATCH", f"dags/{LOOK}", {"is_paused": True})
    cluster.wait_for("the end of the last look", lambda: at_rest(cluster))
    # So many bad ones that the triggerer that holds most has some of them.
    rollouts.begin(MORE - 11, bad=8, stage=2)
    rollouts.begin(0, bad=1, stage=3)
    rollouts.begin(0, bad=2, stage=4)
    later = [key for stage in (2, 3, 4) for key in rollouts.bad[stage]]
    # Workers begin the guards of those that will fail, and of some others. To begin them all costs
    # two cores a quarter of an hour and shows no more.
    first = 11 + BY_WORKERS
    rollouts.start_guards(cluster, [*rollouts.healthy[11:first], *later])
    wait_for_guards(cluster, rollouts, [*rollouts.healthy[:first], *later])
    rollouts.defer_guards(cluster, rollouts.healthy[first:])
    cluster.unpause(LOOK)

    wait_for_guards(cluster, rollouts, [*rollouts.healthy, *later])

    wait_for_owners(cluster)


def test_one_more_beside_them_is_guarded_within_ninety_seconds(
    cluster: Cluster, rollouts: Rollouts
) -> None:
    """From the creation of its batch task to the deferral that Airflow's database has."""
    rollouts.begin(1)
    newest = rollouts.healthy[-1]

    cluster.wait_for("its guard", lambda: newest in rollouts.guarded(cluster), patience=600)

    waited = rollouts.guarded_since(cluster, newest) - rollouts.created[newest]
    assert waited <= MOST_SECONDS_WITHOUT_GUARD, f"its guard was deferred after {waited:.0f} s"
    cluster.wait_for("rest", lambda: at_rest(cluster))
    wait_for_owners(cluster)


def test_a_breach_is_stopped_though_the_triggerer_that_holds_most_dies(
    cluster: Cluster, rollouts: Rollouts
) -> None:
    bad = rollouts.bad[2]
    owners = rollouts.guarded(cluster)
    counts = Counter(owners.values())
    most = max(counts, key=lambda job: counts[job])
    part = cluster.part_of(most)

    cluster.kill(part)
    rollouts.fail(2)
    try:
        wait_for_success(cluster, rollouts, bad)
        guards_of_the_dead = [key for key in bad if owners[key] == most]
        assert guards_of_the_dead
        assert_stopped_once(rollouts)
        took = {key: seconds_to_stop(cluster, rollouts, key) for key in bad}
        assert max(took.values()) < MOST_SECONDS_TO_STOP, took
        wait_for_owners(cluster)
    finally:
        cluster.start_part(part)
    cluster.wait_for("life in all parts", cluster.all_alive)


def test_a_run_outlives_broker_and_platform_that_go_away_as_it_stops(
    cluster: Cluster, rollouts: Rollouts
) -> None:
    (bad,) = rollouts.fail(3)
    before = datetime.now(timezone.utc)
    rollouts.emulator.refuse(30)
    cluster.broker.stop()
    time.sleep(8)  # for so long it is away
    cluster.broker.start()
    cluster.wait_for("the platform", rollouts.emulator.answers)
    cluster.wait_for("the stop", lambda: rollouts.stops(bad))
    # And once more for the task that asks which devices have failed, however late it begins.
    cluster.wait_for(
        "the collecting",
        lambda: rollouts.tasks(cluster, bad).get("collect_failures") in ("queued", "running"),
        patience=600,
    )
    again = datetime.now(timezone.utc)
    rollouts.emulator.refuse(30)

    wait_for_success(cluster, rollouts, [bad])

    cluster.wait_for("the platform", rollouts.emulator.answers)
    assert_stopped_once(rollouts)
    assert rollouts.tasks(cluster, bad)["tell_reasons"] == "success"
    for began, ended in ((before, again), (again, datetime.now(timezone.utc))):
        lines = guards_lines(cluster, rollouts.healthy, began, ended)
        assert len(lines) >= 0.9 * len(rollouts.healthy), "each guard has noticed, in its own log"
        assert max(lines.values()) <= 5, lines.most_common(3)


def guards_lines(
    cluster: Cluster, batch_task_ids: list[str], since: datetime, until: datetime
) -> Counter[str]:
    """How many lines the log of each of these rollouts' guards has got in that time."""
    counts: Counter[str] = Counter()
    for log in cluster.home.glob("logs/dag_id=guard_one_rollout/*/task_id=guard/*.trigger.*.log"):
        batch_task_id = log.parent.parent.name.split("__")[1]
        if batch_task_id not in batch_task_ids:
            continue
        for line in log.read_text(errors="replace").splitlines():
            found = re.search(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d", line)
            if found and since <= datetime.fromisoformat(found[0] + "+00:00") < until:
                counts[batch_task_id] += 1
    return counts


def test_a_database_that_goes_away_costs_no_stop_and_makes_no_second_one(
    cluster: Cluster, rollouts: Rollouts
) -> None:
    bad = rollouts.fail(4)
    cluster.database.stop()
    time.sleep(20)  # for so long it is away
    cluster.database.start()

    cluster.wait_for("life in all parts", cluster.all_alive)
    cluster.wait_for("the stops", lambda: all(rollouts.stops(key) for key in bad))
    cluster.wait_for(
        "the end of the guard runs",
        lambda: set(rollouts.runs(cluster, bad).values()) <= {"success", "failed"},
    )
    wait_for_owners(cluster)

    assert_stopped_once(rollouts)
    assert set(rollouts.healthy) <= rollouts.guarded(cluster).keys(), "they are guarded on"
