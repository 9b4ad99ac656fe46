"""Tells secrets to Airflow's masker, from any thread or event loop."""

from __future__ import annotations

import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from contextvars import ContextVar
from typing import Any

from iotda_provider.airflow_support.supervisor import ask
from iotda_provider.masking.sealed import Sealed, without_frames

# Not from common.compat: its newest release for Python 3.10 lacks it.
try:
    from airflow.sdk.log import mask_secret
except ImportError:  # Airflow 2:
    from airflow.utils.log.secrets_masker import (  # type: ignore[import-not-found,no-redef]
        mask_secret,
    )
try:
    from airflow.sdk._shared.secrets_masker import mask_secret as _mask_here
except ImportError:  # Airflow 2: there is no other process to tell.
    _mask_here = mask_secret

# Before Airflow 3.3 a task's process may ask its supervisor one thing at a time.
_telling = threading.Lock()
_not_told: ContextVar[Sealed[list[str]] | None] = ContextVar("iotda_secrets_not_told", default=None)


def mask(*secrets: str | None) -> None:
    """Hide these secrets in all later log lines of this process and of a task's supervisor.

    Airflow does not hide texts of fewer than five characters.
    """
    hidden = Sealed([secret for secret in secrets if secret])
    del secrets
    with without_frames():  # frames of Airflow's masker hold the secret
        _mask(hidden)


def _mask(secrets: Sealed[list[str]]) -> None:
    not_told = _not_told.get()
    for secret in secrets.reveal():
        if not_told is None:
            with _telling:
                mask_secret(secret)
        else:
            _mask_here(secret)
            not_told.reveal().append(secret)


@asynccontextmanager
async def on_event_loop() -> AsyncIterator[None]:
    """In this block, and in threads that inherit its context, :func:`mask` does not block.

    The supervisor, which writes a trigger's log, is told at the end of the block, on the event
    loop: before Airflow 3.3, a question from another thread would receive the loop's answers.
    """
    not_told: Sealed[list[str]] = Sealed([])
    token = _not_told.set(not_told)
    try:
        yield
    finally:
        _not_told.reset(token)
        if not_told.reveal():
            await _tell_supervisor(not_told)


@contextmanager
def tell_supervisor_later(tell: Callable[[Sealed[list[str]]], Any]) -> Iterator[None]:
    """In this block, :func:`mask` does not wait for a task's supervisor.

    :param tell: called with the secrets at the end of the block; it passes them to
        :func:`mask_all` where waiting is allowed
    """
    not_told: Sealed[list[str]] = Sealed([])
    token = _not_told.set(not_told)
    try:
        yield
    finally:
        _not_told.reset(token)
        if not_told.reveal():
            tell(not_told)


def mask_all(secrets: Sealed[list[str]]) -> None:
    """:func:`mask` what is sealed."""
    mask(*secrets.reveal())


async def _tell_supervisor(secrets: Sealed[list[str]]) -> None:
    """The same as ``amask_secret`` of Airflow 3.3 and later."""
    # Not imported here: Airflow has imported it if there is a supervisor.
    task_runner: Any = sys.modules.get("airflow.sdk.execution_time.task_runner")
    supervisor = getattr(task_runner, "SUPERVISOR_COMMS", None)
    if supervisor is None:
        return
    comms: Any = sys.modules.get("airflow.sdk.execution_time.comms")  # loaded with it
    for secret in secrets.reveal():
        # As Airflow does: if telling fails, the work goes on, and a line may show the secret.
        with suppress(Exception):
            message = comms.MaskSecret(value=secret, name=None)
            try:
                await ask(supervisor, message)
            except (
                AttributeError,
                NotImplementedError,
            ):  # of a task, in some versions
                supervisor.send(message)
