"""A release to 10,000 devices that is killed -9 in every wave ends as one that is left alone.

Airflow is made of real processes, and the platform, which is never killed, of another one. Its time
stands still but for what a test lets pass, so a wave is in its middle for as long as it takes to
kill somebody in it. Two runs of one way see the same platform: what it has drawn for each device
hangs on its seed, not on when it is asked.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any

import pytest
from tests.system.pipeline import BAD, PACKAGE, VERSION, WEAK, hurried_release
from tests.system.restarts.parts import IS_AIRFLOW_2, PARTS, Airflow
from tests.system.restarts.parts import VERSION as VERSION_OF_AIRFLOW

from iotda_provider.guards import total_progress
from iotda_provider.hooks.iotda import IoTDAHook
from iotda_provider.models import BatchTask, TaskProgress
from iotda_provider.procedures.create_once import is_of_release

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3000)]

DEVICES = 10_000
ALL, NORTH, SOUTH, REST = (f"0000000{letter}-0000" for letter in "abcd")
FAILURE_AFTER, SUCCESS_AFTER = 30, 60
#: Real seconds for which an answer is held, so that its caller can be killed before it has it.
HELD = 25
TRIGGERER, WORKER, EVERYTHING = "triggerer", "worker", "everything"
_numbers = itertools.count(1)


@dataclass(frozen=True)
class Way:
    """What becomes of a release.

    :param verdict: ``released``, ``breached`` in the last wave that begins, or ``refused`` after it
    :param waves: the waves that begin
    :param limit: the most devices under way
    :param params: more of the DAG's parameters
    :param scenario: more of the platform's
    """

    verdict: str
    waves: int
    limit: int
    params: dict[str, Any]
    scenario: dict[str, Any]


_WHOLE_FLEET = [{"name": "all", "group_id": ALL, "count": DEVICES}]
HEALTHY = Way(
    "released",
    waves=4,
    limit=1000,
    params={"group_ids": [ALL], "waves": "1%, 5%, 25%, 100%"},
    scenario={"groups": _WHOLE_FLEET, "failure_rate": 0.002, "already_current": 0.01},
)
BAD_FROM_THE_START = Way(
    "breached",
    waves=1,
    limit=1000,
    params={"group_ids": [ALL]},
    scenario={"groups": _WHOLE_FLEET, "failure_rate": 0.3, "failure_mix": {BAD: 3, WEAK: 1}},
)
REFUSED = Way(
    "refused",
    waves=1,
    limit=1000,
    params={"group_ids": [ALL], "approval": "before every wave"},
    scenario={"groups": _WHOLE_FLEET, "failure_rate": 0.02, "failure_mix": {BAD: 1, WEAK: 1}},
)
BAD_SEGMENT = Way(
    "breached",
    waves=2,
    limit=300,
    params={"group_ids": [NORTH, SOUTH, REST], "waves": f"group:{NORTH}, group:{SOUTH}, rest"},
    scenario={
        "groups": [
            {"name": "north", "group_id": NORTH, "count": 1000},
            {"name": "south", "group_id": SOUTH, "count": 1000},
            {"name": "rest", "group_id": REST, "count": 8000},
        ],
        "segments": [{"name": "cold", "group": "south", "failure_rate": 0.4}],
        "failure_mix": {BAD: 3, WEAK: 1},
    },
)

# Where somebody dies in a wave: in a call that a worker or a trigger makes to confirm devices,
# which the platform has acted upon and not answered yet; or while a trigger waits.
IN_WORKER, IN_TRIGGER, WAITING = "in a worker's call", "in a trigger's call", "waiting"


@dataclass(frozen=True)
class Kills:
    """Who is killed, and where.

    :param waves: where in each wave
    :param after: where after the waves: while a person is asked (``ask``), between a stop and its
        answer (``stop``), or in a task
    """

    who: str
    waves: tuple[str, ...] = ()
    after: tuple[str, ...] = ()


class Release:
    """One run of the pipeline, on a platform that has just begun.

    :param kills: who is killed on the way; None: nobody
    """

    def __init__(
        self, airflow: Airflow, emulator: Any, way: Way, start_time: str, kills: Kills | None
    ) -> None:
        self.airflow, self.emulator, self.way = airflow, emulator, way
        self.kills = kills or Kills("nobody")
        self.dag_id = f"release_{next(_numbers)}"
        self.killed_workers: list[str] = []
        self.held: dict[str, str] = {}
        emulator.begin_anew(
            {
                "devices": DEVICES,
                "start_time": start_time,
                "success_after": SUCCESS_AFTER,
                "failure_after": FAILURE_AFTER,
                "packages": [{"package_id": PACKAGE, "version": VERSION}],
                "switches": {"initializing": 0},
                **way.scenario,
            }
        )
        text = hurried_release(looks=0.5, grace=5, retries=1, dag_id=self.dag_id)
        # By itself each release draws anew which device is in which wave.
        late = 'late=checked["late"],'
        assert text.count(late) == 1
        text = text.replace(late, f'{late} seed="the same",')
        (airflow.dags / f"{self.dag_id}.py").write_text(text)
        self._hold_before_wave(1)
        conf = {"bake_minutes": 0, "gate_rate": 0.1, "approval": "never", "wave_hours": 24}
        conf |= {"package_id": PACKAGE, "max_in_flight": way.limit, **way.params}
        airflow.run(self.dag_id, conf)
        airflow.wait_for_states(self.dag_id, **{"rollout.plan": "success"})
        plan = airflow.xcom(self.dag_id, "rollout.plan")
        self.cumulative = [0, *(wave["cumulative"] for wave in plan["waves"])]
        self.planned = [
            airflow.xcom(self.dag_id, "rollout.plan", f"wave_{wave}")
            for wave in range(1, len(self.cumulative))
        ]

    # --- what the platform says -------------------------------------------------------------------

    @property
    def tasks(self) -> list[BatchTask]:
        """The release's batch tasks so far, oldest first."""
        with IoTDAHook() as hook:
            found = list(hook.list_batch_tasks(task_type="firmwareUpgrade"))
            ids = [task.task_id for task in found if is_of_release(task.task_name)]
            return [hook.get_batch_task(task_id) for task_id in reversed(ids)]

    @property
    def progress(self) -> TaskProgress:
        return total_progress(task.progress for task in self.tasks)

    def is_being_stopped(self) -> bool:
        return any(task.status.is_stop for task in self.tasks)

    def fill(self, wave: int) -> None:
        """Wait until all of a wave have started, or as many as may be at a time."""

        def is_full() -> bool:
            counts = self.progress
            return self.cumulative[wave] == counts.started or counts.processing == self.way.limit

        self.airflow.wait_for(f"devices of wave {wave} under way", is_full)

    def assert_in_the_middle(self, wave: int) -> None:
        """Some of the wave have started, and not all have finished."""
        counts, (before, all_of_it) = self.progress, self.cumulative[wave - 1 : wave + 1]
        assert before < counts.started <= all_of_it, counts
        assert before <= counts.finished < all_of_it, counts

    # --- the way through --------------------------------------------------------------------------

    def go_through(self) -> None:
        for wave in range(1, self.way.waves + 1):
            if wave > 1:
                # Nobody of the wave before is left to start, and these finish now.
                self._hold_before_wave(wave)
                self.emulator.advance(SUCCESS_AFTER + 1)
            self._kill_in_wave(wave)
            is_bad = self.way.verdict == "breached" and wave == self.way.waves
            self.fill(wave)
            while not is_bad and self.progress.started < self.cumulative[wave]:
                self.emulator.advance(SUCCESS_AFTER + 1)
                self.fill(wave)
        if self.way.verdict == "released":
            self.emulator.advance(SUCCESS_AFTER + 1)
        else:
            self._be_stopped()
        over = "select 1 from dag_run where dag_id = ? and state in ('success', 'failed')"
        self.airflow.wait_for(
            f"the end of {self.dag_id}", lambda: self.airflow.query(over, self.dag_id)
        )

    def _be_stopped(self) -> None:
        """Devices report failures, or a person says no; it is stopped, and tidied up."""
        after, wave = self.kills.after, self.way.waves
        if "stop" in after:
            self._hold("stop", "stop_batch_task")
        if "reconcile" in after:
            self._hold("reconcile", "list_devices", after=50)
        if "quarantine" in after:
            self._hold("quarantine", "create_or_delete_device_in_group", after=40)
        if self.way.verdict == "refused":
            sends_stop = f"rollout.wave_{wave}_stop"
            self.emulator.advance(SUCCESS_AFTER + 1)
            self._say_no(f"rollout.wave_{wave}_ask")
        else:
            sends_stop = self._waiting_in(wave)
            self.airflow.wait_for_states(self.dag_id, **{sends_stop: "deferred"})
            self.emulator.advance(FAILURE_AFTER + 1)
        if self.way.verdict != "refused":  # a person is asked when the wave's batch task has ended
            self.airflow.wait_for("the stop", self.is_being_stopped)
        if "stop" in after:
            self._kill_in_call("stop", sends_stop)
        self.emulator.advance(100)
        if "at_rest" in after:
            self.airflow.wait_for_states(self.dag_id, at_rest="deferred")
            self._kill("at_rest")
        for task_id in ("reconcile", "quarantine"):
            if task_id in after:
                self._kill_in_call(task_id, task_id)

    def _say_no(self, task_id: str) -> None:
        """A person is asked, and takes their time."""
        self.airflow.wait_for(
            f"the question {task_id}",
            lambda: self.airflow.states(self.dag_id)[task_id] in ("awaiting_input", "deferred"),
        )
        if "ask" in self.kills.after:
            self._cut_power()
        else:
            # An answer in the same second meets Airflow's scheduler while it has not yet heard of
            # the deferral: it takes the task for failed, and the next try asks again.
            self.airflow.wait_for_heartbeats("scheduler", 3)
        self.airflow.answer(self.dag_id, task_id, "Stop the release")

    def _waiting_in(self, wave: int) -> str:
        """The task of a wave that waits now: for places, or for outcomes."""
        is_whole = self.progress.started == self.cumulative[wave]
        return f"rollout.wave_{wave}_{'watch' if is_whole else 'confirm'}"

    # --- who dies on it ---------------------------------------------------------------------------

    def _hold(self, name: str, call: str, after: int = 0) -> None:
        """Let the platform act upon a call, and keep its answer for a while."""
        rule = {"call": call, "seconds": HELD, "acted": True, "count": 1, "after": after}
        self.held[name] = self.emulator.add_fault("latency", **rule)

    def _hold_before_wave(self, wave: int) -> None:
        if self.kills.waves and self.kills.waves[wave - 1] == IN_WORKER:
            self._hold("confirm", "confirm_batch_task", after=min(wave - 1, 2))

    def _kill_in_wave(self, wave: int) -> None:
        if not self.kills.waves:
            return
        where, confirm = self.kills.waves[wave - 1], f"rollout.wave_{wave}_confirm"
        if where == IN_WORKER:
            self._kill_in_call("confirm", confirm, wave)
            return
        self.fill(wave)
        if where == IN_TRIGGER:
            assert self.progress.started < self.cumulative[wave]
            self.airflow.wait_for_states(self.dag_id, **{confirm: "deferred"})
            self._hold("confirm", "confirm_batch_task", after=1)
            self.emulator.advance(SUCCESS_AFTER + 1)
            self._kill_in_call("confirm", confirm, wave)
            return
        waits = self._waiting_in(wave)
        self.airflow.wait_for_states(self.dag_id, **{waits: "deferred"})
        self.assert_in_the_middle(wave)
        self._kill(waits)

    def _kill_in_call(self, held: str, task_id: str, wave: int | None = None) -> None:
        fault = self.held[held]
        self.airflow.wait_for(f"the call of {task_id}", lambda: self.emulator.fired(fault))
        if wave is not None:
            self.assert_in_the_middle(wave)
        self._kill(task_id)
        self.emulator.remove_fault(fault)
        if wave is not None:
            self.assert_in_the_middle(wave)

    def _kill(self, task_id: str) -> None:
        """Kill -9, once it is sure that it is whoever works on this task."""
        airflow, who = self.airflow, self.kills.who
        state, triggerer = airflow.states(self.dag_id)[task_id], None
        if state == "running":
            self.killed_workers.append(task_id)
            assert who in (WORKER, EVERYTHING)
        else:
            assert (state, who) in (("deferred", TRIGGERER), ("deferred", EVERYTHING))
            airflow.wait_for(
                f"a triggerer for {task_id}",
                lambda: airflow.triggerer_of(self.dag_id, task_id) is not None,
            )
            triggerer = airflow.triggerer_of(self.dag_id, task_id)
            newest = airflow.query("select max(id) from job where job_type = 'TriggererJob'")
            assert [(triggerer,)] == newest
        if who == WORKER:
            airflow.kill_worker_of(self.dag_id, task_id)
        elif who == TRIGGERER:
            airflow.kill("triggerer")
            airflow.start("triggerer")
        else:
            if triggerer is None:
                assert airflow.workers()
            self._cut_power()
        if triggerer is not None:
            airflow.wait_for(
                f"another triggerer for {task_id}",
                lambda: (
                    airflow.triggerer_of(self.dag_id, task_id) not in (triggerer, None)
                    or airflow.states(self.dag_id)[task_id] not in ("deferred", "running")
                ),
            )

    def _cut_power(self) -> None:
        """Kill all of Airflow at once, and start it again."""
        self.airflow.kill_all()
        for part in PARTS:
            self.airflow.start(part)

    # --- what is left of it -----------------------------------------------------------------------

    def end_state(self) -> End:
        """All that is to be the same whoever has died; the platform ends with it."""
        airflow, dag_id = self.airflow, self.dag_id
        states = airflow.states(dag_id)
        again = None
        if states["try_again"] == "success":
            again = airflow.xcom(dag_id, "try_again", "batch_task_id")
        with IoTDAHook() as hook:
            ids = [task.task_id for task in self.tasks]
            rows = {
                row.target: (str(row.status), row.error_code)
                for task_id in ids
                for row in hook.iter_subtasks(task_id)
            }
            retried = (
                {row.target: str(row.status) for row in hook.iter_subtasks(again)} if again else {}
            )
            groups = hook.list_device_groups(name=f"quarantine_{VERSION}")
            quarantined = {
                device.device_id
                for group in groups
                for device in hook.iter_group_devices(group.group_id)
            }
            versions = {device.device_id: device.fw_version for device in hook.list_devices()}
            tasks = sorted(
                (task.task_name.split("_af")[0], str(task.status))
                for task in hook.list_batch_tasks(task_type="firmwareUpgrade")
            )
        self.emulator.kill()
        confirmations = self.emulator.commands("confirm")
        assert {command["task_id"] for command in confirmations} <= set(ids)
        ((run_state,),) = airflow.query("select state from dag_run where dag_id = ?", dag_id)
        return End(
            confirmed=sorted(device for command in confirmations for device in command["targets"]),
            rows=rows,
            retried=retried,
            quarantined=quarantined,
            versions=versions,
            batch_tasks=tasks,
            stops=[self.emulator.stops_in_effect(task_id) for task_id in ids],
            announced=self._events("iotda://firmware/released"),
            breaches=self._events("iotda://rollout/breached"),
            run_state=run_state,
            task_states=states,
            report=airflow.xcom(dag_id, "report"),
            planned=self.planned,
        )

    def _events(self, uri: str) -> list[dict[str, Any]]:
        """What the run has told other DAGs by one asset."""
        asset = "dataset" if IS_AIRFLOW_2 else "asset"
        rows = self.airflow.query(
            f"select event.extra from {asset}_event event join {asset} on {asset}.id = {asset}_id "
            "where source_dag_id = ? and uri = ?",
            *(self.dag_id, uri),
        )
        return [json.loads(extra) for (extra,) in rows]

    def assert_resumed(self) -> None:
        """Who was killed in a worker has begun again."""
        tries = dict(
            self.airflow.query(
                "select task_id, try_number from task_instance where dag_id = ?", self.dag_id
            )
        )
        assert all(tries[task_id] > 1 for task_id in self.killed_workers), tries


