"""Asynchronous hooks of one host in one event loop share a session, which the last one closes."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import aiohttp
import pytest
import requests
from airflow.providers.common.compat.connection import get_async_connection

from iotda_provider.exceptions import IoTDAAuthError, IoTDAError, IoTDATransportError
from iotda_provider.guards import MaxFailures
from iotda_provider.hooks.iotda import IoTDAHook
from iotda_provider.hooks.iotda_async import IoTDAAsyncHook
from iotda_provider.rollout_guard import GuardPlan
from iotda_provider.rollout_guard.memory_store import TriggererMemoryStore
from iotda_provider.transport import sessions
from iotda_provider.transport.rate_limit import RateLimit
from iotda_provider.transport.sessions import SLOTS_PER_HOST
from iotda_provider.triggers.rollout_guard import RolloutGuardTrigger

TASK_ID = "5c8fb0d3c1a2e45678901234"
TASK = {"task_id": TASK_ID, "status": "Processing", "task_progress": {"total": 1, "processing": 1}}


async def session_of(hook: IoTDAAsyncHook) -> Any:
    return (await hook._open()).shared.current


@pytest.mark.usefixtures("connect")
class TestSessions:
    async def test_hooks_of_one_host_share_one(self) -> None:
        async with IoTDAAsyncHook() as one, IoTDAAsyncHook(project_id="other") as two:
            assert await session_of(one) is await session_of(two)

    async def test_the_last_user_closes_it(self) -> None:
        async with IoTDAAsyncHook() as one:
            async with IoTDAAsyncHook() as two:
                session = await session_of(one)
                await two.get_batch_task(TASK_ID)
            assert not session.closed
            await one.get_batch_task(TASK_ID)
        assert session.closed

    async def test_a_cancelled_user_gives_it_back(self) -> None:
        started = asyncio.Event()

        async def use() -> None:
            async with IoTDAAsyncHook() as hook:
                await session_of(hook)
                started.set()
                await asyncio.Event().wait()

        async with IoTDAAsyncHook() as hook:
            session = await session_of(hook)
            user = asyncio.create_task(use())
            await started.wait()
            user.cancel()
            await asyncio.wait([user])
            assert not session.closed
        assert session.closed

    async def test_other_certificates_make_another_session(
        self, connect: Callable[..., None]
    ) -> None:
        async with IoTDAAsyncHook() as one, IoTDAAsyncHook() as two:
            session = await session_of(one)
            connect(verify=False)
            assert await session_of(two) is not session

    async def test_a_closed_hook_can_be_used_again(self) -> None:
        hook = IoTDAAsyncHook()
        await hook.get_batch_task(TASK_ID)
        await hook.close()
        await hook.get_batch_task(TASK_ID)
        await hook.close()

    async def test_first_calls_at_the_same_time_read_the_connection_once(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        reads = []

        async def read(*args: Any, **kwargs: Any) -> Any:
            reads.append(args)
            return await get_async_connection(*args, **kwargs)

        monkeypatch.setattr("iotda_provider.hooks.iotda_async.get_async_connection", read)
        async with IoTDAAsyncHook() as hook:
            await asyncio.gather(*(hook.get_batch_task(TASK_ID) for _ in range(5)))
            session = await session_of(hook)
        assert len(reads) == 1
        assert session.closed

    def test_each_event_loop_has_its_own(self) -> None:
        async def use() -> Any:
            async with IoTDAAsyncHook() as hook:
                await hook.get_batch_task(TASK_ID)
                return await session_of(hook)

        assert asyncio.run(use()) is not asyncio.run(use())

    def test_a_hook_that_was_not_closed_can_be_used_in_the_next_event_loop(self) -> None:
        hook = IoTDAAsyncHook()

        async def use() -> Any:
            await hook.get_batch_task(TASK_ID)
            return await session_of(hook)

        async def use_and_close() -> Any:
            session = await use()
            await hook.close()
            return session

        first, second, third = (asyncio.run(work()) for work in (use, use, use_and_close))

        assert len({first, second, third}) == 3
        assert first.closed, "and what was left behind is let go of"
        assert second.closed
        assert third.closed

    def test_a_hook_may_be_used_in_two_event_loops_by_turns(self) -> None:
        hook = IoTDAAsyncHook()
        loops = [asyncio.new_event_loop() for _ in range(2)]

        one, two, *again = [loop.run_until_complete(session_of(hook)) for loop in loops * 2]
        assert one is not two
        assert again == [one, two]
        for loop in loops:
            loop.run_until_complete(hook.get_batch_task(TASK_ID))
        for loop, own in zip(loops, (one, two), strict=True):
            assert not own.closed
            loop.run_until_complete(hook.close())
            assert own.closed
            loop.run_until_complete(asyncio.sleep(0))  # lets transports close
            loop.close()


class Time:
    """In the place of ``time`` and of ``asyncio``: time passes while somebody sleeps."""

    def __init__(self) -> None:
        self.now = 0.0

    def __getattr__(self, name: str) -> Any:
        return getattr(asyncio, name)

    def monotonic(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.now += seconds
        await asyncio.sleep(0)


async def test_waiting_in_the_queue_does_not_count_against_a_calls_timeout(
    fake: Any, connect: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each call waits for its turn for longer than it may take by itself."""
    passing, given = Time(), []
    for name in ("transport.asynchronous.asyncio", "transport.retrying.time"):
        monkeypatch.setattr(f"iotda_provider.{name}", passing)
    limit = RateLimit(0.01, clock=passing.monotonic)
    monkeypatch.setattr("iotda_provider.transport.pipeline.shared_limit", lambda settings: limit)
    real = aiohttp.ClientTimeout

    def timeout(total: float, **more: Any) -> Any:
        given.append(total)
        return real(total=60, **more)

    monkeypatch.setattr(aiohttp, "ClientTimeout", timeout)
    connect(timeout=30, attempt_timeout=29)
    async with IoTDAAsyncHook() as hook:
        await hook.get_batch_task(TASK_ID)
        await asyncio.gather(*(hook.get_batch_task(TASK_ID) for _ in range(9)))
    assert len(fake.seen) == 10
    assert passing.now >= 9 * 100
    assert given == [29] * 10


