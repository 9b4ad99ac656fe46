"""``python -m tests.distributed.part scheduler``: a part of Airflow that can say where it hangs.

SIGUSR1 makes it, and what it has forked, write the stacks of all threads to ``IOTDA_STACKS``.
Celery has its own handler for that signal, which does the same in its log.
"""

from __future__ import annotations

import faulthandler
import os
import signal
import sys
from pathlib import Path


def main() -> None:
    stacks = Path(os.environ["IOTDA_STACKS"]).open("a")  # noqa: SIM115 - as long as the process
    faulthandler.register(signal.SIGUSR1, file=stacks, all_threads=True)
    if "triggerer" in sys.argv and os.environ.get("IOTDA_MUTATION") == "late-stop":
        delay_stops()
    from airflow.__main__ import main as airflow

    sys.argv[0] = "airflow"
    airflow()


def part_name() -> str:
    """What Airflow takes for its host's name, so that its records tell the parts apart."""
    return os.environ["IOTDA_PART"].replace(" ", "-")


def delay_stops(seconds: float = 30.0) -> None:
    """A fault that the tests have to find: a stop that is sent long after it was decided."""
    import asyncio

    from iotda_provider.hooks.iotda_async import IoTDAAsyncHook

    at_once = IoTDAAsyncHook.stop_batch_task

    async def late(self: IoTDAAsyncHook, *args: object, **kwargs: object) -> object:
        await asyncio.sleep(seconds)
        return await at_once(self, *args, **kwargs)  # type: ignore[arg-type]

    IoTDAAsyncHook.stop_batch_task = late  # type: ignore[assignment, method-assign]


if __name__ == "__main__":
    main()
