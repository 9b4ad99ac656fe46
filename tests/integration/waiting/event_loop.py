"""Starts fifty triggers at once, in a process in which nothing of ours is loaded, and tells how
long they have kept their event loop at most.

It reads cases from its input, ``{"path", "arguments"}`` on a line. Each runs in a fork of this
process, which has loaded what a triggerer has, until another line comes; then the answer is printed
on a line, in seconds, or what went wrong. The first line says that this process is ready.
"""

from __future__ import annotations

import asyncio
import json
import os
import time
from datetime import timedelta
from importlib import import_module
from typing import Any

import airflow.jobs.triggerer_job_runner  # noqa: F401 - what a triggerer has loaded
from sqlalchemy.orm import configure_mappers

configure_mappers()  # by its first question to the database, on Airflow 2

TRIGGERS = 50
requests = open(0, "rb", buffering=0)  # noqa: SIM115 - read by this process and its forks in turn
answers = os.fdopen(os.dup(1), "w")
os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # the triggers' own lines, which nobody reads


async def largest_gap(path: str, arguments: dict[str, Any]) -> float:
    """The longest time between two moments at which the loop went on, in seconds.

    Of a gap no more counts than this process has worked in it: what else the machine does is no
    fault of the triggers.
    """
    enough = asyncio.Event()
    asyncio.get_running_loop().add_reader(requests, enough.set)
    gaps: list[float] = []

    async def tick() -> None:
        while True:
            began, worked = time.monotonic(), time.process_time()
            await asyncio.sleep(0.001)
            gaps.append(min(time.monotonic() - began, time.process_time() - worked))

    async def run(trigger: Any) -> None:
        async for _ in trigger.run():
            return

    ticking = asyncio.ensure_future(tick())
    await asyncio.sleep(0.01)
    gaps.clear()
    module, _, name = path.rpartition(".")
    made = getattr(import_module(module), name)
    running = [asyncio.ensure_future(run(made(**arguments))) for _ in range(TRIGGERS)]
    await enough.wait()
    highest = max(gaps)
    for task in (ticking, *running):
        task.cancel()
    return highest


def in_a_fork(path: str, arguments: dict[str, Any]) -> None:
    pid = os.fork()
    if pid:
        os.waitpid(pid, 0)
        return
    if "seconds" in arguments:
        arguments = {"delta": timedelta(seconds=arguments["seconds"])}
    try:
        loop = asyncio.new_event_loop()
        answer = str(loop.run_until_complete(largest_gap(path, arguments)))
    except BaseException as error:  # noqa: BLE001 - the test shows it
        answer = repr(error)
    print(answer, file=answers, flush=True)
    os._exit(0)


if __name__ == "__main__":
    print("ready", file=answers, flush=True)
    while line := requests.readline():
        in_a_fork(**json.loads(line))
        requests.readline()  # the one that has ended it
