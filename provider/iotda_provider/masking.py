"""Makes secrets known to Airflow's masker, from whatever thread or loop they were obtained in."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

# Not from common.compat, whose newest release for Python 3.10 does not have it.
try:
    from airflow.sdk.log import mask_secret
except ImportError:  # Airflow 2:
    from airflow.utils.log.secrets_masker import (  # type: ignore[import-not-found,no-redef]
        mask_secret,
    )

_here_only: ContextVar[bool] = ContextVar("iotda_mask_here_only", default=False)


def mask(*secrets: str | None) -> None:
    """From here on, no log line of this process shows these secrets (nor, in a task, of the
    process that supervises it).

    Airflow leaves alone what is shorter than five characters.
    """
    for secret in secrets:
        if secret:
            (_mask_here if _here_only.get() else mask_secret)(secret)


@contextmanager
def here_only() -> Iterator[None]:
    """Within it, and in threads that inherit its context, the supervising process isn't told.

    A triggerer talks to its supervisor on its event loop. Before Airflow 3.3 a second conversation,
    begun in another thread, takes answers from the first.
    """
    token = _here_only.set(True)
    try:
        yield
    finally:
        _here_only.reset(token)


def _mask_here(secret: str) -> None:
    try:
        from airflow.sdk._shared.secrets_masker import mask_secret as mask_in_this_process
    except ImportError:  # Airflow 2, where there is no other process to tell.
        mask_in_this_process = mask_secret
    mask_in_this_process(secret)