@dataclass(frozen=True)
class End:
    """How a release has ended: by the platform's own records, and by Airflow's.

    :param confirmed: the devices that were confirmed, as often as they were
    """

    confirmed: list[str] = field(repr=False)
    rows: dict[str, tuple[str, str | None]] = field(repr=False)
    retried: dict[str, str] = field(repr=False)
    quarantined: set[str] = field(repr=False)
    versions: dict[str, str | None] = field(repr=False)
    batch_tasks: list[tuple[str, str]]
    stops: list[int]
    announced: list[dict[str, Any]]
    breaches: list[dict[str, Any]]
    run_state: str
    task_states: dict[str, str | None]
    report: dict[str, Any]
    planned: list[list[str]] = field(repr=False)

    def __sub__(self, other: End) -> dict[str, Any]:
        """In what this one differs, in a form that can be read."""
        found: dict[str, Any] = {}
        for name, mine in vars(self).items():
            theirs = getattr(other, name)
            if mine == theirs:
                continue
            if isinstance(mine, dict):
                names = [key for key in {**mine, **theirs} if mine.get(key) != theirs.get(key)]
                found[name] = {key: (mine.get(key), theirs.get(key)) for key in names[:10]}
            elif len(str(mine)) > 1000:
                found[name] = (len(mine), len(theirs))
            else:
                found[name] = (mine, theirs)
        return found


