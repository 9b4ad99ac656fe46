"""Tells an audience from a worker."""

from __future__ import annotations

import asyncio
import inspect
import threading
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from iotda_provider.airflow_support.threads import start_thread
from iotda_provider.models.log import Log
from iotda_provider.notifications.audience import (
    SECONDS_FOR_EACH,
    Audience,
    Member,
    Prepared,
    awaited,
)


def tell(
    audience: Audience,
    event: Mapping[str, Any],
    log: Log,
    is_urgent: Callable[[], bool] = lambda: False,
    *,
    least_seconds: float = 0.0,
) -> bool:
    """Tell everybody, one after the other; an error is logged, and fails nothing.

    Each has ten seconds. Afterwards it goes on by itself, and the next one is told.

    :param is_urgent: whether something else waits for the end of this call
    :param least_seconds: how many seconds each has even then; 0: the call goes on at once
    :returns: whether anybody was certainly told by the end of this call
    """
    context = audience.context(event)
    told: list[str] = []
    for member in list(audience.members):
        done = threading.Event()
        start_thread(partial(_tell_one, member, context, log, done, told))
        begins = time.monotonic()
        ends = begins + SECONDS_FOR_EACH
        while not done.wait(0.05):
            if is_urgent() and time.monotonic() >= begins + least_seconds:
                break
            if time.monotonic() >= ends:
                log.error("%s has not returned for %.0f s.", member.name, SECONDS_FOR_EACH)
                break
    return bool(told)


def _tell_one(
    member: Member,
    context: Mapping[str, Any],
    log: Log,
    done: threading.Event,
    told: list[str],
) -> None:
    try:
        ready = member.prepare(context)
        try:
            if ready.call is not None:
                answer = ready.call()
                if inspect.isawaitable(answer):
                    ready = Prepared(None, partial(awaited, answer))
        except NotImplementedError:  # before Airflow 3, a notifier must have that method
            ready = Prepared(None, ready.coroutine)
        if ready.call is None and ready.coroutine is not None:
            asyncio.run(asyncio.wait_for(ready.coroutine(), SECONDS_FOR_EACH))
        told.append(member.name)
    except BaseException as error:  # noqa: BLE001 - the user's code may raise anything
        log.error("%s failed; the task goes on. %s", member.name, member.failure(error))
    finally:
        done.set()
