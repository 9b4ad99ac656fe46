"""Overdue guards, and the heartbeat to a service outside of Airflow."""

from __future__ import annotations

import inspect
import logging
import threading
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
from airflow.providers.common.compat.notifier import BaseNotifier
from airflow.providers.common.compat.sdk import XCom

from iotda_provider.airflow_support.guard_runs import GuardRuns
from iotda_provider.notifications.audience import Audience
from iotda_provider.notifications.recorded import record
from iotda_provider.operators.guard_liveness import (
    check_heartbeat_url,
    find_overdue_guards,
    report_overdue_guards,
    send_heartbeat,
)
from iotda_provider.operators.guard_runs import FindUnguardedRolloutsOperator

LOG = logging.getLogger("iotda_provider.test")
GUARDS = {"a1": "guard__a1__x", "b2": "guard__b2__y"}


def due(seconds_ago: float) -> dict[str, Any]:
    moment = datetime.fromtimestamp(time.time() - seconds_ago, timezone.utc)
    return {"due": moment.isoformat().replace("+00:00", "Z")}


class TaskInstance:
    """The task that looks, and, in the place of Airflow's ``XCom``, the guards' records by run."""

    dag_id, run_id, task_id = "rollout_guard", "run", "running_rollouts"
    map_index, try_number = -1, 1
    newest: ClassVar[TaskInstance]

    def __init__(self, records: dict[str, Any]) -> None:
        self.records, self.asked = records, 0
        self.kept: dict[str, Any] = {}
        self.before_each: Callable[[], None] = lambda: None
        TaskInstance.newest = self

    def xcom_pull(
        self, *, task_ids: str, key: str, include_prior_dates: bool, map_indexes: int
    ) -> Any:
        # Airflow 2 takes no run_id here.
        assert (task_ids, include_prior_dates, map_indexes) == (self.task_id, True, -1)
        return self.kept.get(key)

    def get_one(self, *, run_id: str, **which: Any) -> Any:
        inspect.signature(XCom.get_one).bind(run_id=run_id, **which)
        self.asked += 1
        self.before_each()
        found = self.records.get(run_id)
        if isinstance(found, Exception):
            raise found
        return found

    def xcom_push(self, *, key: str, value: Any) -> None:
        self.kept[key] = value


@pytest.fixture(autouse=True)
def _records(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "iotda_provider.operators.guard_liveness._xcom", lambda: TaskInstance.newest
    )


def overdue(records: dict[str, Any], watched: dict[str, str] = GUARDS) -> dict[str, float]:
    ti = TaskInstance(records)
    return find_overdue_guards({"ti": ti}, watched, "guard_one_rollout", LOG)


@pytest.mark.parametrize(
    ("record", "is_overdue"),
    [
        (-600, False),
        (30, False),
        (61, True),
        (7200, True),
        ({"due": None}, False),  # it has ended
        (None, False),  # it has just begun
        ({"due": "nonsense"}, False),
    ],
)
def test_a_record_is_stale_a_minute_past_its_time(record: Any, is_overdue: bool) -> None:
    record = due(record) if isinstance(record, int) else record
    assert ("a1" in overdue({"guard__a1__x": record, "guard__b2__y": due(0)})) is is_overdue


@pytest.mark.parametrize(("seconds", "is_overdue"), [(250, False), (270, True)])
def test_of_a_thousand_guards_that_were_taken_over_each_may_wait_for_its_turn(
    seconds: int, is_overdue: bool
) -> None:
    watched = {f"{number:04}": f"guard__{number:04}__x" for number in range(1000)}
    records = dict.fromkeys(watched.values(), due(seconds))  # a fifth of them a second and process

    assert bool(overdue(records, watched)) is is_overdue


def test_what_can_not_be_read_is_no_alarm(caplog: pytest.LogCaptureFixture) -> None:
    assert overdue({"guard__a1__x": RuntimeError("down")}) == {}
    assert "can't be read now: down" in caplog.text


def test_each_of_many_guards_is_read_in_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    many = {f"{number:024x}": f"guard__{number}" for number in range(1000)}
    found: set[str] = set()
    now = time.time()
    late = {run_id: due(7200) for run_id in many.values()}
    ti = TaskInstance(late)
    for minute in range(4):
        clock = SimpleNamespace(time=lambda minute=minute: now + 60 * minute)
        monkeypatch.setattr("iotda_provider.operators.guard_liveness.time", clock)
        ti.asked = 0
        found |= set(find_overdue_guards({"ti": ti}, many, "guard_one_rollout", LOG))
        assert ti.asked <= 300
    assert found == set(many)