@pytest.fixture(scope="module")
def start_time() -> str:
    """When the platform's time begins, in every test."""
    return datetime.now(timezone.utc).strftime("%Y%m%dT%H%M00Z")


@pytest.fixture(scope="module")
def scenario() -> dict[str, Any]:
    return {"devices": 1}


@pytest.fixture(scope="module")
def airflow(
    emulator: Any, airflow_database: Any, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Airflow]:
    """All parts of Airflow, which soon find out what is dead."""
    airflow = Airflow(
        tmp_path_factory.mktemp("airflow"),
        airflow_database,
        emulator.airflow_connection,
        {
            "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "20",
            "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "3",
            "AIRFLOW__SCHEDULER__SCHEDULER_ZOMBIE_TASK_THRESHOLD": "20",
            "AIRFLOW__SCHEDULER__ZOMBIE_DETECTION_INTERVAL": "3",
            "AIRFLOW__SCHEDULER__SCHEDULER_HEALTH_CHECK_THRESHOLD": "20",
            "AIRFLOW__SCHEDULER__ORPHANED_TASKS_CHECK_INTERVAL": "10",
        },
    )
    try:
        for name in PARTS:
            airflow.start(name)
        yield airflow
    finally:
        airflow.close()


@pytest.fixture(scope="module")
def run(airflow: Airflow, emulator: Any, start_time: str) -> Callable[..., End]:
    """Runs a release to its end."""

    def to_the_end(way: Way, kills: Kills | None = None) -> End:
        release = Release(airflow, emulator, way, start_time, kills)
        release.go_through()
        end = release.end_state()
        release.assert_resumed()
        assert len(end.confirmed) == len(set(end.confirmed))
        return end

    return to_the_end


