"""The version of the package that a rollout installs, for people who look on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import TimeoutError as FutureTimeoutError
from typing import Any

from iotda_provider.airflow_support.threads import CallQueue
from iotda_provider.models import BatchTask
from iotda_provider.rollout_guard.live_record import package_ids
from iotda_provider.transport.retrying import quiet_retries

#: Nobody waits longer for what is only shown.
_SECONDS = 2.0


def read_package_version(read: Callable[[str], Any], tasks: Sequence[BatchTask]) -> str | None:
    """The version; None: there are several packages, or it can't be read within two seconds.

    :param read: reads a package by its id; it is called in a thread of its own
    """
    packages = list(dict.fromkeys(found for task in tasks for found in package_ids(task)))
    if len(packages) != 1:
        return None

    def version() -> Any:
        with quiet_retries():
            return read(packages[0]).version

    queue = CallQueue()
    reading = queue.begin(version)
    queue.end()
    try:
        found = reading.result(_SECONDS)
    except FutureTimeoutError:
        return None
    except Exception:  # noqa: BLE001 - whatever is wrong with the package, the rollout is guarded
        return None
    return found if isinstance(found, str) else None