@pytest.mark.parametrize("hook", [IoTDAHook, IoTDAAsyncHook])
async def test_a_stop_does_not_queue_behind_looks_for_the_rate_limit(
    fake: Any, connect: Callable[..., None], hook: Any
) -> None:
    connect(max_requests_per_second=8)
    with ThreadPoolExecutor(12) as threads:

        async def call(method: Any, *args: Any) -> Any:
            if hook is IoTDAAsyncHook:
                return await method(*args)
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(threads, method, *args)

        opened = hook()
        looks = [asyncio.ensure_future(call(opened.get_batch_task, TASK_ID)) for _ in range(10)]
        await asyncio.to_thread(fake.wait_for, 2)
        with contextlib.suppress(IoTDAError):
            await call(opened.stop_batch_task, TASK_ID)
        await asyncio.gather(*looks)
        if hook is IoTDAAsyncHook:
            await opened.close()
        else:
            opened.close()
    (place,) = [n for n, seen in enumerate(fake.seen) if seen.path.endswith("/stop")]
    assert place < 9, "of eleven requests: it waited behind the looks"


async def test_cancelling_many_calls_leaves_none_behind(
    fake: Any, connect: Callable[..., None]
) -> None:
    fake.answer(type(fake.answers[0])(fault="hang"))
    async with IoTDAAsyncHook() as hook:
        stop = asyncio.create_task(hook.stop_batch_task(TASK_ID, [f"d{n}" for n in range(5_000)]))
        await asyncio.to_thread(fake.wait_for, 1)
        before = asyncio.all_tasks()
        stop.cancel()
        await asyncio.wait([stop])
        await asyncio.sleep(0)
        assert stop.cancelled()
        assert len(asyncio.all_tasks()) < len(before)
        assert asyncio.all_tasks() == {asyncio.current_task()}