@pytest.fixture(scope="module")
def left_alone(run: Callable[..., End]) -> Callable[[Way], End]:
    """How a release ends that nobody is killed in; each way once."""
    known: dict[int, End] = {}

    def end_of(way: Way) -> End:
        if id(way) not in known:
            known[id(way)] = run(way)
        return known[id(way)]

    return end_of


@pytest.mark.parametrize(
    "kills",
    [
        Kills(TRIGGERER, (WAITING, WAITING, IN_TRIGGER, IN_TRIGGER)),
        Kills(WORKER, (IN_WORKER,) * 4),
        Kills(EVERYTHING, (IN_WORKER, WAITING, IN_WORKER, IN_TRIGGER)),
    ],
    ids=lambda kills: kills.who,
)
def test_a_healthy_release_reaches_everybody_once(
    run: Callable[..., End], left_alone: Callable[[Way], End], kills: Kills
) -> None:
    alone = left_alone(HEALTHY)
    assert alone.run_state == "success"
    assert alone.confirmed == sorted(itertools.chain(*alone.planned)) == sorted(alone.rows)
    assert {status for status, _ in alone.rows.values()} == {"Success", "Fail"}
    (event,) = alone.announced
    assert event["version"] == VERSION
    assert (alone.stops, alone.retried, alone.quarantined) == ([0] * 4, {}, set())
    assert not alone.breaches
    assert [name for name, _ in alone.batch_tasks] == [
        f"release_wave_{n}_of_4_part_1" for n in (1, 2, 3, 4)
    ]

    assert not run(HEALTHY, kills) - alone


