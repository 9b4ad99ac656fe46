"""Whatever a notifier does, the others are told, the task goes on, and no secret is logged."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Callable
from typing import Any

import pytest
from airflow.providers.common.compat.notifier import BaseNotifier

from iotda_provider.notifications import in_triggerer, in_worker
from iotda_provider.notifications.audience import About, Audience
from iotda_provider.notifications.recorded import from_json, record

LOG = logging.getLogger("iotda_provider.test")
SECRET = "5ecret-of-a-rob0t"
told: list[dict[str, Any]] = []
#: The event loops of the triggerer, and of the coroutine functions that tell.
loops: list[asyncio.AbstractEventLoop] = []


class NoTextError(Exception):
    """An error whose text is an error, too."""

    def __str__(self) -> str:
        raise RuntimeError


def leave() -> None:
    sys.exit(3)


def interrupt() -> None:
    raise KeyboardInterrupt


def cancel() -> None:
    raise asyncio.CancelledError


def fail_without_text() -> None:
    raise NoTextError


WAYS: dict[str, Callable[[], None]] = {
    one.__name__: one for one in (leave, interrupt, cancel, fail_without_text)
}


class Hostile(BaseNotifier):
    """Ends in one of the ways; it only blocks."""

    def __init__(self, way: str = "") -> None:
        super().__init__()
        self.way = way

    def notify(self, context: Any) -> None:
        """End."""
        WAYS[self.way]()


class HostileAsync(Hostile):
    """Ends in one of the ways; it suspends."""

    async def async_notify(self, context: Any) -> None:
        """End."""
        WAYS[self.way]()

    def notify(self, context: Any) -> None:
        """Before Airflow 3, a notifier must have it."""
        raise NotImplementedError


class HostileWhenMade(Hostile):
    """Ends when it is made again."""

    def __init__(self, way: str = "", again: bool = True) -> None:
        super().__init__(way)
        if told:
            WAYS[way]()


class Greedy(BaseNotifier):
    """Takes the event for itself."""

    def notify(self, context: Any) -> None:
        """Take it."""
        context["event"]["batch_task_ids"].clear()
        context["event"].clear()


class Leaky(BaseNotifier):
    """Shows its arguments in its error."""

    def __init__(self, chat_conn_id: str, token: str, headers: Any, body: str) -> None:
        super().__init__()
        self.shown = (chat_conn_id, token, headers, body)

    def notify(self, context: Any) -> None:
        """Fail."""
        raise ValueError(f"The connection is wrong: {self.shown}")


class Chat(BaseNotifier):
    """Keeps what it gets."""

    def notify(self, context: Any) -> None:
        """Keep it."""
        told.append(context["event"])


Tell = Callable[..., None]


@pytest.fixture(params=["worker", "triggerer"])
def tell(request: pytest.FixtureRequest, caplog: pytest.LogCaptureFixture) -> Tell:
    """Tells notifiers of a stop as a guard does."""
    told.clear()
    loops.clear()

    def tell(*notifiers: Any, on_alert: Any = None) -> None:
        recorded = record([*notifiers, Chat()], importable=True)
        if request.param == "triggerer":
            recorded = from_json([one.to_json() for one in recorded])
        audience = Audience(recorded, on_alert, About("d", "r", "t"))
        event = audience.event({"kind": "stopped", "sentence": "s", "batch_task_ids": ["a1"]})
        if request.param == "triggerer":

            async def tell_on_one_loop() -> None:
                loops.append(asyncio.get_running_loop())
                await in_triggerer.tell(audience, event, LOG)

            asyncio.run(tell_on_one_loop())
        else:
            in_worker.tell(audience, event, LOG)

    return tell


@pytest.mark.parametrize("way", sorted(WAYS))
@pytest.mark.parametrize("cls", [Hostile, HostileAsync])
def test_the_others_are_told_and_the_process_goes_on(
    tell: Tell, cls: type[Hostile], way: str, caplog: pytest.LogCaptureFixture
) -> None:
    tell(cls(way))

    assert [event["kind"] for event in told] == ["stopped"]
    assert f"{cls.__name__} failed; the task goes on." in caplog.text


def test_one_that_can_not_be_made_again(tell: Tell, caplog: pytest.LogCaptureFixture) -> None:
    notifier = HostileWhenMade("leave")
    told.append({"kind": "before"})

    tell(notifier)

    assert [event["kind"] for event in told] == ["before", "stopped"]
    assert "HostileWhenMade failed; the task goes on." in caplog.text


def test_each_gets_an_event_of_its_own(tell: Tell) -> None:
    def greedy(event: Any) -> None:
        event.clear()

    tell(Greedy(), Greedy(), on_alert=greedy)

    assert [event["batch_task_ids"] for event in told] == [["a1"]]


async def coroutine_function(event: Any) -> None:
    """Tell, after a pause."""
    await asyncio.sleep(0)
    loops.append(asyncio.get_running_loop())
    told.append({"by": "on_alert", **event})


class CoroutineObject:
    """Called as a function, it is one."""

    async def __call__(self, event: Any) -> None:
        """Tell, after a pause."""
        await coroutine_function(event)


@pytest.mark.parametrize(
    "on_alert", [coroutine_function, f"{__name__}.coroutine_function", CoroutineObject()]
)
def test_an_asynchronous_on_alert_is_called_too(tell: Tell, on_alert: Any) -> None:
    tell(on_alert=on_alert)

    assert [event["kind"] for event in told if event.get("by")] == ["stopped"]
    # Before Airflow 3.2, its functions end a triggerer if they are called on another loop.
    assert len(set(loops)) == 1


class Suspending(BaseNotifier):
    """Its blocking method is a coroutine function, as its author knows no other name."""

    async def notify(self, context: Any) -> None:
        """Tell, after a pause."""
        await coroutine_function(context["event"])


def test_an_asynchronous_notify_is_called_too(tell: Tell) -> None:
    tell(Suspending())

    assert [event["kind"] for event in told if event.get("by")] == ["stopped"]


async def leaving_coroutine_function(event: Any) -> None:
    """End the process, after a pause."""
    await asyncio.sleep(0)
    leave()


def test_an_asynchronous_on_alert_that_leaves_ends_nothing(
    tell: Tell, caplog: pytest.LogCaptureFixture
) -> None:
    tell(on_alert=leaving_coroutine_function)

    assert "on_alert failed; the task goes on. RuntimeError: it ended by" in caplog.text


async def failing_coroutine_function(event: Any) -> None:
    """Fail, after a pause."""
    await asyncio.sleep(0)
    raise ValueError("out of order")


def test_an_asynchronous_on_alert_that_fails_is_logged(
    tell: Tell, caplog: pytest.LogCaptureFixture
) -> None:
    tell(on_alert=failing_coroutine_function)

    assert "on_alert failed; the task goes on. ValueError: out of order" in caplog.text


def test_its_arguments_are_not_logged_but_for_its_connection(
    tell: Tell, caplog: pytest.LogCaptureFixture
) -> None:
    headers = {"Authorization": [f"Bearer {SECRET}", {"X": f"{SECRET}-2"}]}

    tell(Leaky("chat_of_us", SECRET, headers, "{{ message }}"))

    assert "The connection is wrong: ('chat_of_us', '***'" in caplog.text
    assert SECRET not in caplog.text
