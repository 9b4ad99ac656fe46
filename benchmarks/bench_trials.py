"""Whole releases with a trial, through the operators, over HTTP, in virtual time.

    python benchmarks/bench_trials.py [--releases 200] [--kinds harmless bad outage sleepy]

The releases are those of ``tests/integration/release/test_trials.py``, which carries out ten of
each kind: to 2,000 devices, in waves of 400, 1,000 and the rest, with a trial that is required.
Each has a seed of its own, from 0 on, which decides all that happens in it. The goals:

- harmless, in a fleet of which 5 % are offline at any time: at most 1 % are stopped
- bad, which takes 10 % of the updated devices offline: 95 % never reach the last wave
- outage of both groups: nothing is stopped, and nothing opened
- sleepy, a fleet of which 80 % are offline at any time: nothing is stopped

A run with ``--results FILE`` writes each release there as it ends, and goes on where an earlier
run with the same file ended.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

TESTS = Path(__file__).resolve().parents[1] / "tests" / "integration" / "release" / "test_trials.py"
KINDS = {
    "harmless": "test_harmless_firmware_goes_through",
    "bad": "test_firmware_that_takes_devices_offline_never_reaches_the_last_wave",
    "outage": "test_an_outage_of_both_groups_stops_nothing_and_opens_nothing",
    "sleepy": "test_in_a_fleet_that_sleeps_nothing_is_stopped",
}
LAST_WAVE = 3
#: How each release has ended: the verdict, and the last wave that has begun.
Ended = list[tuple[str, int]]


def _stopped(ended: Ended) -> int:
    return sum(verdict == "rejected" for verdict, _ in ended)


GOALS: dict[str, Callable[[Ended], bool]] = {
    "harmless": lambda ended: _stopped(ended) <= 0.01 * len(ended),
    "bad": lambda ended: sum(wave < LAST_WAVE for _, wave in ended) >= 0.95 * len(ended),
    "outage": lambda ended: set(ended) == {("unproven", 1)},
    "sleepy": lambda ended: _stopped(ended) == 0,
}


def read(file: Path, kind: str) -> list[dict[str, Any]]:
    """The results of this kind in a file."""
    lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
    return [one["result"] for one in map(json.loads, lines) if one["kind"] == kind]


def carry_out(kind: str, releases: int, file: Path) -> list[dict[str, Any]]:
    """The results of so many releases, of which the file may have some."""
    done = len(read(file, kind))
    if done < releases:
        subprocess.run(
            [
                *(sys.executable, "-m", "pytest", "-q", "-o", "timeout=0"),
                *("-p", "no:xdist", "-p", "no:cacheprovider", f"{TESTS}::{KINDS[kind]}"),
            ],
            env={
                **os.environ,
                "IOTDA_RELEASES": str(releases - done),
                "IOTDA_FIRST_SEED": str(done),
                "IOTDA_RELEASES_TO": str(file.resolve()),
            },
            check=False,
            stdout=subprocess.DEVNULL,
        )
    return read(file, kind)


def main() -> int:
    """Print one JSON object for each kind of firmware and fleet."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--releases", type=int, default=200, help="of each kind (%(default)s)")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--results", type=Path, help="write each release here, and go on")
    options = parser.parse_args()
    good = True
    with tempfile.TemporaryDirectory() as folder:
        file = options.results or Path(folder) / "results.jsonl"
        for kind in options.kinds:
            began = time.monotonic()
            results = carry_out(kind, options.releases, file)
            ended = [(one["verdict"], one["wave"]) for one in results]
            reached = len(ended) >= options.releases and GOALS[kind](ended)
            good &= reached
            each = Counter(f"{verdict} after wave {wave}" for verdict, wave in ended)
            print(
                json.dumps(
                    {
                        "kind": kind,
                        "goal": "reached" if reached else "MISSED",
                        "releases": len(ended),
                        "ended": dict(sorted(each.items())),
                        "seconds": round(time.monotonic() - began),
                        "example": results[0]["summary"] if results else None,
                    }
                ),
                flush=True,
            )
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