def assert_stopped(end: End, verdict: str, exposed: set[str]) -> None:
    """It was stopped once; who was confirmed, is retried and quarantined; nothing is announced."""
    assert (end.run_state, end.report["verdict"]) == ("failed", verdict)
    # Batch tasks that have ended need no stop, and get none.
    last = 1 if verdict == "breached" else 0
    assert (end.announced, end.stops) == ([], [0] * (len(end.stops) - 1) + [last])
    assert len(end.breaches) == (verdict == "breached")
    assert set(end.confirmed) == exposed
    weak, bad = (
        {device for device, (_, code) in end.rows.items() if code == reason.split("|")[0]}
        for reason in (WEAK, BAD)
    )
    assert end.quarantined == bad
    # Of a release that was stopped for the firmware's fault nobody is tried again.
    assert set(end.retried) == (set() if verdict == "breached" else weak)
    assert set(end.retried.values()) <= {"Waitting"}


@pytest.mark.parametrize(
    "kills",
    [
        Kills(TRIGGERER, (IN_TRIGGER, WAITING), ("stop", "at_rest")),
        Kills(WORKER, (IN_WORKER, IN_WORKER), ("reconcile", "quarantine")),
        Kills(EVERYTHING, (IN_TRIGGER, IN_WORKER)),
        Kills(EVERYTHING, (), ("stop", "at_rest", "reconcile", "quarantine")),
    ],
    ids=lambda kills: f"{kills.who}-{'waves' if kills.waves else 'afterwards'}",
)
def test_a_bad_segment_stops_the_release_once_and_is_tidied_up_once(
    run: Callable[..., End], left_alone: Callable[[Way], End], kills: Kills
) -> None:
    alone = left_alone(BAD_SEGMENT)
    first, second, third = map(set, alone.planned)
    exposed = set(alone.confirmed)
    assert first < exposed < first | second
    assert len(third) == 8000
    assert alone.quarantined
    assert_stopped(alone, "breached", exposed)
    assert {alone.versions[device] for device in first} == {VERSION}

    assert not run(BAD_SEGMENT, kills) - alone


