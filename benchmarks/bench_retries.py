"""How soon a guard stops firmware whose failures the platform's retries hide, and whom it spares.

    python benchmarks/bench_retries.py [--fleets 500] [--poll 5]

Fleets of 3,000 devices, of which ten start every minute, in a batch task with ``retry_count`` 5.

- Firmware that fails every attempt: devices that have started by the stop, for attempts of 2, 10
  and 30 minutes, retried after 60 minutes and after 1 minute. The same if half of the attempts
  fail.
- A healthy fleet: 10 % of the devices fail their first attempt and 0.5 % all six; attempts take 10
  minutes on average. How many fleets are stopped, for both intervals: at most 1 %.

The guard has the rules of the shipped DAG ``guard_one_rollout`` with the defaults of its form. For
comparison (*without*), the same firmware without the rule for failed attempts. The guard is that of
sensor and trigger (``rollout_guard.Watch``) and really stops; it looks at the emulator's world
without HTTP, to save time.
"""

from __future__ import annotations

import argparse
import importlib.util
import logging
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jinja2

from iotda_provider.emulator.common.clock import to_micro
from iotda_provider.emulator.common.errors import ApiError
from iotda_provider.emulator.scenario.scenario import Scenario
from iotda_provider.emulator.service import status_rules
from iotda_provider.emulator.service.world import World
from iotda_provider.exceptions import IoTDAApiError, IoTDAError
from iotda_provider.guards import Combined, Rule, rules_from_json
from iotda_provider.models import BatchTask, Subtask
from iotda_provider.rollout_guard import Alert, GuardPlan, Memory, Watch
from iotda_provider.transport.runner import run_blocking

DAGS = Path(__file__).resolve().parents[1] / "dags"
DEVICES, A_MINUTE, RETRIES = 3000, 10, 5
TASK = "0123456789abcdef01234567"
START = 1_790_000_000.0
#: The most devices that may have started by the stop, by interval and minutes of an attempt.
AT_MOST = {60: {2: 50, 10: 180, 30: 480}, 1: {2: 100, 10: 300, 30: 700}}
FIRST_FAILURES, FINAL_FAILURES = 0.1, 0.005


