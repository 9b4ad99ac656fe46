"""Nothing of a harness is left where the harness itself was killed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import psutil  # type: ignore[import-untyped,unused-ignore]
from tests.distributed.keeper import ROOT

HARNESS = """
import pathlib, subprocess, sys, time
from tests.distributed.keeper import Keeper
from tests.distributed.services import Broker

with Keeper():
    sleep = "import subprocess, sys, time; {}time.sleep(600)"
    child = "subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)']); "
    process = subprocess.Popen([sys.executable, "-c", sleep.format(child)], start_new_session=True)
    while not (children := psutil.Process(process.pid).children()):
        time.sleep(0.05)
    broker = Broker(pathlib.Path(sys.argv[1]))
    broker.start()
    print(process.pid, children[0].pid, broker._process.pid, flush=True)
    time.sleep(600)
"""


def test_what_a_killed_harness_has_started_ends_with_it(tmp_path: Path) -> None:
    harness = subprocess.Popen(
        [sys.executable, "-c", "import psutil\n" + HARNESS, str(tmp_path)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert harness.stdout is not None
    started = [psutil.Process(int(pid)) for pid in harness.stdout.readline().split()]
    assert len(started) == 3

    harness.kill()
    harness.communicate()

    _, left = psutil.wait_procs(started, timeout=120)
    for process in left:
        process.kill()
    assert not left
