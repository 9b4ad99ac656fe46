"""The message of an event: how long it may be, and what of it is never cut."""

from __future__ import annotations

import inspect
import re

import pytest
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_1_PLUS

from iotda_provider.notifications.audience import About, Audience
from iotda_provider.notifications.messages import OUTCOMES
from iotda_provider.rollout_guard import outcome

BASE = "https://airflow.example.com"
LONG = "16 of 260 devices failed (6.2 %; 2 % tolerated)."
CHINESE = "\u5347\u7ea7\u5931\u8d25\uff1a\u7535\u91cf\u4e0d\u8db3\uff1b"


@pytest.fixture(autouse=True)
def _base_url(monkeypatch: pytest.MonkeyPatch) -> None:
    for section in ("API", "WEBSERVER"):
        monkeypatch.setenv(f"AIRFLOW__{section}__BASE_URL", BASE)


def event(sentence: str, kind: str = "stopped", dag_id: str = "d", run_id: str = "r") -> dict:  # type: ignore[type-arg]
    return Audience(about=About(dag_id, run_id)).event({"kind": kind, "sentence": sentence})


@pytest.mark.parametrize("run_id", ["r", "manual__2026-11-29T10:13:25+00:00", "r" * 250])
@pytest.mark.parametrize("dag_id", ["d", "d" * 250])
@pytest.mark.parametrize(
    "sentence", [LONG * 1000, CHINESE * 1000, "\U0001f4a5" * 5000, "\ud800" * 5000, "\n\t" * 5000]
)
def test_the_longest_message_keeps_outcome_and_link(
    sentence: str, dag_id: str, run_id: str
) -> None:
    told = event(sentence, "stop_failed", dag_id, run_id)

    message = told["message"]
    assert message.startswith("STOP FAILED: ")
    assert message.endswith(f" {told['link']}")
    assert told["link"].startswith(f"{BASE}/")
    assert len(message) <= 1000
    assert len(message.encode()) <= 2000
    assert message.isprintable()
    assert told["sentence"] == sentence, "the event has all of it"


@pytest.mark.parametrize("kind", ["stopped", "breach", "guard_lost", "ended"])
def test_a_sentence_that_says_how_a_watch_ended_gets_no_second_outcome(kind: str) -> None:
    source = inspect.getsource(outcome)
    words = set(re.findall(r'[("]([A-Z][A-Z ]+[A-Z])(?:"|: )', source))
    assert words == OUTCOMES
    for word in OUTCOMES:
        sentence = f"{word}: 16 of 260 devices failed."
        assert event(sentence, kind)["message"].startswith(f"{sentence} http")


def test_as_much_of_a_long_sentence_is_said_as_there_is_room_for() -> None:
    assert len(event(LONG * 1000)["message"]) == 1000
    assert 1990 <= len(event(CHINESE * 1000)["message"].encode()) <= 2000
    whole = "STOPPED: " + LONG * 10
    assert event(whole)["message"].startswith(whole)


def test_a_link_that_is_too_long_leads_to_the_list_of_all_rollouts() -> None:
    told = event(LONG, dag_id=CHINESE * 20, run_id=CHINESE * 20)

    everything = f"{BASE}/plugin/rollouts" if AIRFLOW_V_3_1_PLUS else f"{BASE}/home"
    assert told["message"] == f"STOPPED: {LONG} {everything}"
    assert len(told["link"]) > 2000


def test_a_base_url_that_is_too_long_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    for section in ("API", "WEBSERVER"):
        monkeypatch.setenv(f"AIRFLOW__{section}__BASE_URL", f"{BASE}/{'x' * 3000}")

    assert event(LONG)["message"] == f"STOPPED: {LONG}"


@pytest.mark.parametrize(
    "reason",
    [
        *("<!channel> hi", '<at user_id="all">all</at>', "<@U123>", "<https://evil.example|click>"),
        *("@all", "@everyone @here", "[click](https://evil.example)", "![](https://evil.example)"),
    ],
)
def test_what_a_device_reports_mentions_nobody_and_makes_no_tag_and_no_link(reason: str) -> None:
    message = event(f"1 device(s): OTA_FAILED {reason}.")["message"]

    assert not set("<>@[]") & set(message)
    assert "OTA_FAILED" in message
