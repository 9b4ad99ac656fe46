"""Whole releases with a trial, through the operators, over HTTP, in virtual time.

``python benchmarks/bench_trials.py --releases 50``. The releases are those of
``tests/integration/release/test_trials.py``, which runs ten of each kind.
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
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1] / "tests" / "integration" / "release" / "test_trials.py"
KINDS = {
    "harmless": "test_harmless_firmware_goes_through",
    "bad": "test_firmware_that_takes_devices_offline_never_reaches_the_last_wave",
    "outage": "test_an_outage_of_both_groups_stops_nothing_and_opens_nothing",
    "sleepy": "test_in_a_fleet_that_sleeps_nothing_is_stopped",
}


def main() -> None:
    """Print one JSON object for each kind of firmware and fleet."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--releases", type=int, default=50, help="of each kind (%(default)s)")
    parser.add_argument("--first-seed", type=int, default=0, help="of the fleets (%(default)s)")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    options = parser.parse_args()
    for kind in options.kinds:
        with tempfile.TemporaryDirectory() as folder:
            found = Path(folder) / "results.jsonl"
            began = time.monotonic()
            subprocess.run(
                [
                    *(sys.executable, "-m", "pytest", "-q", "-o", "timeout=0"),
                    *("-p", "no:xdist", "-p", "no:cacheprovider", f"{TESTS}::{KINDS[kind]}"),
                ],
                env={
                    **os.environ,
                    "IOTDA_RELEASES": str(options.releases),
                    "IOTDA_FIRST_SEED": str(options.first_seed),
                    "IOTDA_RELEASES_TO": str(found),
                },
                check=False,
                stdout=subprocess.DEVNULL,
            )
            lines = found.read_text(encoding="utf-8").splitlines() if found.exists() else []
            results = [json.loads(line)["result"] for line in lines]
            ended = Counter(f"{one['verdict']} after wave {one['wave']}" for one in results)
            print(
                json.dumps(
                    {
                        "kind": kind,
                        "releases": len(results),
                        "ended": dict(sorted(ended.items())),
                        "seconds": round(time.monotonic() - began),
                        "example": results[0]["summary"] if results else None,
                    }
                ),
                flush=True,
            )


if __name__ == "__main__":
    main()
