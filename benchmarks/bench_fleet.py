"""What hundreds of guards cost on an Airflow of many parts: CPU, memory, commits, calls, bytes.

    python benchmarks/bench_fleet.py [--guards 300 1000] [--seconds 120]

CeleryExecutor, Postgres, Redis, two triggerers, scheduler, API server, DAG processor and the
emulator, all on this machine, started as by `make test-distributed`, with the shipped DAGs (a look
every 5 s, rollout_guard every minute). All rollouts run and none changes. Then the triggerer with
most guards is killed at the moment at which eight rollouts go bad. It prints the rows of the table
in docs/deployment.md, and takes twenty minutes.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tests.distributed.cluster import PARTS, Cluster  # noqa: E402
from tests.distributed.keeper import Keeper  # noqa: E402
from tests.distributed.rollouts import Rollouts  # noqa: E402
from tests.system.restarts.emulator_process import EmulatorProcess  # noqa: E402

#: Rollouts that go bad at the moment at which a triggerer is killed.
BAD = 8
LEFT = """
select coalesce(sum(length(value::text)), 0) from xcom where dag_id = 'guard_one_rollout'
union all select coalesce(sum(length(val)), 0) from variable where key like '%guard_memory%'
union all select coalesce(sum(length(value)), 0) from task_state_store
"""


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--guards", type=int, nargs="+", default=[300, 1000])
    arguments.add_argument("--seconds", type=float, default=120, help="how long is measured")
    options = arguments.parse_args()
    with Keeper():
        return bench(options.guards, options.seconds)


def bench(numbers: list[int], seconds: float) -> int:
    """Start everything, and measure with each number of guards."""
    home = Path(tempfile.mkdtemp(prefix="fleet-"))
    emulator = EmulatorProcess(home, Rollouts.SCENARIO, speed=1)
    os.environ["AIRFLOW_CONN_IOTDA_DEFAULT"] = json.dumps(emulator.airflow_connection)
    cluster = None
    try:
        emulator.start()
        rollouts = Rollouts(emulator)
        cluster = Cluster(
            home / "airflow",
            emulator.airflow_connection,
            [ROOT / "dags" / "rollout_guard.py"],
            {"AIRFLOW__TRIGGERER__CAPACITY": "2000"},
        )
        cluster.start()
        rollouts.begin(2)
        for dag_id in ("rollout_guard", "guard_one_rollout"):
            cluster.unpause(dag_id)
        wait_for_guards(cluster, rollouts)
        for stage, guards in enumerate(sorted(numbers), start=2):
            watched = len(rollouts.all) - len(rollouts.failed)
            add_guards(cluster, rollouts, guards - watched - BAD, stage)
            wait_for_guards(cluster, rollouts)
            time.sleep(60)  # guards that began together have spread
            measure(cluster, rollouts, seconds)
            take_over(cluster, rollouts, stage)
        finish_one(cluster, rollouts)
    finally:
        if cluster is not None:
            cluster.close()
            rollouts.close()
        emulator.kill()
        shutil.rmtree(home, ignore_errors=True)
    return 0


def add_guards(cluster: Cluster, rollouts: Rollouts, count: int, stage: int) -> None:
    """Add this many waiting guards, without the hour that workers would take to begin them.

    :param stage: of the rollouts that will go bad, which come on top
    """
    cluster.call("PATCH", "dags/rollout_guard", {"is_paused": True})
    before = set(rollouts.all)
    rollouts.begin(count, bad=BAD, stage=stage)
    rollouts.defer_guards(cluster, [key for key in rollouts.all if key not in before])
    cluster.unpause("rollout_guard")


def wait_for_guards(cluster: Cluster, rollouts: Rollouts) -> None:
    """Wait until each has a triggerer."""

    def are_owned() -> bool:
        owners = rollouts.guarded(cluster)
        return (
            set(rollouts.all) - set(rollouts.failed) <= owners.keys()
            and None not in owners.values()
        )

    cluster.wait_for("guards", are_owned, patience=900)


def measure(cluster: Cluster, rollouts: Rollouts, seconds: float) -> None:
    """Print what the guards cost over some seconds."""
    cpu, commits, calls = cpu_seconds(cluster), count_commits(cluster), count_calls(rollouts)
    began = time.monotonic()
    time.sleep(seconds)
    took = time.monotonic() - began
    used = {part: spent - cpu.get(part, 0) for part, spent in cpu_seconds(cluster).items()}
    owners = Counter(rollouts.guarded(cluster).values())
    print(f"== {sum(owners.values())} guards, by triggerer: {sorted(owners.values())}")
    for part in PARTS:
        memory = sum(process.memory_full_info().uss for process in cluster.processes(part))
        print(f"{part:15} {used[part] / took:6.1%} of a core  {memory / 1e6:6.0f} MB")
    print(f"commits a second    {(count_commits(cluster) - commits) / took:6.1f}")
    print(f"API calls a second  {(count_calls(rollouts) - calls) / took:6.2f}")
    xcoms, variables, store = (row[0] for row in cluster.query(LEFT))
    guards = sum(owners.values())
    print(
        f"bytes a waiting guard  {(xcoms + variables + store) / guards:,.0f} "
        f"(XComs {xcoms / guards:,.0f}, Variable {variables / guards:,.0f})",
        flush=True,
    )


def take_over(cluster: Cluster, rollouts: Rollouts, stage: int) -> None:
    """Kill the triggerer with most guards as rollouts go bad; print when guards see it and stop.

    When the platform has a stop is known to the second.
    """
    owners = rollouts.guarded(cluster)
    most, count = Counter(owners.values()).most_common(1)[0]
    part = cluster.part_of(most)
    cluster.kill(part)
    killed = time.time()
    bad = rollouts.fail(stage)

    def have_ended() -> bool:
        return set(rollouts.runs(cluster, bad).values()) <= {"success", "failed"}

    cluster.wait_for("the end of the guard runs", have_ended, patience=900)
    print(f"a triggerer with {count} guards killed, {len(bad)} rollouts bad at that moment:")
    for whose, keys in (
        ("its own", [key for key in bad if owners[key] == most]),
        ("the other's", [key for key in bad if owners[key] != most]),
    ):
        looks = {key: rollouts.saw_the_breach(cluster, key) for key in keys}
        stops = {key: rollouts.stops(key) for key in keys}
        assert all(len(sent) == 1 for sent in stops.values()), stops
        if keys:
            latest = max(looks.values()) - killed
            slowest = max(stops[key][0] - looks[key] for key in keys)
            print(
                f"  {whose} {len(keys)}: the last look that saw it {latest:.1f} s after the kill, "
                f"at most {slowest:.1f} s from look to stop",
                flush=True,
            )
    cluster.start_part(part)
    cluster.wait_for("life in all parts", cluster.all_alive)


def finish_one(cluster: Cluster, rollouts: Rollouts) -> None:
    """Print what a guard that has stopped its rollout leaves in the database."""
    rollouts.begin(0, bad=1, stage=4)
    wait_for_guards(cluster, rollouts)
    (bad,) = rollouts.fail(4)
    cluster.wait_for(
        "the end of a guard run",
        lambda: rollouts.runs(cluster, [bad])[bad] in ("success", "failed"),
        patience=900,
    )
    rows = cluster.query(
        "select x.task_id || '.' || x.key, length(x.value::text) from xcom x "
        "join dag_run r on r.dag_id = x.dag_id and r.run_id = x.run_id "
        "where r.conf ->> 'batch_task_id' = %s order by 2 desc",
        bad,
    )
    print(f"bytes a finished guard run has left in XComs  {sum(size for _, size in rows):,}")
    for name, size in rows[:6]:
        print(f"  {name:40} {size:8,}")


def cpu_seconds(cluster: Cluster) -> dict[str, float]:
    """CPU seconds that each part has spent, its ended processes included."""
    spent: dict[str, float] = {}
    for part in PARTS:
        times = [process.cpu_times() for process in cluster.processes(part)]
        spent[part] = sum(t.user + t.system + t.children_user + t.children_system for t in times)
    return spent


def count_commits(cluster: Cluster) -> int:
    ((count,),) = cluster.query(
        "select xact_commit from pg_stat_database where datname = current_database()"
    )
    return int(count)


def count_calls(rollouts: Rollouts) -> int:
    entries = rollouts.emulator.journal()
    return int(entries[-1]["n"]) if entries else 0


if __name__ == "__main__":
    sys.exit(main())
