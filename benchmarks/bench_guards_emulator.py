"""How often a guard stops healthy and faulty fleets, over the emulator, with its reporting delays.

    python benchmarks/bench_guards_emulator.py [--fleets 1000] [--poll 30]
    python benchmarks/bench_guards_emulator.py --reporting [--fleets 300] [--rows 1,4]

Fleets of 1,000 devices; a failure is reported after 10 minutes, a success after 120 minutes on
average (exponentially). Devices arrive in three ways: all at once; staggered over two hours; at
once, with a quarter of the devices stopped by hand after half an hour. Each fleet has its own fixed
seed. The guard is that of sensor and trigger (``rollout_guard.Watch``) and really stops; it looks
at the emulator's world without HTTP, to save time. AWS's rule is judged on the same fleets, without
a stop.

With ``--reporting``, the guard's rule knows how late failures report: rows of the table that
``bench_guard_harm.py --reporting`` prints, with 2,000 devices over six hours. Beside it is a guard
with the percentage rule that is best there. A device is harmed if it has started before the stop
and its attempt fails. The goals: at most 1 % false stops, and at most 1.1 times as many harmed
devices within two standard errors.
"""

from __future__ import annotations

import argparse
import logging
import math
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bench_guard_harm import DELAYS, SIGMA, Delay

from iotda_provider.emulator.common.clock import to_micro
from iotda_provider.emulator.common.errors import ApiError
from iotda_provider.emulator.scenario.scenario import Scenario
from iotda_provider.emulator.service import status_rules
from iotda_provider.emulator.service.batch_task import BREAK
from iotda_provider.emulator.service.world import World
from iotda_provider.exceptions import IoTDAApiError, IoTDAError
from iotda_provider.guards import MaxFailureRate, Rule, SequentialFailureTest
from iotda_provider.models import BatchTask
from iotda_provider.rollout_guard import Alert, GuardPlan, Memory, Outcome, Watch
from iotda_provider.transport.runner import run_blocking

DEVICES = 1000
HEALTHY, FAULTY = 0.02, 0.10
RULE = SequentialFailureTest(tolerated_rate=0.02, false_alarm=0.01)
AWS = MaxFailureRate(0.05, min_sample=100, denominator="finished")
TASK = "0123456789abcdef01234567"
START = 1_790_000_000.0
ARRIVALS = ("at once", "staggered", "stopped by hand")


def scenario(rate: float, arrival: str) -> Scenario:
    """A fleet, as in a scenario file."""
    data: dict[str, Any] = {
        "devices": DEVICES,
        "failure_rate": rate,
        "failure_after": {"distribution": "exponential", "mean": 600},
        "success_after": {"distribution": "exponential", "mean": 7200},
        "batch_tasks": [{"task_id": TASK, "task_name": "rollout", "targets": "all"}],
    }
    if arrival == "staggered":
        data["dispatch_rate"] = DEVICES / 7200
    return Scenario.read(data)