def test_a_look_without_time_reads_a_few_and_the_next_one_goes_on() -> None:
    watched = {f"{number:04}": f"guard__{number:04}__x" for number in range(10)}
    ti = TaskInstance({run_id: due(7200) for run_id in watched.values()})
    found: list[str] = []
    for most in (4, 8, 12):
        is_over = lambda most=most: ti.asked >= most  # noqa: E731
        found += find_overdue_guards({"ti": ti}, watched, "guard_one_rollout", LOG, is_over)

    assert found == [*sorted(watched), "0000", "0001"]


def test_a_guard_that_never_writes_a_record_is_overdue(monkeypatch: pytest.MonkeyPatch) -> None:
    ti = TaskInstance({"guard__b2__y": due(-9000)})
    now = time.time()
    seen = {}
    for minutes in (0, 5, 9, 11, 12, 13):
        clock = SimpleNamespace(time=lambda minutes=minutes: now + 60 * minutes)
        monkeypatch.setattr("iotda_provider.operators.guard_liveness.time", clock)
        if minutes == 12:
            ti.records["guard__a1__x"] = due(-9000)
        seen[minutes] = find_overdue_guards({"ti": ti}, GUARDS, "guard_one_rollout", LOG)

    assert [minutes for minutes, overdue in seen.items() if overdue] == [11]
    assert seen[11] == {"a1": pytest.approx(660, abs=1)}


class Chat(BaseNotifier):
    """Keeps what it says."""

    template_fields = ("text",)
    said: ClassVar[list[str]] = []

    def __init__(self, text: str = "{{ message }}", fails: bool = False) -> None:
        super().__init__()
        self.text, self.fails = text, fails

    def notify(self, context: Any) -> None:
        """Say it."""
        if self.fails:
            raise OSError("no chat")
        self.said.append(self.text)


def audience(*notifiers: Chat) -> Audience:
    return Audience(record(notifiers, importable=False))