def shipped_rules() -> tuple[Rule, ...]:
    """The rules of ``guard_one_rollout``, with the defaults of its form."""
    spec: Any = importlib.util.spec_from_file_location("dag_file", DAGS / "rollout_guard.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    dag = module.guard_one_rollout()
    params = {name: dag.params.get_param(name).value for name in dag.params}
    text = jinja2.Template(dag.get_task("guard").rules).render(params=params)
    return tuple(rules_from_json(text))


def without_attempts(rules: Sequence[Rule]) -> tuple[Rule, ...]:
    """The same rules, without the one for failed attempts."""
    (combined,) = rules
    assert isinstance(combined, Combined)
    kept = [rule for rule in combined.rules if "attempts" not in rule.needs]
    return (replace(combined, rules=kept),)


def scenario(
    *,
    interval: int,
    attempt: dict[str, Any],
    failure_rate: float = 1.0,
    repeat_failure_rate: float = 1.0,
) -> Scenario:
    """A fleet, as in a scenario file.

    :param interval: minutes until a failed device is tried again
    :param attempt: the delay from the start of an attempt to its report
    """
    return Scenario.read(
        {
            "devices": DEVICES,
            "dispatch_rate": A_MINUTE / 60,
            "failure_rate": failure_rate,
            "repeat_failure_rate": repeat_failure_rate,
            "failure_after": attempt,
            "success_after": attempt,
            "batch_tasks": [
                {
                    "task_id": TASK,
                    "targets": "all",
                    "task_policy": {"retry_count": RETRIES, "retry_interval": interval},
                }
            ],
        }
    )


def faulty(interval: int, minutes: int, share: float = 1.0) -> Scenario:
    """Firmware that fails this share of the attempts."""
    delay = {"distribution": "constant", "value": 60.0 * minutes}
    return scenario(interval=interval, attempt=delay, failure_rate=share, repeat_failure_rate=share)


def healthy(interval: int = 60, minutes: int = 10) -> Scenario:
    """Firmware of which some attempts fail, and few devices."""
    return scenario(
        interval=interval,
        attempt={"distribution": "exponential", "mean": 60.0 * minutes},
        failure_rate=FIRST_FAILURES,
        repeat_failure_rate=(FINAL_FAILURES / FIRST_FAILURES) ** (1 / RETRIES),
    )


@dataclass
class Run:
    """One emulated fleet and its virtual time; the I/O object of its guard."""

    world: World
    now: float = 0.0
    pages: int = 0

    def clock(self) -> float:
        """The guard's clock."""
        return START + self.now

    async def read_tasks(self, batch_task_ids: Sequence[str]) -> list[BatchTask | IoTDAError]:
        """The only task there is."""
        return [BatchTask.from_wire(self.world.describe(self.world.task(TASK)))]

    async def read_failed(self, batch_task_id: str, tally: Any) -> None:
        """No rule here asks for the failed devices."""

    async def read_retrying(
        self, batch_task_id: str, add: Callable[[Subtask], None], most: int
    ) -> None:
        """The devices that wait for a retry, as the API lists them."""
        task, rows = self.world.task(TASK), 0
        for row in task.newest_first(len(task), status_rules.FAIL_WAIT_RETRY):
            if rows == most:
                break
            rows += 1
            add(Subtask.from_wire(self.world.describe_row(task, row)))
        self.pages += -(-rows // 50)

    async def stop_task(self, batch_task_id: str) -> None:
        """Stop the rollout."""
        try:
            self.world.act("stop", TASK)
        except ApiError as refused:
            raise IoTDAApiError(refused.status, None, str(refused)) from refused

    async def rehearse_stop(self, batch_task_id: str) -> None:
        """It would be allowed."""

    async def save(self, memory: Mapping[str, Any], *, routine: bool = False) -> bool:
        """Nothing is restarted here."""
        return True

    async def tell(self, alert: Alert) -> None:
        """Nobody reads it."""


def exposed(
    rules: tuple[Rule, ...], fleet: Scenario, *, seed: int = 0, poll: float = 5.0
) -> tuple[bool, int, Run]:
    """Guard one fleet; whether it was stopped, and the devices that had started by then."""
    run = Run(World(fleet, seed, START))
    plan = GuardPlan(
        batch_task_ids=(TASK,),
        rules=rules,
        stop_on_breach=True,
        wait_for_stop=False,
        poll_interval=poll,
    )
    memory = Memory.from_json(None, plan.batch_task_ids, 10)
    watch = Watch(plan, memory, logging.getLogger("guard"), clock=run.clock)
    while True:
        run.world.advance(to_micro(run.now))
        started = DEVICES - run.world.task(TASK).counts[status_rules.WAITING]
        outcome = run_blocking(watch.poll(run))
        if outcome is not None:
            return outcome.verdict == "breached", started, run
        run.now += poll


def main() -> int:
    options = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    options.add_argument("--fleets", type=int, default=500, help="healthy fleets")
    options.add_argument("--poll", type=float, default=5.0, help="seconds between two looks")
    chosen = options.parse_args()
    logging.getLogger("guard").setLevel(logging.CRITICAL)
    began, good, rules = time.monotonic(), True, shipped_rules()
    print(f"devices that have started by the stop, of {DEVICES}; a look every {chosen.poll:g} s\n")
    print("interval  attempt  the shipped rules  at most  calls for ids  if half fail  without")
    for interval, row in AT_MOST.items():
        for minutes, most in row.items():
            fleet = faulty(interval, minutes)
            stopped, count, run = exposed(rules, fleet, poll=chosen.poll)
            _, half, _ = exposed(rules, faulty(interval, minutes, 0.5), poll=chosen.poll)
            _, hidden, _ = exposed(without_attempts(rules), fleet, poll=60.0)
            good &= stopped and count <= most
            print(
                f"{interval:5} min {minutes:5} min {count:18} {most:8} {run.pages:14} {half:13} "
                f"{hidden:8}",
                flush=True,
            )
    for interval, poll in ((60, 120.0), (1, 60.0)):
        stops, fleets = 0, chosen.fleets
        for seed in range(fleets):
            stops += exposed(rules, healthy(interval), seed=seed, poll=poll)[0]
            if sys.stderr.isatty():
                print(f"  {seed + 1} healthy fleets, {stops} stopped\r", end="", file=sys.stderr)
        good &= stops <= 0.01 * fleets
        print(
            f"\nhealthy fleets ({FIRST_FAILURES:.0%} fail an attempt, {FINAL_FAILURES:.1%} all), "
            f"interval {interval} min: {stops} of {fleets} stopped",
            flush=True,
        )
    print(f"\n{time.monotonic() - began:.0f} s")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
