"""Whom a guard tells over an emulated fleet: of what, how often, and that nothing waits for it."""

from __future__ import annotations

import asyncio
import pkgutil
import re
import threading
import time
from typing import Any

import pytest
from airflow.providers.common.compat.notifier import BaseNotifier

from iotda_provider.guards import MaxFailures, SequentialFailureTest

BAD = {"devices": 200, "failure_rate": 0.3, "dispatch_rate": 1.0}
told: list[dict[str, Any]] = []
hang = threading.Event()


class Chat(BaseNotifier):
    """Keeps what it gets; it only blocks."""

    template_fields = ("text",)

    def __init__(self, text: str = "{{ message }}", fails: bool = False, hangs: str = "") -> None:
        super().__init__()
        self.text, self.fails, self.hangs = text, fails, hangs

    def notify(self, context: Any) -> None:
        """Keep it."""
        told.append({"text": self.text, "how": "notify", **context})
        if self.fails:
            raise RuntimeError("https://hooks.example.com/services/SECRET is down")
        if self.hangs == context["event"]["kind"]:
            hang.wait(60)


class AsyncChat(Chat):
    """Keeps what it gets; it suspends."""

    async def async_notify(self, context: Any) -> None:
        """Keep it."""
        told.append({"text": self.text, "how": "async_notify", **context})
        if self.fails:
            raise RuntimeError("down")
        if self.hangs == context["event"]["kind"]:
            await asyncio.sleep(60)


class OnlyAsync(BaseNotifier):
    """It only suspends."""

    async def async_notify(self, context: Any) -> None:
        """Keep it."""
        told.append({"text": "", "how": "async_notify", **context})

    def notify(self, context: Any) -> None:
        """Before Airflow 3, a notifier must have it."""
        raise NotImplementedError


@pytest.fixture(autouse=True)
def _nobody_was_told() -> Any:
    told.clear()
    hang.clear()
    yield
    hang.set()


def kinds() -> list[str]:
    return [one["event"]["kind"] for one in told]


def test_people_are_told_once_of_a_breach_and_of_the_stop(
    fleet: Any, ti: Any, monkeypatch: pytest.MonkeyPatch, deferrable: bool
) -> None:
    monkeypatch.setenv("AIRFLOW__API__BASE_URL", "https://airflow.example.com/")
    monkeypatch.setenv("AIRFLOW__WEBSERVER__BASE_URL", "https://airflow.example.com/")
    bad = fleet(BAD)
    ti.try_number = 3

    xcoms = bad.run(ti, stop_on_breach=True, notifiers=[Chat(), AsyncChat("async")])

    for words, how in (("", "notify"), ("async", "async_notify" if deferrable else "notify")):
        mine = [one for one in told if (one["text"] == "async") == (words == "async")]
        assert [one["event"]["kind"] for one in mine] == ["breach", "stopped"]
        assert {one["how"] for one in mine} == {how}
    breach, stopped = (one for one in told if one["text"] != "async")
    assert re.match(r"BREACH: \d+ of \d+ devices failed \(", breach["text"])
    assert stopped["text"].startswith("STOPPED: ")
    # The task's own sentence, word for word.
    assert stopped["text"] == f"{xcoms['summary']} {stopped['event']['link']}"
    assert stopped["event"]["sentence"] == xcoms["summary"]
    assert stopped["event"]["link"].startswith("https://airflow.example.com/")
    ids = {name: stopped[name] for name in ("dag_id", "run_id", "task_id", "try_number")}
    assert ids == {"dag_id": "dag", "run_id": "run", "task_id": "guard", "try_number": 3}
    assert stopped["iotda_conn_id"] == "iotda_default"
    assert stopped["event"]["batch_task_ids"] == [bad.task_id]


def test_a_stop_that_fails_is_told_once(fleet: Any, ti: Any) -> None:
    bad = fleet({"devices": 200, "failure_rate": 0.3, "dispatch_rate": 1.0, "failure_after": 5})
    bad.emulator.add_fault("status", call="stop_batch_task", status=503, count=4)

    rules = [MaxFailures(20)]
    result = bad.run(ti, rules=rules, stop_on_breach=True, poke_interval=5, notifiers=[Chat()])

    assert result["return_value"]["stop"]["outcome"] == "stopped"
    assert sorted(kinds()) == ["breach", "stop_failed", "stopped"]


def test_of_a_rollout_that_ends_well_nobody_is_told(fleet: Any, ti: Any) -> None:
    fleet({"devices": 50, "failure_rate": 0}).run(ti, notifiers=[Chat()])

    assert not told