@dataclass
class Run:
    """One emulated fleet and its virtual time; the I/O object of its guards."""

    world: World
    by_hand: float | None
    now: float = 0.0
    harmed: int | None = None

    @classmethod
    def of(cls, rate: float, arrival: str, seed: int) -> Run:
        """A rollout that has just begun."""
        world = World(scenario(rate, arrival), seed, START)
        return cls(world, 1800.0 if arrival == "stopped by hand" else None)

    def clock(self) -> float:
        """The guards' clock."""
        return START + self.now

    def looks(self, poll: float) -> Iterator[None]:
        """Every look at which the counts differ from the look before, up to the rollout's end.

        A look at the same counts can only say the same again.
        """
        task, before = self.world.task(TASK), None
        while True:
            if self.by_hand is not None and self.now >= self.by_hand:
                self.by_hand = None
                self._stop_by_hand()
            self.world.advance(to_micro(self.now))
            seen = (task.status, task.progress())
            if seen != before:
                before = seen
                yield
            if task.status.is_terminal:
                return
            self.now += poll

    def _stop_by_hand(self) -> None:
        targets = [f"device-{number:05}" for number in range(0, DEVICES, 4)]
        for start in range(0, len(targets), 100):
            self.world.act("stop", TASK, targets[start : start + 100])

    def show(self) -> BatchTask:
        """The task as the API would show it."""
        return BatchTask.from_wire(self.world.describe(self.world.task(TASK)))

    async def read_tasks(self, batch_task_ids: Sequence[str]) -> list[BatchTask | IoTDAError]:
        """The only task there is."""
        return [self.show()]

    async def read_failed(self, batch_task_id: str, tally: Any) -> None:
        """No rule here asks for the failed devices."""

    async def read_retrying(self, batch_task_id: str, add: Any, most: int) -> None:
        """No rule here asks for the devices that wait for a retry."""

    async def stop_task(self, batch_task_id: str) -> None:
        """Stop the rollout."""
        if self.harmed is None:
            self.harmed = self.failing()
        try:
            self.world.act("stop", TASK)
        except ApiError as refused:
            raise IoTDAApiError(refused.status, None, str(refused)) from refused

    def failing(self) -> int:
        """The started devices whose attempt has failed or will fail."""
        task = self.world.task(TASK)
        return sum(
            status == status_rules.FAIL or (status == status_rules.PROCESSING and step == BREAK)
            for status, step in zip(task.statuses, task.steps, strict=True)
        )

    async def rehearse_stop(self, batch_task_id: str) -> None:
        """It would be allowed."""

    async def save(self, memory: Mapping[str, Any], *, routine: bool = False) -> bool:
        """Nothing is restarted here."""
        return True

    async def tell(self, alert: Alert) -> None:
        """Nobody reads it."""


def guard(run: Run, poll: float, rule: Rule = RULE) -> tuple[Outcome, float | None]:
    """A guard watches a fleet to its end; returns the outcome, and when it decided to stop."""
    plan = GuardPlan(batch_task_ids=(TASK,), rules=(rule,), stop_on_breach=True)
    memory = Memory.from_json(None, plan.batch_task_ids, 10)
    watch = Watch(plan, memory, logging.getLogger("guard"), clock=run.clock)
    decided: float | None = None
    outcome: Outcome | None = None
    for _ in run.looks(poll):
        outcome = outcome or run_blocking(watch.poll(run))
        if decided is None and memory.intent is not None:
            decided = run.now
    assert outcome is not None
    return outcome, decided


def breaks(run: Run, poll: float, rule: Rule) -> bool:
    """Whether a rule that stops nothing would break at any look."""
    return any(rule.check(run.show().progress).breached for _ in run.looks(poll))


@dataclass(frozen=True)
class Row:
    """The results of the fleets of one kind."""

    rate: float
    arrival: str
    fleets: int
    stopped: int
    aws: int
    median_minutes: float | None
    mean_started: float


