"""Credentials are shared by all that use a connection, and renewed by one of them."""

from __future__ import annotations

import asyncio
import itertools
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest

from iotda_provider.hooks.iotda import IoTDAHook
from iotda_provider.hooks.iotda_async import IoTDAAsyncHook

TASK = "0123456789abcdef01234567"
CALLERS = 40
GIVEN = {"token": "token", "agency": "agency_key", "federation": "federated_key"}


def in_threads() -> None:
    ready = threading.Barrier(CALLERS)

    def one(_: int) -> str:
        ready.wait(60)
        with IoTDAHook() as hook:
            return hook.get_batch_task(TASK).task_id

    with ThreadPoolExecutor(CALLERS) as pool:
        assert list(pool.map(one, range(CALLERS))) == [TASK] * CALLERS


def in_one_loop() -> None:
    async def one() -> str:
        async with IoTDAAsyncHook() as hook:
            return (await hook.get_batch_task(TASK)).task_id

    async def all_of_them() -> list[str]:
        return await asyncio.gather(*(one() for _ in range(CALLERS)))

    assert asyncio.run(all_of_them()) == [TASK] * CALLERS


@pytest.mark.parametrize("at_once", [in_threads, in_one_loop])
@pytest.mark.parametrize("auth_type", GIVEN)
def test_many_callers_at_once_take_one_set_of_credentials(start, connect, auth_type, at_once):
    emulator = start()
    connect(emulator, auth_type)
    given = emulator.instance.iam.given

    at_once()
    assert given[GIVEN[auth_type]] == 1

    emulator.instance.iam.expire_everything()
    at_once()
    assert given[GIVEN[auth_type]] == 2, "renewed once, however many calls had been rejected"


def test_credentials_that_nobody_renews_are_kept_while_iam_is_down(
    start, connect, hooks, monkeypatch, caplog
):
    emulator = start(iam={"token_lifetime": 1000})
    connect(emulator, "token")
    assert hooks.read() == TASK
    moment = time.time() + 900
    ahead = SimpleNamespace(time=lambda: moment)
    monkeypatch.setattr("iotda_provider.auth.renewal.time", ahead)
    object.__setattr__(emulator.instance.iam.settings, "password", "changed meanwhile")

    assert hooks.read() == TASK, "the token is good for another 100 s"
    assert "could not be renewed" in caplog.text
    assert hooks.read() == TASK
    assert caplog.text.count("could not be renewed") == 1, "and IAM is left alone for a while"


@pytest.mark.parametrize("auth_type", GIVEN)
def test_a_stop_waits_for_no_renewal_while_the_old_credentials_are_good(
    start, connect, hooks, monkeypatch, auth_type
):
    emulator = start(iam={"token_lifetime": 1000, "key_lifetime": 1000})
    connect(emulator, auth_type)
    given = emulator.instance.iam.given
    hooks.read()
    moment = time.time() + 900
    monkeypatch.setattr("iotda_provider.auth.renewal.time", SimpleNamespace(time=lambda: moment))

    hooks.call("stop_batch_task", TASK)
    assert given[GIVEN[auth_type]] == 1
    hooks.read()
    assert given[GIVEN[auth_type]] == 2, "whoever looks renews them"


def test_token_that_lasts_seconds_never_comes_too_late(start, connect, monkeypatch):
    """By one clock for who gives it out, who sends it and who looks at it."""
    moments = itertools.count(time.time() * 4)
    passing = SimpleNamespace(time=lambda: now)
    for module in ("emulator.identity.iam", "emulator.web.gateway", "auth.renewal"):
        monkeypatch.setattr(f"iotda_provider.{module}.time", passing)
    emulator = start(iam={"token_lifetime": 8})
    connect(emulator, "token")
    with IoTDAHook() as hook:
        while emulator.instance.iam.given["token"] < 3:
            now = next(moments) / 4
            hook.get_batch_task(TASK)

    assert {entry["status"] for entry in emulator.journal()} == {200}
    assert len(emulator.journal("show_batch_task")) > 2 * 4 * 4


def test_rotated_key_is_taken_from_the_connection_by_the_next_hook(start, connect, hooks):
    emulator = start()
    connect(emulator, "aksk", password="the-old-secret-key")
    with pytest.raises(Exception, match="secret key"):
        hooks.read()
    connect(emulator, "aksk")

    assert hooks.read() == TASK


def test_project_of_the_region_is_found_where_none_is_set(start, connect, hooks):
    emulator = start()
    connect(emulator, "aksk", project_id=None, iam_endpoint=emulator.url)

    assert hooks.read() == TASK
    assert hooks.read() == TASK
    assert emulator.instance.iam.given["projects"] == 1


def test_token_for_a_regions_name_brings_its_project(start, connect, hooks):
    emulator = start()
    connect(emulator, "token", project_id=None)

    assert hooks.read() == TASK


@pytest.mark.skipif(
    not hasattr(os, "fork"), reason="this system has no fork(), whose children the test is about"
)
def test_forked_process_gets_its_own(start, connect):
    emulator = start()
    connect(emulator, "token")
    IoTDAHook().get_batch_task(TASK)
    child = os.fork()
    if child == 0:
        try:
            IoTDAHook().get_batch_task(TASK)
        finally:
            # Nothing of the test run may go on here.
            os._exit(0)
    assert os.waitpid(child, 0)[1] == 0

    assert emulator.instance.iam.given["token"] == 2
