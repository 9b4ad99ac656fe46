"""What rules do when the devices of one site fail together.

    python benchmarks/bench_correlated.py [--fleets 1000] [--seed 1]

2,000 devices in sites of 50 start in random order, and the guard looks after every 50 outcomes.
Four rules watch the same fleets, without a stop: ``SequentialFailureTest(0.02)``; the same with
``leave_worst_out``; the same for a design effect d = 1 + (50 - 1)·rho, that is with s/d failures of
n/d devices; and a ``DeviceTrial`` (metric online, three gates), which compares the 100, 500 and
1,000 devices of the waves so far with 1,000 of the later ones, while a site's failure takes its
devices offline in both groups. Kinds of fleets:

- independent: each device fails with the same chance, or by the firmware with 10 % besides
- outage: one site fails as a whole after some device, drawn at random
- correlated: each site has a failure rate of its own, with an intra-class correlation rho of 0.05
  (a beta distribution)
"""

from __future__ import annotations

import argparse
import math
import time
from dataclasses import dataclass
from typing import Any

import numpy as np

from iotda_provider.guards import Observed, SequentialFailureTest
from iotda_provider.guards.lab.reports import table
from iotda_provider.models import TaskProgress
from iotda_provider.trials import DeviceTrial, Group

DEVICES, SITE, LOOK = 2000, 50, 50
SITES = DEVICES // SITE
RHO = 0.05
DESIGN_EFFECT = 1 + (SITE - 1) * RHO
GATES = (100, 500, 1000)
TEST = SequentialFailureTest(0.02)
LEAVING = SequentialFailureTest(0.02, leave_worst_out=True)
TRIAL = DeviceTrial()
RULES = ("test", "leave_worst_out", "design effect", "trial")


@dataclass(frozen=True)
class Kind:
    """How fleets of one kind fail.

    :param rate: the share of devices that fail with any firmware
    :param firmware: the share of the updated devices that fail by the firmware besides
    :param rho: the intra-class correlation within sites of the failures by the firmware, or of all
        if the firmware is harmless
    :param outage: whether one site fails as a whole
    """

    name: str
    rate: float
    firmware: float = 0.0
    rho: float = 0.0
    outage: bool = False


KINDS = (
    Kind("independent, 2 %", 0.02),
    Kind("independent, 1 %, and one site fails", 0.01, outage=True),
    Kind("correlated, 2 % on average", 0.02, rho=RHO),
    Kind("1 %, and 10 % by the firmware", 0.01, firmware=0.1),
    Kind("1 %, and 10 % by the firmware, correlated", 0.01, firmware=0.1, rho=RHO),
    Kind("the first of these, and one site fails", 0.01, firmware=0.1, outage=True),
)


@dataclass
class Course:
    """One rollout: the devices in the order of their starts.

    :param site: the site of each
    :param anyhow: whether it fails with any firmware, without the outage
    :param by_firmware: whether it fails by the firmware
    :param dark: the site that fails as a whole; -1: none
    :param begun: the device at which it fails: those before it had finished
    """

    site: Any
    anyhow: Any
    by_firmware: Any
    dark: int
    begun: int

    @classmethod
    def of(cls, kind: Kind, random: Any) -> Course:
        """Draw one."""
        site = random.permutation(np.arange(DEVICES) // SITE)
        correlated, plain = (kind.firmware, kind.rate) if kind.firmware else (kind.rate, 0.0)
        by_site = np.full(SITES, correlated)
        if kind.rho:
            size = 1 / kind.rho - 1
            by_site = random.beta(correlated * size, (1 - correlated) * size, SITES)
        drawn = random.random(DEVICES) < by_site[site]
        others = random.random(DEVICES) < plain
        dark = int(random.integers(SITES)) if kind.outage else -1
        begun = int(random.integers(0, DEVICES // 2))
        if kind.firmware:
            return cls(site, others, drawn, dark, begun)
        return cls(site, drawn, others, dark, begun)

    @property
    def fails(self) -> Any:
        """Whether the update of each device fails."""
        late = np.arange(DEVICES) >= self.begun
        return self.anyhow | self.by_firmware | (late & (self.site == self.dark))

    def offline(self, started: int) -> Any:
        """Whether each device is offline when so many have been updated."""
        updated = np.arange(DEVICES) < started
        dark = (self.site == self.dark) & (started > self.begun)
        return self.anyhow | dark | (updated & self.by_firmware)


def stops(course: Course) -> list[int | None]:
    """For each rule how many devices had started when it would have stopped; None: never."""
    site, fails = course.site, course.fails
    found: list[int | None] = [None] * len(RULES)
    for started in range(LOOK, DEVICES + 1, LOOK):
        failed = int(fails[:started].sum())
        progress = TaskProgress(
            total=DEVICES, fail=failed, success=started - failed, waiting=DEVICES - started
        )
        failed_in = np.bincount(site[:started][fails[:started]], minlength=SITES)
        # A guard reads in which site devices have failed, and not how many have started there.
        clusters = {str(number): (int(count), 0) for number, count in enumerate(failed_in)}
        fewer = math.floor(failed / DESIGN_EFFECT), math.ceil(started / DESIGN_EFFECT)
        broken = (
            TEST.check(progress).breached,
            failed > 0 and LEAVING.check(progress, observed=Observed(clusters=clusters)).breached,
            TEST.breaks(*fewer),
        )
        for number, breaks in enumerate(broken):
            if breaks and found[number] is None:
                found[number] = started
    found[3] = _trial(course)
    return found


def _trial(course: Course) -> int | None:
    """The gate at which the trial would have stopped, in devices; each gate is looked at once."""
    for gate in GATES:
        offline = course.offline(gate)
        treated, control = int(offline[:gate].sum()), offline[gate : gate + 1000]
        answer = TRIAL.judge(
            Group(treated, gate - treated, 0),
            Group(int(control.sum()), int((~control).sum()), 0),
            gates=len(GATES),
        )
        if answer.worse:
            return gate
    return None


def main() -> None:
    """Print one line for each kind of fleet."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--fleets", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    began = time.monotonic()
    print(f"{options.fleets} fleets of {DEVICES}, sites of {SITE}, d = {DESIGN_EFFECT:g}\n")
    lines = []
    for kind in KINDS:
        streams = np.random.SeedSequence(options.seed).spawn(options.fleets)
        rows = [stops(Course.of(kind, np.random.default_rng(stream))) for stream in streams]
        cells = []
        for number in range(len(RULES)):
            stopped = [row[number] for row in rows if row[number] is not None]
            mean = np.mean([DEVICES if row[number] is None else row[number] for row in rows])
            cells.append(f"{len(stopped) / len(rows):.1%} ({mean:,.0f})")
        lines.append((kind.name, *cells))
    print(table(("stopped (mean devices started)", *RULES), lines))
    print(f"\n{time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    main()