@pytest.mark.parametrize(
    ("shadow", "begins"), [(False, "BREACHED: 7 of 50 "), (True, "WOULD HAVE STOPPED: 7 of 50 ")]
)
def test_a_breach_without_a_stop_is_told(fleet: Any, ti: Any, shadow: bool, begins: str) -> None:
    xcoms = fleet(BAD).run(ti, shadow=shadow, notifiers=[Chat()])
    assert kinds() == ["breach"]
    assert without_link(told[0]["text"]) == xcoms["summary"]
    assert told[0]["text"].startswith(begins)


def without_link(text: str) -> str:
    """A message without the address at its end, which Airflow 2 has by default."""
    return text.partition(" http")[0]


def test_somebody_elses_stop_is_told(fleet: Any, ti: Any) -> None:
    bad = fleet(BAD)
    bad.run(ti, stop_on_breach=True)
    ti.new_try()
    ti.store.clear()

    xcoms = bad.run(ti, stop_on_breach=True, notifiers=[Chat()])

    assert kinds() == ["stopped_elsewhere"]
    assert without_link(told[0]["text"]) == xcoms["summary"]
    assert told[0]["text"].startswith("STOPPED ELSEWHERE: Somebody else ")


def test_blind_guards_and_lost_ones_are_told(fleet: Any, ti: Any) -> None:
    slow = fleet({"devices": 50, "success_after": 100_000})
    slow.at(50, lambda: slow.emulator.add_fault("status", status=503))
    with pytest.raises(Exception, match="over"):
        slow.run(ti, notifiers=[Chat()], max_outage=60, timeout=600)

    assert kinds() == ["blind", "guard_lost"]
    assert told[0]["text"].startswith("BLIND: Since ")
    assert told[1]["text"].startswith("NOT GUARDED: The guard's ")
    assert told[0]["event"]["severity"] == "error"


@pytest.mark.parametrize("notifier", [Chat, AsyncChat])
def test_a_notifier_that_fails_fails_nothing_and_shows_no_secret(
    fleet: Any, ti: Any, notifier: Any, capfd: Any, caplog: Any
) -> None:
    bad = fleet(BAD)

    xcoms = bad.run(ti, stop_on_breach=True, notifiers=[notifier(fails=True), OnlyAsync()])

    assert xcoms["return_value"]["stop"]["outcome"] == "stopped"
    assert sorted(kinds()) == ["breach", "breach", "stopped", "stopped"]
    assert "SECRET" not in "".join(capfd.readouterr()) + caplog.text


@pytest.mark.parametrize("notifier", [Chat, AsyncChat])
def test_no_stop_waits_for_a_notifier_that_hangs(
    fleet: Any, ti: Any, notifier: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It hangs in the message about a hold; the breach comes a few looks later."""
    monkeypatch.setattr("tests.passing_time.HANGS", 0.5)
    stops: list[float] = []
    holds: list[float] = []
    for where, name in (("worker", "WorkerGuardIO"), ("triggerer", "TriggererGuardIO")):
        module = f"iotda_provider.rollout_guard.{where}"
        monkeypatch.setattr(f"iotda_provider.notifications.in_{where}.SECONDS_FOR_EACH", 40.0)
        seconds = "_LAST_SECONDS" if where == "worker" else "_ALERT_SECONDS"
        monkeypatch.setattr(f"{module}.{seconds}", 0.1)
        for method, times in (("stop_task", stops), ("tell", holds)):
            _note_times(monkeypatch, f"{module}.{name}", method, times)
    bad = fleet({"devices": 200, "failure_rate": 0.3, "failure_after": 30, "dispatch_rate": 1.0})

    xcoms = bad.run(
        ti,
        rules=SequentialFailureTest(0.02, hold_at=5),
        stop_on_breach=True,
        poke_interval=1,
        notifiers=[notifier(hangs="hold")],
    )

    assert kinds()[0] == "hold"
    assert xcoms["return_value"]["stop"]["outcome"] == "stopped"
    assert stops[0] - holds[0] < 20  # half of what the notifier may take


def _note_times(monkeypatch: pytest.MonkeyPatch, cls: str, method: str, times: list[float]) -> None:
    really = getattr(pkgutil.resolve_name(cls), method)

    async def noted(*args: Any) -> Any:
        times.append(time.monotonic())
        return await really(*args)

    monkeypatch.setattr(f"{cls}.{method}", noted)


def test_what_the_worker_knows_is_rendered_there(fleet: Any, ti: Any) -> None:
    text = "{{ run_id }} {{ event.kind }}"
    fleet(BAD).run(ti, notifiers=[Chat(text)])

    assert told[0]["text"] == "run breach"