def test_people_are_told_once_an_hour_and_the_log_at_each_look(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    ti = TaskInstance({})
    Chat.said.clear()
    rollouts: Any = {name: SimpleNamespace(task_name="rollout") for name in GUARDS}
    now = time.time()
    for minutes in (0, 1, 30, 61):
        clock = SimpleNamespace(time=lambda minutes=minutes: now + 60 * minutes)
        monkeypatch.setattr("iotda_provider.operators.guard_liveness.time", clock)
        report_overdue_guards({"ti": ti}, {"a1": 90.0}, rollouts, audience(Chat()), LOG)

    assert len(Chat.said) == 2
    assert Chat.said[0].startswith("OVERDUE: 1 rollout(s) MAY BE UNGUARDED. a1 (rollout) ")
    assert caplog.text.count("a1 (rollout) MAY BE UNGUARDED: its guard is overdue by 90 s") == 4


def test_a_notifier_that_fails_costs_nothing(caplog: pytest.LogCaptureFixture) -> None:
    Chat.said.clear()
    rollouts: Any = {"a1": SimpleNamespace(task_name="rollout")}
    told = audience(Chat(fails=True), Chat())
    report_overdue_guards({"ti": TaskInstance({})}, {"a1": 90.0}, rollouts, told, LOG)
    assert "Chat failed" in caplog.text
    assert len(Chat.said) == 1


def test_who_could_not_be_told_is_told_at_the_next_look() -> None:
    Chat.said.clear()
    ti = TaskInstance({})
    rollouts: Any = {"a1": SimpleNamespace(task_name="rollout")}
    for notifier in (Chat(fails=True), Chat(fails=True), Chat(), Chat()):
        report_overdue_guards({"ti": ti}, {"a1": 90.0}, rollouts, audience(notifier), LOG)

    assert len(Chat.said) == 1


class Lasting(Chat):
    """Takes longer than the pause after which others are asked whether it is urgent."""

    began: ClassVar[list[str]] = []

    def notify(self, context: Any) -> None:
        """Say it after a moment."""
        self.began.append(self.text)
        threading.Event().wait(0.15)
        super().notify(context)


def test_people_are_told_once_an_hour_even_while_rollouts_wait() -> None:
    Chat.said.clear()
    Lasting.began.clear()
    ti = TaskInstance({})
    rollouts: Any = {"a1": SimpleNamespace(task_name="rollout")}
    for _ in range(3):
        told = audience(Lasting(), Lasting())
        report_overdue_guards({"ti": ti}, {"a1": 90.0}, rollouts, told, LOG, lambda: True)

    assert len(Lasting.began) == len(Chat.said) == 2


class Slow(Chat):
    """Takes longer than a rollout may wait."""

    let_go: ClassVar[threading.Event] = threading.Event()

    def notify(self, context: Any) -> None:
        """Hang."""
        self.let_go.wait(30)


@pytest.mark.parametrize("waits", [True, False])
def test_a_rollout_without_a_guard_waits_for_no_more_than_seconds(
    monkeypatch: pytest.MonkeyPatch, waits: bool
) -> None:
    """Three hundred guards are read, which takes a second each, and the notifier hangs."""
    Slow.let_go.clear()
    watched = {f"{number:04}": f"guard__{number:04}__x" for number in range(300)}
    ti = TaskInstance({run_id: due(7200) for run_id in watched.values()})
    now = [time.monotonic()]
    clock = SimpleNamespace(time=time.time, monotonic=lambda: now[0])
    ti.before_each = lambda: now.__setitem__(0, now[0] + 1.0)
    monkeypatch.setattr("iotda_provider.operators.guard_runs.time", clock)
    monkeypatch.setattr("iotda_provider.notifications.in_worker.SECONDS_FOR_EACH", 0.2)
    heartbeats: list[float] = []
    monkeypatch.setattr(
        "iotda_provider.operators.guard_runs.send_heartbeat",
        lambda url, log, seconds: heartbeats.append(seconds),
    )
    find = FindUnguardedRolloutsOperator(
        task_id="look", notifiers=[Slow()], heartbeat_url="https://hc.example.com/x"
    )
    rollouts: Any = dict.fromkeys(watched, SimpleNamespace(task_name="rollout"))
    try:
        find._see_that_guards_watch({"ti": ti}, rollouts, GuardRuns(watched=watched), waits=waits)
    finally:
        Slow.let_go.set()

    assert ti.asked == (5 if waits else 30)
    assert heartbeats == [1.0 if waits else 10.0]
    assert ti.kept["told_of_overdue_guards"] == {}


class Answer(BaseHTTPRequestHandler):
    status = 200
    asked: list[tuple[str, str | None]] = []

    def do_GET(self) -> None:
        self.asked.append((self.path, self.headers.get("Authorization")))
        self.send_response(self.status)
        self.send_header("Location", "/elsewhere")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[str]:
    Answer.asked, Answer.status = [], 200
    server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/ping/secret"
    server.shutdown()
    thread.join()
    server.server_close()


def test_the_heartbeat_is_one_get(server: str, caplog: pytest.LogCaptureFixture) -> None:
    send_heartbeat(server, LOG)

    assert Answer.asked == [("/ping/secret", None)]
    assert not caplog.records


@pytest.mark.parametrize("status", [302, 404, 500])
def test_whatever_it_answers_fails_nothing_and_leads_nowhere(
    status: int, server: str, caplog: pytest.LogCaptureFixture
) -> None:
    Answer.status = status

    send_heartbeat(server, LOG)

    assert len(Answer.asked) == 1
    assert f"HTTP {status}" in caplog.text
    assert "secret" not in caplog.text


def test_nobody_there_fails_nothing(caplog: pytest.LogCaptureFixture) -> None:
    send_heartbeat("http://127.0.0.1:9/secret", LOG)

    assert "can't be reached" in caplog.text
    assert "secret" not in caplog.text


@pytest.mark.parametrize("url", ["http://example.com/x", "ftp://h/x", "https://", "x", 5, ["a"]])
def test_a_url_that_is_not_https_is_refused_when_the_dag_is_parsed(url: Any) -> None:
    with pytest.raises(ValueError, match="heartbeat_url"):
        FindUnguardedRolloutsOperator(task_id="look", heartbeat_url=url)


@pytest.mark.parametrize("url", [None, "", "https://hc.example.com/secret"])
def test_the_others_are_taken(url: Any) -> None:
    assert check_heartbeat_url(url) == (url or None)
