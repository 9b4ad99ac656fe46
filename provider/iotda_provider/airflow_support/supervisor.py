"""Conversations with Airflow's supervisor process, which a cancellation must not cut short.

Before Airflow 3.3, a triggerer takes an unread answer for the answer to its next question, which
ends the triggerer.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable
from typing import Any, TypeVar

T = TypeVar("T")

_SECONDS = 10.0


def present_supervisor() -> Any:
    """The supervisor of this process; None: there is none, as on Airflow 2."""
    # Not imported here: Airflow has imported it if there is a supervisor.
    task_runner: Any = sys.modules.get("airflow.sdk.execution_time.task_runner")
    return getattr(task_runner, "SUPERVISOR_COMMS", None)


async def ask(supervisor: Any, message: Any) -> Any:
    """The supervisor's answer to a message; it is read even if the caller is cancelled.

    :raises TimeoutError: no answer came within 10 s
    """
    return await asyncio.wait_for(finish_even_if_cancelled(supervisor.asend(message)), _SECONDS)


async def finish_even_if_cancelled(work: Awaitable[T]) -> T:
    """The result of ``work``, which runs to its end even if the caller is cancelled."""
    task = asyncio.ensure_future(work)
    task.add_done_callback(_retrieve_error)
    return await asyncio.shield(task)


def _retrieve_error(done: asyncio.Future[Any]) -> None:
    """Keep asyncio from logging an error that no caller is left to retrieve."""
    if not done.cancelled():
        done.exception()
