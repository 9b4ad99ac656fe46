"""What a release would do, computed before anything is created: waves, dates, exposure, calls."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any

from iotda_provider.api import MAX_PAGE, MAX_TARGETS_PER_CALL, MAX_TARGETS_PER_TASK
from iotda_provider.guards import EnoughSuccess
from iotda_provider.guards.lab import exact
from iotda_provider.guards.lab.notation import notation
from iotda_provider.guards.lab.reports import duration
from iotda_provider.guards.rule import Rule
from iotda_provider.release.gate import forecast
from iotda_provider.release.maintenance_window import MaintenanceWindow

#: The failure rates for which the exposure is computed.
RATES = (0.01, 0.02, 0.05, 0.1)
# Calls that each wave takes besides those that its devices take: its task is looked for (a page of
# each type of upgrade), created, looked for again and read.
_CALLS_TO_CREATE = 6
_MOST_WAITS = 10_000


@dataclass(frozen=True)
class Times:
    """The times of a release.

    :param start: when it would start, with a timezone
    :param bake: seconds after its last confirmation before which no wave passes
    :param between_looks: seconds between two looks of the guard
    :param window: when devices may be confirmed; None: at any time
    :param per_second: the most calls in a second; None: no limit is set
    """

    start: datetime
    bake: float
    between_looks: float
    window: MaintenanceWindow | None = None
    per_second: float | None = None


@dataclass(frozen=True)
class PlannedStep:
    """One wave of a release that has not begun.

    :param begins: the earliest moment, as ISO 8601
    :param ends: the earliest moment at which it passes
    :param can_pass: whether it could pass by its numbers, if every device succeeded
    """

    wave: int
    label: str
    devices: int
    cumulative: int
    batch_tasks: int
    begins: str
    ends: str
    can_pass: bool
    sentence: str


@dataclass(frozen=True)
class DryRun:
    """What a release would do.

    :param devices: how many devices it would be for
    :param left_out: why devices are left out, and how many
    :param late: devices that were not online lately
    :param exposed: for each rule its notation, and for each of ``RATES`` how many devices would be
        confirmed on average before it stops the release, and the chance that it ever does
    :param calls: API calls, by what they are for
    :param seconds: the shortest time from the start to the last wave's end
    :param warnings: what a person should read before the start
    """

    devices: int
    left_out: Mapping[str, int]
    late: int
    waves: Sequence[PlannedStep]
    exposed: Sequence[Mapping[str, Any]]
    calls: Mapping[str, int]
    seconds: float
    warnings: Sequence[str] = ()

    def to_json(self) -> dict[str, Any]:
        """As plain JSON."""
        return {
            **asdict(self),
            "left_out": dict(self.left_out),
            "waves": [asdict(wave) for wave in self.waves],
            "exposed": [dict(row) for row in self.exposed],
            "calls": {**self.calls, "all": sum(self.calls.values())},
            "warnings": list(self.warnings),
            "too_small": [wave.wave for wave in self.waves if not wave.can_pass],
            "summary": self.summary,
        }

    @property
    def summary(self) -> str:
        """The same in a few lines for a person."""
        out = ", ".join(f"{n:,} {why.replace('_', ' ')}" for why, n in self.left_out.items() if n)
        lines = [
            f"DRY RUN: nothing was created. {self.devices:,} device(s) in {len(self.waves)} "
            f"wave(s), {self.late:,} of them were not online lately; left out: {out or 'nobody'}.",
            *(f"{wave.sentence} Not before {wave.begins}." for wave in self.waves),
        ]
        for row in self.exposed:
            cells = ", ".join(
                f"{cell['devices']:,.0f} at {100 * cell['failure_rate']:g} % "
                f"({100 * cell['stopped']:.0f} % of them are stopped)"
                for cell in row["exposures"]
            )
            lines.append(f"With {row['rule']}, on average so many are confirmed: {cells}.")
        lines.append(
            f"At least {sum(self.calls.values()):,} API calls and {duration(self.seconds)}, if "
            "every wave passes as soon as it may."
        )
        return "\n".join([*lines, *self.warnings])


def dry_run(
    *,
    labels: Sequence[str],
    cumulative: Sequence[int],
    late: int,
    left_out: Mapping[str, int],
    rules: Sequence[Rule],
    gate: EnoughSuccess,
    times: Times,
    reads: Mapping[str, int],
    warnings: Sequence[str] = (),
) -> DryRun:
    """Compute what a release would do.

    :param labels: of each wave
    :param cumulative: the devices of each wave with those before it
    :param late: how many devices were not online lately
    :param rules: of the guard; each is evaluated at the end of each wave, as by then it has
        confirmed all of its devices
    :param reads: calls that reading takes before the first wave and after the last one, by what
        they are for
    """
    found = forecast(gate, labels, cumulative)
    waves, moment = [], times.start
    confirmations = creations = 0
    for wave in found:
        begins = _opens(times, moment)
        calls = math.ceil(wave.devices / MAX_TARGETS_PER_CALL)
        parts = math.ceil(wave.devices / MAX_TARGETS_PER_TASK)
        confirmations += calls
        creations += parts * _CALLS_TO_CREATE
        ends = _confirmed(times, begins, calls) + timedelta(seconds=times.bake)
        waves.append(
            PlannedStep(
                wave.wave,
                wave.label,
                wave.devices,
                wave.cumulative,
                parts,
                begins.isoformat(timespec="minutes"),
                ends.isoformat(timespec="minutes"),
                wave.can_pass,
                wave.sentence,
            )
        )
        moment = ends
    seconds = (moment - times.start).total_seconds()
    tasks = sum(wave.batch_tasks for wave in waves)
    looks = math.ceil(seconds / times.between_looks) * max(1, tasks)
    return DryRun(
        devices=cumulative[-1],
        left_out=left_out,
        late=late,
        waves=waves,
        exposed=exposed(rules, cumulative),
        calls={**reads, "creating": creations, "confirming": confirmations, "watching": looks},
        seconds=seconds,
        warnings=warnings,
    )


def exposed(rules: Sequence[Rule], cumulative: Sequence[int]) -> list[dict[str, Any]]:
    """How many devices are confirmed under each rule, by the true failure rate.

    It is looked at when a wave has ended: then all of its devices are confirmed.

    :param cumulative: the devices of each wave with those before it
    """
    looks = tuple(dict.fromkeys(cumulative))
    rows = []
    for rule in rules:
        cells = [exact.exposure(rule, rate, looks[-1], looks=looks) for rate in RATES]
        rows.append(
            {
                "rule": notation(rule),
                "exposures": [
                    {
                        "failure_rate": rate,
                        "devices": round(cell.mean_devices, 1),
                        "stopped": round(cell.stopped, 4),
                    }
                    for rate, cell in zip(RATES, cells, strict=True)
                ],
            }
        )
    return rows


def reads_of(in_groups: int, devices: int, asked_when_online: int) -> dict[str, int]:
    """The calls that read devices before the first wave and after the last one.

    :param in_groups: devices in the groups of the release
    :param devices: devices of the release
    :param asked_when_online: devices whose details were read, for when they were online last
    """
    pages = math.ceil(max(1, in_groups) / MAX_PAGE)
    return {
        "checking": 2 * pages + asked_when_online + 8,
        "reconciling": 2 * math.ceil(max(1, devices) / MAX_PAGE),
    }


def _opens(times: Times, moment: datetime) -> datetime:
    return moment if times.window is None else times.window.opens(moment)


def _confirmed(times: Times, begins: datetime, calls: int) -> datetime:
    """When the last of so many calls is made: only within the window, at most so many a second.

    The guard looks before each call, which takes a call, too.
    """
    left = 2 * calls / times.per_second if times.per_second else 0.0
    moment = begins
    for _ in range(_MOST_WAITS):
        if left <= 0 or times.window is None:
            break
        step = min(left, 60.0)
        if not times.window.is_open(moment):
            moment = times.window.opens(moment)
            continue
        moment += timedelta(seconds=step)
        left -= step
    return moment + timedelta(seconds=max(0.0, left))
