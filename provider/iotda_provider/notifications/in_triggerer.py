"""Tells an audience from a triggerer."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Mapping
from typing import Any

from airflow.providers.common.compat.notifier import BaseNotifier

from iotda_provider.airflow_support.threads import in_import_thread, one_at_a_time
from iotda_provider.models.log import Log
from iotda_provider.notifications.audience import (
    SECONDS_FOR_EACH,
    Audience,
    Member,
    awaited,
)

# Airflow 2: notifiers of newer providers have async_notify, which calls what only Airflow 3 has.
_UNSUPPORTED: tuple[type[Exception], ...] = (
    () if hasattr(BaseNotifier, "async_notify") else (AttributeError,)
)


async def tell(audience: Audience, event: Mapping[str, Any], log: Log) -> None:
    """Tell everybody at the same time; an error is logged, and fails nothing.

    Each has ten seconds. Then its coroutine is cancelled; a thread goes on by itself.
    """
    context = audience.context(event)
    await asyncio.gather(*(_tell_one(one, context, log) for one in list(audience.members)))


async def _tell_one(member: Member, context: Mapping[str, Any], log: Log) -> None:
    # A task of its own, as Python 3.10 can't tell one that cancels itself from one that is.
    call = asyncio.ensure_future(_call(member, context))
    try:
        await asyncio.wait({call}, timeout=SECONDS_FOR_EACH)
    finally:
        is_over = call.done()
        call.cancel()
    if not is_over:
        log.error("%s has not returned for %.0f s.", member.name, SECONDS_FOR_EACH)
    elif call.cancelled():
        log.error("%s failed; the task goes on. It has cancelled itself.", member.name)
    elif (error := call.exception()) is not None:
        log.error("%s failed; the task goes on. %s", member.name, member.failure(error))


async def _call(member: Member, context: Mapping[str, Any]) -> None:
    ready = await in_import_thread(member.prepare, context)
    if ready.coroutine is not None:
        try:
            await ready.coroutine()
        except _UNSUPPORTED:
            if ready.call is None:
                raise
        else:
            return
    if ready.call is not None:
        # A notifier that hangs holds one thread, however many events there are.
        answer = await one_at_a_time((id(member), "notifier"), ready.call)
        # On this loop: before Airflow 3.2, its functions end the triggerer if called on another.
        if inspect.isawaitable(answer):
            await awaited(answer)
