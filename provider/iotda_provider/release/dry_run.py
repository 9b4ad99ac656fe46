"""What a release would do, computed before anything is created: waves, dates, exposure, calls."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from iotda_provider.api import MAX_TARGETS_PER_CALL, MAX_TARGETS_PER_TASK
from iotda_provider.guards import Combined, EnoughSuccess
from iotda_provider.guards.lab import exact
from iotda_provider.guards.lab.notation import notation
from iotda_provider.guards.lab.reports import duration
from iotda_provider.guards.reach import powerless_warning
from iotda_provider.guards.rule import Rule
from iotda_provider.release.expected_calls import WaveSize, expected_calls
from iotda_provider.release.gate import forecast
from iotda_provider.release.maintenance_window import MaintenanceWindow
from iotda_provider.release.outline import Outline
from iotda_provider.release.planning import late_warning
from iotda_provider.release.trial_job import waves_too_small
from iotda_provider.trials import DeviceTrial

#: The failure rates for which the exposure is computed.
RATES = (0.01, 0.02, 0.05, 0.1)
#: The row of all rules at once.
TOGETHER = "All rules together"
_MOST_WAITS = 10_000


@dataclass(frozen=True)
class Times:
    """The times of a release.

    :param start: when it would start, with a timezone
    :param bake: seconds that a wave waits after its last confirmation before it may pass
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
    :param exposed: for each rule, and for all rules together: its notation, and for each failure
        rate of ``RATES`` how many devices are confirmed on average before it stops the release, and
        the chance that it stops it
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
            "calls": {**self.calls, "all": sum(self.calls.values())},
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
            lines.append(f"With {row['rule']}, so many devices are confirmed on average: {cells}.")
        lines.append(
            f"At least {sum(self.calls.values()):,} API calls and {duration(self.seconds)}, if "
            "every wave passes as soon as it may."
        )
        return "\n".join([*lines, *self.warnings])


def dry_run(
    outline: Outline,
    *,
    left_out: Mapping[str, int],
    rules: Sequence[Rule],
    gate: EnoughSuccess,
    times: Times,
    trial: DeviceTrial | None = None,
) -> DryRun:
    """Compute what a release would do.

    :param left_out: why devices are left out, and how many
    :param rules: of the guard; each is evaluated at the end of each wave, when all devices of the
        wave are confirmed
    :param trial: compares the devices of each wave with those of later ones; None: there is none.
        How many of them can be compared is known only when the release is planned: all, at most
    """
    found = forecast(gate, outline.labels, outline.cumulative)
    looks = math.ceil(times.bake / times.between_looks) + 1
    waves, sizes, moment, tasks = [], [], times.start, 0
    too_small = waves_too_small(trial, outline.cumulative[: len(found) - outline.late_waves])
    warnings = [*too_small.values()]
    for wave in found:
        begins = _opens(times, moment)
        parts = math.ceil(wave.devices / MAX_TARGETS_PER_TASK)
        tasks += parts
        # The guard looks at each batch task before each confirmation.
        calls = math.ceil(wave.devices / MAX_TARGETS_PER_CALL) * (1 + tasks)
        ends = _confirmed(times, begins, calls) + timedelta(seconds=times.bake)
        sizes.append(
            WaveSize(wave.devices, parts, looks, wave.wave > len(found) - outline.late_waves)
        )
        waves.append(
            PlannedStep(
                wave.wave,
                wave.label,
                wave.devices,
                wave.cumulative,
                parts,
                begins.isoformat(timespec="minutes"),
                ends.isoformat(timespec="minutes"),
                wave.can_pass and wave.wave not in too_small,
                wave.sentence,
            )
        )
        moment = ends
    if late := late_warning([wave.devices for wave in found], outline.late_waves):
        warnings.append(late)
    if powerless := powerless_warning(rules, outline.cumulative[-1]):
        warnings.append(powerless)
    return DryRun(
        devices=outline.cumulative[-1],
        left_out=left_out,
        late=outline.late,
        waves=waves,
        exposed=exposed(rules, outline.cumulative),
        calls=expected_calls(outline, sizes, 0 if trial is None else trial.control_size),
        seconds=(moment - times.start).total_seconds(),
        warnings=warnings,
    )


def exposed(rules: Sequence[Rule], cumulative: Sequence[int]) -> list[dict[str, Any]]:
    """How many devices are confirmed under each rule, by the true failure rate.

    The rules are evaluated at the end of each wave, when all of its devices are confirmed. A rule
    in a ``Combined`` has a row for what it does alone, with its share of the common false-alarm
    bound. If there are several rules, the last row is for all of them together.

    :param cumulative: the devices of each wave with those before it
    """
    looks = tuple(dict.fromkeys(cumulative))

    def fewest(rule: Rule) -> Sequence[int | None]:
        return exact.critical_failures(rule, looks, looks[-1])

    alone = [part for rule in rules for part in _parts(rule)]
    rows = [_row(name, fewest(rule), looks) for name, rule in alone]
    if len(rows) > 1:
        at_looks = zip(*map(fewest, rules), strict=True)
        first = [min((n for n in at if n is not None), default=None) for at in at_looks]
        rows.append(_row(TOGETHER, first, looks))
    return rows


def _parts(rule: Rule) -> list[tuple[str, Rule]]:
    """A rule, or those that it combines, each with what it is called."""
    if not isinstance(rule, Combined):
        return [(notation(rule), rule)]
    found: list[tuple[str, Rule]] = []
    for part, share in zip(rule.rules, rule.shares, strict=True):
        bound = share * float(rule.false_alarm or 0)
        shown = replace(part, false_alarm=float(f"{bound:.3g}"))  # type: ignore[type-var]
        found.append((notation(shown), replace(part, false_alarm=bound)))  # type: ignore[type-var]
    return found


def _row(rule: str, critical: Sequence[int | None], looks: Sequence[int]) -> dict[str, Any]:
    """One rule's exposure at each failure rate.

    :param critical: the number of failures at which it stops, at each look
    """
    cells = [exact.exposure_of(critical, looks, rate, looks[-1]) for rate in RATES]
    return {
        "rule": rule,
        "exposures": [
            {
                "failure_rate": rate,
                "devices": round(cell.mean_devices, 1),
                "stopped": round(cell.stopped, 4),
            }
            for rate, cell in zip(RATES, cells, strict=True)
        ],
    }


def _opens(times: Times, moment: datetime) -> datetime:
    return moment if times.window is None else times.window.opens(moment)


def _confirmed(times: Times, begins: datetime, calls: int) -> datetime:
    """When the last call is made, if calls are made only in the window and at the allowed rate."""
    left = calls / times.per_second if times.per_second else 0.0
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
