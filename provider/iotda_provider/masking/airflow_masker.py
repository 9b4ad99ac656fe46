"""Makes secrets known to Airflow's masker, from whatever thread or loop they were obtained in."""

from __future__ import annotations

import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from contextvars import ContextVar
from typing import Any

from iotda_provider.airflow_support.supervisor import ask
from iotda_provider.masking.sealed import Sealed, without_frames

# Not from common.compat, whose newest release for Python 3.10 does not have it.
try:
    from airflow.sdk.log import mask_secret
except ImportError:  # Airflow 2:
    from airflow.utils.log.secrets_masker import (  # type: ignore[import-not-found,no-redef]
        mask_secret,
    )
try:
    from airflow.sdk._shared.secrets_masker import mask_secret as _mask_here
except ImportError:  # Airflow 2, where there is no other process to tell.
    _mask_here = mask_secret

# Before Airflow 3.3 a task's process may have one conversation with its supervisor at a time.
_telling = threading.Lock()
_not_told: ContextVar[Sealed[list[str]] | None] = ContextVar("iotda_secrets_not_told", default=None)


def mask(*secrets: str | None) -> None:
    """From here on, no log line of this process shows these secrets (nor, in a task, of the
    process that supervises it).

    Airflow leaves alone what is shorter than five characters.
    """
    hidden = Sealed([secret for secret in secrets if secret])
    del secrets
    failure: BaseException
    try:
        _mask(hidden)
        return
    except BaseException as error:  # noqa: BLE001 - raised again
        failure = error
    # Below are frames of Airflow's masker, which hold the secret.
    try:
        raise without_frames(failure)
    finally:
        del failure


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
    """Within it, and in threads that inherit its context, :func:`mask` does not block the loop.

    The supervising process, which writes a trigger's log, is told at the end, from the loop: a
    triggerer talks to its supervisor there, and before Airflow 3.3 a second conversation, begun in
    another thread, takes answers from the first.
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
def telling_later(tell: Callable[[Sealed[list[str]]], Any]) -> Iterator[None]:
    """Within it, :func:`mask` does not wait for the supervising process, in a task.

    :param tell: gets the secrets at the end, to give them to :func:`mask_all` where that may wait
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
    """Does what ``amask_secret`` does, which Airflow has from 3.3 on."""
    # Not imported here: where nobody else has done so, there is no supervisor.
    task_runner: Any = sys.modules.get("airflow.sdk.execution_time.task_runner")
    supervisor = getattr(task_runner, "SUPERVISOR_COMMS", None)
    if supervisor is None:
        return
    comms: Any = sys.modules.get("airflow.sdk.execution_time.comms")  # which it has loaded
    for secret in secrets.reveal():
        # As Airflow does: that a line may show it is better than no work at all.
        with suppress(Exception):
            message = comms.MaskSecret(value=secret, name=None)
            try:
                await ask(supervisor, message)
            except (AttributeError, NotImplementedError):  # that of a task, in some versions
                supervisor.send(message)