def measure(
    rate: float,
    arrival: str,
    fleets: int,
    poll: float,
    show: Callable[[int], None] = lambda done: None,
    *,
    with_aws: bool = True,
) -> Row:
    """Guard some fleets of one kind, each with its own seed."""
    times: list[float] = []
    started: list[int] = []
    aws = 0
    for seed in range(fleets):
        outcome, decided = guard(Run.of(rate, arrival, seed), poll)
        if decided is not None:
            times.append(decided)
            assert outcome.verdict == "breached", outcome
        started.append(outcome.evidence.get("devices", DEVICES))
        if with_aws:
            aws += breaks(Run.of(rate, arrival, seed), poll, AWS)
        show(seed + 1)
    median = sorted(times)[len(times) // 2] / 60 if times else None
    return Row(rate, arrival, fleets, len(times), aws, median, sum(started) / fleets)


# --- the test that knows how late failures report ------------------------------------------------

#: The percentage rules that are best for each delay, by ``bench_guard_harm.py --reporting``.
BEST = {
    1: MaxFailureRate(0.055, 70),
    2: MaxFailureRate(0.03, 100),
    3: MaxFailureRate(0.05, 10),
    4: MaxFailureRate(0.03, 10),
}


def delayed(delay: Delay, rate: float, seed: int) -> Run:
    """2,000 devices that start over six hours and fail with this delay."""
    spread: dict[str, Any] = {"distribution": "exponential", "mean": delay.median_or_mean}
    if delay.spread == "lognormal":
        spread = {"distribution": "lognormal", "median": delay.median_or_mean, "sigma": SIGMA}
    data: dict[str, Any] = {
        "devices": 2000,
        "failure_rate": rate,
        "failure_after": spread,
        "success_after": 60,
        "dispatch_rate": 2000 / (6 * 3600),
        "batch_tasks": [{"task_id": TASK, "task_name": "rollout", "targets": "all"}],
    }
    return Run(World(Scenario.read(data), seed, START), None)


def reporting_row(number: int, fleets: int, poll: float) -> bool:
    """Print one row; whether it reaches the goals."""
    delay = DELAYS[number - 1]
    rule = SequentialFailureTest(0.02, reporting=delay.known(1.0, 0.0))
    false, harmed = 0, {rule: [], BEST[number]: []}
    for seed in range(fleets):
        false += guard(delayed(delay, HEALTHY, seed), poll, rule)[1] is not None
        for one, found in harmed.items():
            bad = delayed(delay, FAULTY, seed)
            guard(bad, poll, one)
            found.append(bad.failing() if bad.harmed is None else bad.harmed)
        if sys.stderr.isatty():
            print(f"  {delay.name}: {seed + 1}\r", end="", file=sys.stderr)
    ours, best = harmed.values()
    ratio = sum(ours) / sum(best)
    spread = statistics.stdev(a - ratio * b for a, b in zip(ours, best, strict=True))
    error = spread / math.sqrt(fleets) / statistics.mean(best)
    reached = false <= 0.01 * fleets and ratio <= 1.1 + 2 * error
    print(
        f"{delay.name:25}  {false / fleets:11.2%}  {statistics.mean(ours):6.1f}  "
        f"{statistics.mean(best):16.1f}  {ratio:.2f}±{error:.2f}  "
        f"{'reached' if reached else 'MISSED'}",
        flush=True,
    )
    return reached


def main() -> int:
    options = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    options.add_argument("--fleets", type=int, help="of each kind (1000; with --reporting 300)")
    options.add_argument("--reporting", action="store_true", help="a rule that knows the delay")
    options.add_argument("--rows", default="1,4", help="with --reporting: which delays")
    options.add_argument("--poll", type=float, default=30.0, help="seconds between two looks")
    chosen = options.parse_args()
    logging.getLogger("guard").setLevel(logging.CRITICAL)
    if chosen.reporting:
        fleets = chosen.fleets or 300
        print(f"{fleets} fleets of 2,000 devices, a look every {chosen.poll:g} s\n")
        print("delay                      false stops  harmed  percentage rule  ratio      goals")
        rows = [int(number) for number in chosen.rows.split(",")]
        reached = [reporting_row(number, fleets, chosen.poll) for number in rows]
        return 0 if all(reached) else 1
    chosen.fleets = chosen.fleets or 1000
    print(
        f"{chosen.fleets} fleets of {DEVICES} devices of each kind, a look every "
        f"{chosen.poll:g} s; SequentialFailureTest(0.02, false_alarm=0.01)\n"
        "beside AWS's rule, 5 % of the finished ones from 100 on, on the same fleets\n"
    )
    print("true rate  arrival          stopped  of them after  devices started  AWS's stops")
    began, good = time.monotonic(), True
    for rate in (HEALTHY, FAULTY):
        for arrival in ARRIVALS:
            show = _progress(rate, arrival) if sys.stderr.isatty() else lambda done: None
            row = measure(rate, arrival, chosen.fleets, chosen.poll, show)
            after = "-" if row.median_minutes is None else f"{row.median_minutes:.1f} min"
            print(
                f"{rate:9.0%}  {arrival:15}  {row.stopped / row.fleets:7.1%}  {after:>13}  "
                f"{row.mean_started:15.0f}  {row.aws / row.fleets:11.1%}",
                flush=True,
            )
            share = row.stopped / row.fleets
            good &= share <= 0.01 if rate == HEALTHY else share >= 0.99
    print(f"\n{time.monotonic() - began:.0f} s")
    return 0 if good else 1


def _progress(rate: float, arrival: str) -> Callable[[int], None]:
    def show(done: int) -> None:
        print(f"  {rate:.0%} {arrival}: {done}\r", end="", file=sys.stderr)

    return show


if __name__ == "__main__":
    sys.exit(main())
