"""What a guard leaves in other people's databases, and that later code goes on with it.

``tests/stored_formats.py`` says how it is compared with the golden files in ``tests/golden``.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.providers.common.compat.notifier import BaseNotifier
from tests import stored_formats
from tests.airflow_values import as_xcom
from tests.integration.rollout_guard.conftest import START, Fleet, TaskInstance

from iotda_provider.guards import (
    Combined,
    MaxFailureRate,
    MaxFailures,
    Overdue,
    ReportingDelay,
    SequentialFailureTest,
    Stalled,
)
from iotda_provider.operators import guard_liveness, guard_runs

KEY = "guard_memory"
#: A third of the devices fails at first, and most of those again.
WORLD: dict[str, Any] = {
    "devices": 120,
    "start_time": "20260921T141320Z",
    "dispatch_rate": 0.5,
    "failure_rate": 0.3,
    "failure_after": 40,
    "batch_tasks": [
        {
            "task_name": "rollout",
            "targets": "all",
            "task_policy": {"retry_count": 1, "retry_interval": 1},
        }
    ],
}
RULES = [
    Combined(
        [
            SequentialFailureTest(0.05, reporting=ReportingDelay({60: 0.5, 600: 1}, floor=0.5)),
            SequentialFailureTest(0.5, counts="attempts"),
            Overdue(3600, 0.02),
        ],
        false_alarm=0.01,
        hold_at=20,
    ),
    SequentialFailureTest(0.3, leave_worst_out=True),
    MaxFailureRate(0.9, failure_class=["firmware", "unknown"]),
    MaxFailures(100),
    Stalled(7200),
]


class Chat(BaseNotifier):
    """Says nothing to nobody."""

    def __init__(self, text: str = "{{ message }}", *, most: float = 1.5) -> None:
        super().__init__()
        self.text, self.most = text, most

    def notify(self, context: Any) -> None:
        """Do nothing."""


class Left:
    """A guard, and what it leaves behind.

    :param old: what an older version has left (a golden file): the guard's trigger is made of those
        arguments, and its event is that one; the memory that it has handed back is that one
    """

    def __init__(self, fleet: Fleet, ti: TaskInstance, variables: Any, old: Any = None) -> None:
        self.fleet, self.ti, self.variables, self.old = fleet, ti, variables, old
        self.triggers: list[dict[str, Any]] = []
        self.events: list[Any] = []
        #: The memory that the trigger has handed back, and all that were noted for a next try.
        self.handed_back: Any = None
        self.noted: list[Any] = []
        real = fleet.trigger

        def run_trigger(trigger: Any, ti: TaskInstance) -> Any:
            classpath, arguments = trigger.serialize()
            self.triggers.append({"classpath": classpath, "arguments": arguments})
            if self.old is not None:
                (then,) = self.old["triggers"]
                assert then["classpath"] == classpath
                trigger = type(trigger)(**then["arguments"])
            self.events.append(real(trigger, ti))
            self.handed_back = ti.xcoms[KEY]
            if self.old is not None:
                ti.xcoms[KEY] = self.old["handed_back"]
                return self.old["events"][0]
            return self.events[-1]

        def set_note(key: str, value: Any) -> None:
            type(ti.store).set(ti.store, key, value)
            self.noted.append(ti.store[key])

        fleet.trigger = run_trigger  # type: ignore[method-assign]
        ti.store.set = set_note  # type: ignore[method-assign]

    def run(self) -> dict[str, Any]:
        """Run the guard to its end; its result."""
        result: dict[str, Any] = self.fleet.run(
            self.ti,
            rules=RULES,
            cluster_of="([0-2])[0-9]$",
            stop_on_breach=True,
            rehearse_stop=True,
            notifiers=[Chat(most=2.5)],
            poke_interval=10,
            stop_timeout=600,
            audit_limit=12,
        )["return_value"]
        return result

    def as_json(self) -> dict[str, Any]:
        """All of it."""
        return {
            "triggers": self.triggers,
            "events": self.events,
            "handed_back": self.handed_back,
            # The last but one is written before the audit, and has to outlive a crash there.
            "task_state_store": self.noted[-2:],
            "xcoms": self.ti.xcoms,
            "variables": {name: json.loads(text) for name, text in self.variables.items()},
        }


@pytest.fixture
def begin(
    fleet: Callable[..., Fleet],
    ti: TaskInstance,
    variables: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> Callable[..., Left]:
    """Starts a platform with a rollout, for one guard."""

    def start(old: Any = None) -> Left:
        made = fleet(WORLD)
        for module in ("rollout_guard.live_in_worker", "triggers.live_in_triggerer"):
            monkeypatch.setattr(f"iotda_provider.{module}.time", made)
        return Left(made, ti, variables, old)

    return start


def case_of(deferrable: bool) -> str:
    """The golden file of a guard that waits there."""
    return "guard_in_triggerer" if deferrable else "guard_in_worker"


def test_the_rollouts_begin_with_the_guards_clock() -> None:
    assert START == 1_790_000_000


def test_a_guard_leaves_what_the_golden_file_says(
    begin: Callable[..., Left], deferrable: bool
) -> None:
    it = begin()
    assert it.run()["stop"]["outcome"] == "stopped"
    stored_formats.check(case_of(deferrable), it.as_json())


@pytest.mark.parametrize("has_store", [False])
def test_its_notes_before_airflow_3_3_are_variables(
    begin: Callable[..., Left], deferrable: bool
) -> None:
    it = begin()
    it.run()
    stored_formats.check(f"{case_of(deferrable)}_before_3_3", it.as_json()["variables"])


@pytest.mark.parametrize("deferrable", [True])
@pytest.mark.parametrize("version", stored_formats.versions("guard_in_triggerer"))
def test_a_guard_that_an_earlier_version_has_deferred_goes_on(
    begin: Callable[..., Left], version: str
) -> None:
    old = stored_formats.golden("guard_in_triggerer", version)
    it = begin(old)
    result, then = it.run(), old["xcoms"]["return_value"]
    for name in ("verdict", "rule", "evidence"):
        assert result[name] == then[name]
    assert it.events[0]["result"]["verdict"] == then["verdict"]
    assert it.ti.xcoms["audit"] == old["xcoms"]["audit"]


class Look:
    """A task instance that looks for rollouts without a guard, and its XComs of all looks.

    It is in the place of Airflow's ``XCom``, too, which has the record of a guard's run.
    """

    dag_id, run_id, task_id, map_index, try_number = "dag", "run", "running_rollouts", -1, 1

    def __init__(self, before: dict[str, Any], records: dict[str, Any]) -> None:
        self.xcoms, self._records = dict(before), records

    def xcom_pull(
        self, *, task_ids: str, key: str, include_prior_dates: bool, map_indexes: int
    ) -> Any:
        """An XCom of an earlier look."""
        return self.xcoms.get(key)

    def get_one(self, *, run_id: str, **_: Any) -> Any:
        """The record of a guard's run."""
        return self._records[run_id]

    def xcom_push(self, key: str, value: Any) -> None:
        """Keep an XCom as JSON, as Airflow does."""
        self.xcoms[key] = as_xcom(value)


