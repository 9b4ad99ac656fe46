"""Which state the page shows: of one guard, and of a rollout that several tell of."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

pytest.importorskip("airflow.models.hitl", reason="the page needs Airflow 3.1")

from iotda_provider.ui.detail import detail_of
from iotda_provider.ui.reading import Question, Record, Seen, SeenXCom, _value
from iotda_provider.ui.rollouts import list_of
from iotda_provider.ui.xcom_shapes import header_of

NOW = datetime(2026, 11, 29, 3, 0, tzinfo=timezone.utc)
TASK, OTHER = "5c8f9e2d7a6b4c3d1e0f9a8b", "5c8f9e2d7a6b4c3d1e0f9a8c"


def text(when: datetime) -> str:
    return when.isoformat().replace("+00:00", "Z")


class Runs:
    """Runs whose guards, stops and releases have told what the test says."""

    def __init__(self) -> None:
        self.seen = Seen(records=[])

    def add(
        self,
        kind: str = "guard",
        *,
        run: str = "run",
        tasks: list[str] | None = None,
        name: str = "lamps",
        run_state: str = "running",
        task_state: str = "deferred",
        live: dict[str, Any] | None = None,
        header: dict[str, Any] | None = None,
        ago: float = 10,
    ) -> None:
        tasks = tasks or [TASK]
        said = {"kind": kind, "batch_task_ids": tasks, "batch_task_names": [name], **(header or {})}
        found = header_of(said)
        assert found is not None
        at = NOW - timedelta(seconds=ago)
        record = Record(
            *("dag", run, kind, -1, len(self.seen.records)),
            *(found, at, run_state, at, "somebody", task_state),
        )
        self.seen.records.append(record)  # type: ignore[attr-defined]
        if live is not None:
            value = {
                "batch_task_ids": tasks,
                "status": ["Processing"],
                "progress": {"total": 100, "started": 10, "processing": 10},
                "looked_at": text(at),
                "due": text(NOW + timedelta(seconds=30)),
                **live,
            }
            xcom = SeenXCom(kind, -1, "live", value, at, task_state, at, None)
            self.seen.xcoms.setdefault(record.run, []).append(xcom)

    def ask(self, run: str = "run") -> None:
        question = Question("wave_1_ask", "Go on?", "", ["Go on", "Stop"], NOW)
        self.seen.questions[("dag", run)] = [question]

    def rows(self, *, only_open: bool = False) -> list[dict[str, Any]]:
        return list(list_of(self.seen, NOW, only_open=only_open)["rollouts"])


STOP = {"sent_at": text(NOW), "accepted_at": text(NOW), "attempts": 1, "error": None}
OVERDUE = text(NOW - timedelta(seconds=61))


@pytest.mark.parametrize(
    ("state", "told"),
    [
        ("watched", {"live": {}}),
        ("not_started", {"live": {"progress": {"total": 9, "started": 0}}}),
        ("not_started", {"ago": 5}),
        ("stale", {"ago": 600}),
        ("hold", {"live": {"decision": "hold"}}),
        ("stale", {"live": {"due": OVERDUE}}),
        ("watched", {"live": {"due": text(NOW - timedelta(seconds=59))}}),
        ("blind", {"live": {"blind_since": text(NOW)}}),
        ("stopping", {"live": {"stop": STOP, "status": ["Stopping"]}}),
        ("stop_failed", {"live": {"stop": {**STOP, "accepted_at": None, "error": "refused"}}}),
        ("stopped", {"live": {"stop": STOP, "status": ["Stopped"], "verdict": "breached"}}),
        ("stopping", {"live": {"stop": STOP, "status": ["Stopping"], "verdict": "breached"}}),
        ("breached", {"live": {"verdict": "breached"}, "task_state": "success"}),
        ("shadow_breached", {"live": {"verdict": "breached"}, "header": {"shadow": True}}),
        ("ended", {"live": {"verdict": "breached", "status": ["Success"]}}),
        ("completed", {"live": {"verdict": "completed", "status": ["Success"]}}),
        ("stopped_elsewhere", {"live": {"verdict": "stopped_elsewhere", "status": ["Stopped"]}}),
        ("lost", {"live": {"verdict": "lost"}}),
        ("guard_failed", {"live": {"verdict": "lost", "guard_lost": True}}),
        ("guard_failed", {"live": {}, "task_state": "failed"}),
        ("guard_failed", {"live": {}, "task_state": "success"}),
        ("guard_failed", {"task_state": "upstream_failed", "run_state": "failed"}),
        ("ended", {"live": {"status": ["PartialSuccess"]}, "task_state": "failed"}),
        ("stopping", {"kind": "stop", "live": {}}),
        ("stopped_elsewhere", {"kind": "stop", "live": {"verdict": "stopped"}}),
        ("stop_failed", {"kind": "stop", "live": {}, "task_state": "failed"}),
        ("watched", {"kind": "release", "live": {"verdict": "passed"}}),
        ("completed", {"kind": "release", "live": {"verdict": "passed"}, "run_state": "success"}),
        ("stopped", {"kind": "release", "live": {"verdict": "rejected", "status": ["Stopped"]}}),
        ("guard_failed", {"kind": "release", "live": {"verdict": "passed"}, "run_state": "failed"}),
    ],
)
def test_one_tells_its_state(state: str, told: dict[str, Any]) -> None:
    runs = Runs()
    runs.add(**told)
    (row,) = runs.rows()
    assert row["state"] == state


def test_an_open_question_comes_first() -> None:
    runs = Runs()
    runs.add("release", live={"due": OVERDUE, "verdict": "unproven"})
    runs.ask()
    (row,) = runs.rows()
    assert (row["state"], row["question"]["subject"]) == ("asks", "Go on?")


def test_a_release_that_is_being_stopped_needs_no_answer() -> None:
    runs = Runs()
    runs.add("release", live={"stop": STOP})
    runs.ask()
    assert [row["state"] for row in runs.rows()] == ["stopping"]


def test_a_guard_that_failed_is_no_alarm_where_another_one_watches() -> None:
    runs = Runs()
    runs.add(run="failed", live={}, task_state="failed", run_state="failed", ago=100)
    runs.add(run="hung", live={"due": OVERDUE}, ago=90)
    (row,) = runs.rows()
    assert row["state"] == "guard_failed"
    runs.add(run="watching", live={})
    (row,) = runs.rows()
    assert row["state"] == "watched"
    assert [guard["state"] for guard in row["guards"]] == ["guard_failed", "stale", "watched"]


def test_a_guard_that_failed_is_no_alarm_where_a_person_has_stopped_the_rollout_since() -> None:
    runs = Runs()
    runs.add(run="failed", live={}, task_state="failed", run_state="failed", ago=100)
    runs.add("stop", run="stop", live={"verdict": "stopped", "status": ["Stopped"]})
    (row,) = runs.rows()
    assert row["state"] == "stopped_elsewhere"
    assert row["unfinished_ids"] == []
    assert not runs.rows(only_open=True)


def test_rollouts_come_by_need_and_second_tries_below_their_first() -> None:
    runs = Runs()
    runs.add(run="first", tasks=[TASK], live={})
    runs.add(run="hold", tasks=[OTHER], live={"decision": "hold"})
    runs.add(run="again", tasks=["ab12"], name=f"again_{TASK}", live={"decision": "hold"})
    found = [(row["run_id"], row["state"]) for row in runs.rows()]
    assert found == [("hold", "hold"), ("first", "watched"), ("again", "hold")]


def test_a_release_of_many_batch_tasks_and_the_guard_of_one_are_one_rollout() -> None:
    runs = Runs()
    runs.add("release", run="release", tasks=[TASK], live={"batch_task_ids": [TASK, OTHER]})
    runs.add(run="guard", tasks=[OTHER], live={})
    (row,) = runs.rows()
    assert (row["kind"], len(row["guards"])) == ("release", 2)


@pytest.mark.parametrize(
    "value",
    [
        *(None, 1, "guard", [], {}, {"kind": "other"}, {"kind": ["guard"]}),
        {"kind": "guard", "batch_task_ids": [1, None, {}], "rules": [1], "poll_interval": "x"},
        {"kind": "guard", "batch_task_ids": "text", "version": 7, "group_ids": {"a": 1}},
    ],
)
def test_other_xcoms_of_that_name_do_no_harm(value: Any) -> None:
    header = header_of(value)
    assert header is None or header.batch_task_ids == []


@pytest.mark.parametrize(
    "live",
    [
        {"progress": [1], "rules": "x", "curve": [[1], ["a", 2, 3], None], "status": 3},
        {"progress": {"total": float("nan"), "fail": -4}, "due": "never", "stop": 1},
        {"curve": [[1, 2, float("inf")]], "failures_by_class": ["a"], "first_reasons": {"a": 1}},
        {"progress": {"total": 10**400, "started": 1e308, "fail": -(10**400)}},
        {"attempted": 10**400},
        {"due": "9999-12-31T23:59:59-23:59", "blind_since": "9999-12-31", "curve": [[1e300, 1, 1]]},
        {"rules": [{"rule": "x", "value": 10**400}], "first_reasons": [{"count": float("nan")}]},
    ],
)
def test_live_records_of_another_shape_do_no_harm(live: dict[str, Any]) -> None:
    import json

    runs = Runs()
    runs.add(live=live)
    (row,) = runs.rows()
    json.dumps([row, detail_of(runs.seen, "dag", "run", NOW)], allow_nan=False)


def deep(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return value


@pytest.mark.parametrize(
    "rule",
    [
        {"rule": "MaxFailures", "count": float("nan")},
        {"rule": "MaxFailures", "count": 10**400},
        {"rule": "SequentialFailureTest", "tolerated_rate": float("inf"), "x": "x" * 10_000},
        {"rule": "Combined", "rules": deep(3_000)},
        {"rule": "Combined", "rules": [{"rule": "MaxFailures", "count": 1}] * 10_000},
    ],
)
def test_rules_that_no_guard_writes_do_no_harm(rule: dict[str, Any]) -> None:
    import json

    runs = Runs()
    runs.add(live={}, header={"rules": [rule]})
    said = json.dumps([*runs.rows(), detail_of(runs.seen, "dag", "run", NOW)], allow_nan=False)
    assert len(said) < 100_000


def test_a_value_too_deep_for_json_is_a_value_like_any_other() -> None:
    text = "[" * 200_000 + "]" * 200_000
    assert _value(text) == text


def test_a_release_that_tells_of_each_batch_task_as_it_creates_it_is_one_rollout() -> None:
    runs = Runs()
    header = {"devices": 900}
    runs.add("release", tasks=["none"], header={**header, "batch_task_ids": []}, ago=90)
    first = {"verdict": "created"}
    runs.add("release", tasks=[TASK], name="wave_1", header=header, live=first, ago=60)
    second = {"batch_task_ids": [TASK, OTHER]}
    runs.add("release", tasks=[OTHER], name="wave_2", header=header, live=second)
    (row,) = runs.rows()
    assert row["names"][-2:] == ["wave_1", "wave_2"]
    assert (row["state"], row["batch_task_ids"]) == ("watched", [TASK, OTHER])
    assert row["progress"]["total"] == 900
    assert len(row["guards"]) == 1


@pytest.mark.parametrize(
    ("second", "statuses"),
    [(None, ["unproven", "waiting"]), ({"verdict": None}, ["approved", "running"])],
)
def test_a_wave_that_could_not_prove_itself_was_approved_once_the_next_one_begins(
    second: dict[str, Any] | None, statuses: list[str]
) -> None:
    runs = Runs()
    runs.add("release")
    xcoms = runs.seen.xcoms.setdefault(("dag", "run"), [])

    def add(task: str, key: str, value: dict[str, Any]) -> None:
        xcoms.append(SeenXCom(task, -1, key, value, NOW, "success", NOW, NOW))

    wave = {"label": "10%", "devices": 10, "cumulative": 10, "can_pass": True, "may_fail": 1}
    add("rollout.plan", "return_value", {"waves": [wave, wave]})
    add("rollout.wave_1_watch", "live", {"looked_at": text(NOW), "verdict": "unproven"})
    if second is not None:
        add("rollout.wave_2_create", "live", {"looked_at": None, **second})
    found = detail_of(runs.seen, "dag", "run", NOW)
    assert [wave["status"] for wave in found["waves"]] == statuses


def test_a_person_began_a_guard_and_the_guard_did_what_came_then() -> None:
    runs = Runs()
    stop = {"sent_at": text(NOW), "accepted_at": text(NOW)}
    runs.add(live={"stop": stop, "verdict": "breached", "curve": [[439, 50, 46.1]]})
    found = detail_of(runs.seen, "dag", "run", NOW)
    whats = {event["what"]: event.get("by") for event in found["events"]}
    assert whats == {
        "guard_began": "somebody",
        "stop_sent": None,
        "stop_accepted": None,
        "ended": None,
    }
    assert found["decided"] == [439, 50]


def test_devices_that_have_started_stay_started_when_a_person_stops_the_rollout() -> None:
    runs = Runs()
    runs.add(live={"progress": {"total": 100, "started": 90, "processing": 90}}, ago=60)
    stop = {"sent_at": text(NOW), "accepted_at": text(NOW)}
    after = {"total": 100, "started": 30, "processing": 30, "stopped": 70}
    runs.add("stop", run="stop", live={"progress": after, "stop": stop, "status": ["Stopping"]})
    (row,) = runs.rows()
    assert (row["kind"], row["state"]) == ("stop", "stopping")
    assert row["progress"]["started"] == 90
    assert row["progress"]["stopped"] == 70