@pytest.mark.parametrize(
    "kills",
    [
        Kills(TRIGGERER, (WAITING,), ("stop",)),
        Kills(WORKER, (IN_WORKER,)),
        Kills(EVERYTHING, (IN_WORKER,), ("stop",)),
    ],
    ids=lambda kills: kills.who,
)
def test_what_is_bad_from_the_start_stays_in_its_first_wave(
    run: Callable[..., End], left_alone: Callable[[Way], End], kills: Kills
) -> None:
    alone = left_alone(BAD_FROM_THE_START)
    assert_stopped(alone, "breached", set(alone.planned[0]))
    assert len(alone.confirmed) == 100
    assert alone.quarantined

    assert not run(BAD_FROM_THE_START, kills) - alone


@pytest.mark.skipif(VERSION_OF_AIRFLOW < (3, 1), reason="asking a person needs Airflow 3.1")
@pytest.mark.parametrize(
    "kills",
    [
        Kills(WORKER, (IN_WORKER,)),
        Kills(EVERYTHING, (IN_WORKER,), ("ask",)),
    ],
    ids=lambda kills: kills.who,
)
def test_a_persons_no_stops_it_once(
    run: Callable[..., End], left_alone: Callable[[Way], End], kills: Kills
) -> None:
    alone = left_alone(REFUSED)
    assert_stopped(alone, "refused", set(alone.planned[0]))

    assert not run(REFUSED, kills) - alone
