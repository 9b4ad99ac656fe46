"""How many devices a bad release reaches before its waves, guard and gate end it.

Simulated fleets, no platform: ``python benchmarks/bench_release_exposure.py --seeds 200``. Waves,
calls, rules and gate are those of a real release; only the devices are simulated.
"""

from __future__ import annotations

import argparse
import heapq
import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from iotda_provider.guards import EnoughSuccess, Look, SequentialFailureTest, evaluate
from iotda_provider.models import TaskProgress
from iotda_provider.release.confirm_chunks import in_flight, next_chunk
from iotda_provider.release.gate import read_gate
from iotda_provider.release.planning import plan_waves
from iotda_provider.release.wave_specs import parse_waves

WAVES = "1%, 5%, 25%, 100%"
#: Seconds between two looks, and between two calls.
LOOK, CALL = 30.0, 1.0
#: A device fails after 5 to 15 minutes, and succeeds after 20 to 60.
FAILS, SUCCEEDS = (300.0, 900.0), (1200.0, 3600.0)


@dataclass(frozen=True)
class Exposure:
    """The result of one release.

    :param exposed: devices that were confirmed
    :param ended: ``released``, ``breached`` or ``unproven``
    :param wave: the last wave that began
    """

    exposed: int
    ended: str
    wave: int


def release(
    devices: int,
    failure_rate: float,
    *,
    seed: int,
    tolerated_rate: float = 0.02,
    gate_rate: float = 0.05,
    waves: str = WAVES,
    max_in_flight: int | None = None,
) -> Exposure:
    """Release to one simulated fleet; an unproven wave ends it, as with approval "never"."""
    chance = random.Random(f"fleet {seed}")
    planned = plan_waves((f"d{n}" for n in range(devices)), parse_waves(waves), seed=str(seed))
    rule, gate = SequentialFailureTest(tolerated_rate), EnoughSuccess(gate_rate)
    reports: list[tuple[float, bool]] = []
    now, created, exposed, success, fail = 0.0, 0, 0, 0, 0
    state: dict[str, Any] = {}

    def look() -> tuple[TaskProgress, bool]:
        nonlocal success, fail, state
        while reports and reports[0][0] <= now:
            if heapq.heappop(reports)[1]:
                success += 1
            else:
                fail += 1
        running = exposed - success - fail
        progress = TaskProgress(
            total=created,
            success=success,
            fail=fail,
            processing=running,
            waiting=created - exposed,
        )
        state, verdict = evaluate(rule, state, Look(time=now, progress=progress))
        return progress, verdict.breached

    for wave, members in enumerate(planned.waves, start=1):
        created += len(members)
        queue: Sequence[str] = members
        while queue:
            progress, breached = look()
            if breached:
                return Exposure(exposed, "breached", wave)
            chunk = next_chunk(queue, in_flight(progress, 0), max_in_flight)
            now += CALL if chunk else LOOK
            exposed += len(chunk)
            queue = queue[len(chunk) :]
            for _ in chunk:
                fails = chance.random() < failure_rate
                delay = chance.uniform(*(FAILS if fails else SUCCEEDS))
                heapq.heappush(reports, (now + delay, not fails))
        while True:
            progress, breached = look()
            if breached:
                return Exposure(exposed, "breached", wave)
            reading = read_gate(gate, progress, members=exposed)
            if reading.passes:
                break
            if not reports:
                return Exposure(exposed, "unproven", wave)
            now += LOOK
    return Exposure(exposed, "released", len(planned))


def main() -> None:
    """Print one JSON object for each failure rate."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=200)
    parser.add_argument("--devices", type=int, default=10_000)
    parser.add_argument("--rates", type=float, nargs="+", default=[0.0, 0.005, 0.02, 0.05, 0.1])
    parser.add_argument("--gate-rate", type=float, default=0.05)
    options = parser.parse_args()
    for rate in options.rates:
        found = [
            release(options.devices, rate, seed=seed, gate_rate=options.gate_rate)
            for seed in range(options.seeds)
        ]
        shares = [one.exposed / options.devices for one in found]
        words = [one.ended for one in found]
        print(
            json.dumps(
                {
                    "failure_rate": rate,
                    "devices": options.devices,
                    "seeds": options.seeds,
                    "waves": WAVES,
                    "mean_exposed_share": round(sum(shares) / len(shares), 5),
                    "worst_exposed_share": max(shares),
                    **{word: words.count(word) for word in ("released", "breached", "unproven")},
                }
            )
        )


if __name__ == "__main__":
    main()