def looked(monkeypatch: pytest.MonkeyPatch, seconds: float, before: Any, ids: list[str]) -> Look:
    """A look at rollouts: one without a guard, one whose guard is overdue, one that is given up."""
    now = SimpleNamespace(time=lambda: START + seconds, monotonic=time.monotonic)
    monkeypatch.setattr(guard_liveness, "time", now)
    monkeypatch.setattr(guard_runs, "time", now)
    runs = guard_runs.GuardRuns(
        missing={ids[0]: "guard__0"}, watched={ids[1]: "guard__1"}, given_up={ids[2]: "guard__2"}
    )
    monkeypatch.setattr(guard_runs, "find_guard_runs", lambda *args, **kwargs: runs)
    ti = Look(before, {"guard__1": {"due": "2026-09-21T14:13:20Z"}})
    monkeypatch.setattr(guard_liveness, "_xcom", lambda: ti)
    operator = guard_runs.FindUnguardedRolloutsOperator(task_id=ti.task_id, notifiers=[Chat()])
    rows = operator.execute({"ti": ti})  # type: ignore[arg-type]
    assert [row["conf"]["batch_task_id"] for row in rows] == ids[:1]
    return ti


@pytest.mark.parametrize("deferrable", [False])
def test_a_look_for_guards_leaves_what_the_golden_file_says_and_reads_it(
    fleet: Callable[..., Fleet],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    ids = [f"0123456789abcdef0123456{number}" for number in (7, 8, 9)]
    tasks = [{"task_id": each, "task_name": "rollout", "targets": 3} for each in ids]
    fleet({"devices": 10, "start_time": WORLD["start_time"], "batch_tasks": tasks})
    written = looked(monkeypatch, 3600, {}, ids).xcoms
    stored_formats.check("look_for_guards", {"xcoms": written})
    for version in stored_formats.versions("look_for_guards"):
        old = stored_formats.golden("look_for_guards", version)["xcoms"]
        again = looked(monkeypatch, 3840, old, ids).xcoms
        assert again == old, "since when, and who was told, is known"
        said = "".join(capsys.readouterr()) + caplog.text
        assert f"{ids[0]} HAS HAD NO GUARD FOR 4 MINUTES" in said