class TestClosing:
    """A hook that others use is closed, as a guard does at a 401 to read its connection anew."""

    @pytest.mark.parametrize(
        "waits_for", ["an answer", "the rate limit", "its turn", "credentials"]
    )
    async def test_a_call_comes_to_its_end_whatever_it_waits_for(
        self,
        fake: Any,
        connect: Callable[..., None],
        monkeypatch: pytest.MonkeyPatch,
        waits_for: str,
    ) -> None:
        go_on = threading.Event()
        reply = type(fake.answers[0])

        def answer(seen: Any) -> Any:
            if waits_for != "the rate limit" and (
                waits_for != "credentials" or seen.path.startswith("/v3")
            ):
                go_on.wait(60)
            if seen.path.startswith("/v3"):
                return reply(status=201, body={"token": {}}, headers={"X-Subject-Token": "t"})
            return reply(body=TASK)

        fake.answer(answer)
        connect(timeout=120, attempt_timeout=100, max_attempts=1)
        calls = 3
        if waits_for == "the rate limit":
            connect(max_requests_per_second=5, max_attempts=1)
        if waits_for == "its turn":
            calls = 2 * SLOTS_PER_HOST
        if waits_for == "credentials":
            who = {"auth_type": "token", "domain_name": "account", "iam_endpoint": fake.url}
            connect(timeout=120, attempt_timeout=100, max_attempts=1, **who)
        hook = IoTDAAsyncHook()
        asked = [asyncio.create_task(hook.get_batch_task(TASK_ID)) for _ in range(calls)]
        await asyncio.to_thread(fake.wait_for, SLOTS_PER_HOST if waits_for == "its turn" else 1)
        session = await session_of(hook)

        await hook.close()
        go_on.set()

        assert [(await one).task_id for one in asked] == [TASK_ID] * calls
        assert session.closed

    async def test_the_session_is_open_for_as_long_as_an_answer_is_under_way(
        self, fake: Any, connect: Callable[..., None]
    ) -> None:
        go_on = threading.Event()
        reply = type(fake.answers[0])
        fake.answer(lambda seen: [go_on.wait(60), reply(body=TASK)][1])
        hook = IoTDAAsyncHook()
        call = asyncio.create_task(hook.get_batch_task(TASK_ID))
        await asyncio.to_thread(fake.wait_for, 1)
        session = await session_of(hook)

        await hook.close()
        assert not session.closed
        again = asyncio.create_task(hook.get_batch_task(TASK_ID))
        await asyncio.to_thread(fake.wait_for, 2)
        assert await session_of(hook) is not session
        go_on.set()
        await asyncio.gather(call, again)

        assert session.closed
        await hook.close()

    async def test_all_that_are_refused_get_the_typed_error(
        self, fake: Any, connect: Callable[..., None], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        # No earlier try has left a memory; where Airflow does not say so, guards wait for it.
        monkeypatch.setattr(TriggererMemoryStore, "_get_memories", lambda self: (None, None))
        connect(max_requests_per_second=6)
        fake.answer(type(fake.answers[0])(status=401))
        hook = IoTDAAsyncHook()

        async def guard() -> None:
            try:
                await hook.get_batch_task(TASK_ID)
            except IoTDAAuthError:
                await hook.close()
                raise

        guards = await asyncio.gather(*(guard() for _ in range(3)), return_exceptions=True)

        assert [type(error) for error in guards] == [IoTDAAuthError] * 3

    async def test_guards_in_a_triggerer_all_tell_of_a_refusal(
        self, fake: Any, connect: Callable[..., None], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        # No earlier try has left a memory; where Airflow does not say so, guards wait for it.
        monkeypatch.setattr(TriggererMemoryStore, "_get_memories", lambda self: (None, None))
        connect(max_requests_per_second=6)
        fake.answer(type(fake.answers[0])(status=401, body={"error_code": "APIGW.0301"}))

        async def guard(number: int) -> Any:
            ids = (f"{TASK_ID[:-1]}{number}",)
            plan = GuardPlan(batch_task_ids=ids, rules=(MaxFailures(5),), poll_interval=0.2)
            owner = {"dag_id": "d", "run_id": "r", "task_id": f"t{number}", "map_index": -1}
            trigger = RolloutGuardTrigger(plan=plan.to_dict(), owner=owner)
            return (await anext(trigger.run())).payload["error"]

        errors = await asyncio.gather(*(guard(number) for number in range(3)))

        assert [error["type"] for error in errors] == ["IoTDAAuthError"] * 3

    async def test_who_opens_it_anew_at_the_same_time_leaves_no_session_behind(
        self, connect: Callable[..., None]
    ) -> None:
        hook = IoTDAAsyncHook()
        seen = set()

        async def use() -> None:
            await hook.get_batch_task(TASK_ID)
            seen.add(await session_of(hook))
            await hook.close()

        for _ in range(5):
            await asyncio.gather(*(use() for _ in range(8)))
        await hook.close()

        assert all(session.closed for session in seen)
        assert not sessions._sessions.get(asyncio.get_running_loop())

    async def test_a_session_that_was_closed_all_the_same_has_sent_nothing(
        self, fake: Any, connect: Callable[..., None], no_backoff: None
    ) -> None:
        connect(max_attempts=1)
        async with IoTDAAsyncHook() as hook:
            await (await session_of(hook)).close()
            with pytest.raises(IoTDATransportError, match="closed before the request") as caught:
                await hook.retry_batch_task(TASK_ID)
        assert not caught.value.sent
        assert not fake.seen


def test_a_blocking_hook_that_is_closed_lets_other_threads_finish(
    fake: Any, connect: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    closed, close = [], requests.Session.close

    def noted(self: Any) -> None:
        closed.append(self)
        close(self)

    monkeypatch.setattr(requests.Session, "close", noted)
    go_on = threading.Event()
    reply = type(fake.answers[0])
    fake.answer(lambda seen: [go_on.wait(60), reply(body=TASK)][1])
    hook = IoTDAHook()
    with ThreadPoolExecutor(4) as pool:
        calls = [pool.submit(hook.get_batch_task, TASK_ID) for _ in range(4)]
        fake.wait_for(4)
        session = hook.get_conn()

        hook.close()
        assert closed == []
        assert hook.get_conn() is not session
        go_on.set()

        assert [call.result(60).task_id for call in calls] == [TASK_ID] * 4
    assert closed == [session]
    hook.close()
    assert len(closed) == 2
