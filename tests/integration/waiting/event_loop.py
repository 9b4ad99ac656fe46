"""Starts fifty triggers of each class at once, each class in a process where nothing of ours is
loaded; prints the largest gap that the event loop has seen in each, in seconds, as JSON.

Imports of what the triggers work with take as many seconds more as the first argument says.
"""

from __future__ import annotations

import asyncio
import importlib.abc
import json
import os
import sys
import time
from datetime import timedelta
from importlib import import_module
from importlib.machinery import PathFinder
from typing import Any

import airflow.triggers.base  # noqa: F401 - what a triggerer has loaded

SLOW = (
    "iotda_provider.hooks.iotda_async",
    "huaweicloudsdkcore.signer.signer",
    "iotda_provider.guarding.watch",
    "iotda_provider.release.confirm_wave",
    "scipy.special",
)
OURS = "iotda_provider.triggers."


class Slowly(importlib.abc.MetaPathFinder):
    """Python's own finder, but a module of ``SLOW`` waits after its import has begun."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        spec = PathFinder.find_spec(name, path, target) if name in SLOW else None
        if spec is None or spec.loader is None:
            return None
        execute = spec.loader.exec_module

        def slowly(module: Any) -> None:
            time.sleep(self.seconds)
            execute(module)

        spec.loader.exec_module = slowly  # type: ignore[method-assign]
        return spec


async def largest_gap(path: str, arguments: dict[str, Any], seconds: float) -> float:
    gaps: list[float] = []

    async def tick() -> None:
        while True:
            began = time.monotonic()
            await asyncio.sleep(0.001)
            gaps.append(time.monotonic() - began)

    async def run(trigger: Any) -> None:
        async for _ in trigger.run():
            return

    ticking = asyncio.ensure_future(tick())
    module, _, name = path.rpartition(".")
    made = getattr(import_module(module), name)
    running = [asyncio.ensure_future(run(made(**arguments))) for _ in range(50)]
    await asyncio.wait(running, timeout=seconds)
    for task in (*running, ticking):
        task.cancel()
    await asyncio.gather(*running, ticking, return_exceptions=True)
    return max(gaps)


def main(delay: float, cases: dict[str, dict[str, Any]]) -> None:
    gaps = {}
    for path, arguments in cases.items():
        read, write = os.pipe()
        if not os.fork():
            sys.meta_path.insert(0, Slowly(delay))
            given = {"delta": timedelta(seconds=60)} if "Delta" in path else arguments
            gap = asyncio.run(largest_gap(path, given, len(SLOW) * delay))
            os.write(write, json.dumps(gap).encode())
            os._exit(0)
        os.close(write)
        gaps[path] = float(os.read(read, 100))  # one after the other, or they slow each other down
    print("\n" + json.dumps(gaps))


if __name__ == "__main__":
    main(float(sys.argv[1]), json.loads(sys.argv[2]))
