"""``iotda-guard fit``: learns from recorded rollouts how late failures report."""

from __future__ import annotations

import argparse
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from iotda_provider.guards.evaluation import GuardState
from iotda_provider.guards.lab.given_files import text_in
from iotda_provider.guards.lab.recorded_looks import Audit, looks_of, read_audit
from iotda_provider.guards.lab.reports import duration, table
from iotda_provider.guards.learned_delay import LEAST_DELAYS, band, by_release
from iotda_provider.guards.look import Look
from iotda_provider.guards.reporting_delay import ReportingDelay
from iotda_provider.models import checks

#: Steps of the picture from counts alone. More of them fit noise.
_EM_STEPS, _EM_BINS = 50, 200


@dataclass(frozen=True)
class Recorded:
    """What one file teaches.

    :param name: the file
    :param failures: the failures of the rollout
    :param delays: the shortest delays that the looks allow, in seconds, of all or of a sample
    :param verdict: how the guard's watch ended; ``?``: the file does not say
    :param retries: the retries of its batch tasks; None: not known
    :param looks: the looks that judged the rollout
    """

    name: str
    failures: int
    delays: tuple[float, ...]
    verdict: str
    retries: tuple[int, int] | None
    looks: tuple[Look, ...]

    @classmethod
    def of(cls, name: str, audit: Audit) -> Recorded:
        """Read the delays that the guard has recorded, or those that the file's looks allow.

        :raises ValueError: they make no sense
        """
        looks = tuple(
            look
            for look in looks_of(audit.records)
            if look.can_be_judged and not look.being_stopped
        )
        header = audit.header
        retries = header.get("retries")
        verdict = header.get("verdict")
        return cls(
            name=name,
            verdict=verdict if isinstance(verdict, str) else "?",
            retries=None if retries is None else checks.pair("retries", retries),
            looks=looks,
            **_delays(header.get("delays"), looks),
        )


def _delays(recorded: Any, looks: Sequence[Look]) -> dict[str, Any]:
    if recorded is None:  # an earlier version has recorded none
        state = GuardState()
        for look in looks:
            state = state.after(look, ())
        delays = state.delays
        return {"failures": delays.failures, "delays": tuple(map(float, delays.shortest))}
    if not isinstance(recorded, dict):
        checks.refuse("delays", "an object", recorded)
    found = by_release(recorded.get("seconds"))
    return {
        "failures": checks.whole("delays.failures", recorded.get("failures")),
        "delays": tuple(found[0]) if found else (),
    }


@dataclass(frozen=True)
class Fit:
    """The delay that some rollouts teach.

    :param rollouts: what each file teaches
    :param floor: the least margin
    """

    rollouts: tuple[Recorded, ...]
    floor: float = 0.1

    def __post_init__(self) -> None:
        if len({one.retries for one in self.rollouts if one.delays}) > 1:
            each = ", ".join(f"{one.name}: {one.retries}" for one in self.rollouts)
            raise ValueError(
                f"the rollouts had different retries (count, minutes between): {each}. How late "
                "failures report depends on them: fit each kind by itself"
            )

    @property
    def delays(self) -> list[tuple[float, ...]]:
        """The delays of each rollout that has some."""
        return [one.delays for one in self.rollouts if one.delays]

    @property
    def learned(self) -> ReportingDelay:
        """The learned delay.

        :raises ValueError: there are too few delays
        """
        count = sum(map(len, self.delays))
        if count < LEAST_DELAYS:
            raise ValueError(
                f"{count} delays in {len(self.rollouts)} files; at least {LEAST_DELAYS} are needed"
            )
        retries = next((one.retries for one in self.rollouts if one.delays), None)
        return ReportingDelay.learned(self.delays, floor=self.floor, retries=retries)

    def to_text(self) -> str:
        """A table, what to know of it, and what to paste into the DAG."""
        learned, count = self.learned, sum(map(len, self.delays))
        head = ("rollout", "failures", "delays", "unknown", "median", "90 %", "longest", "verdict")
        rows = [_row(one) for one in self.rollouts]
        margin, releases = band(count), len(self.delays)
        notes = [
            f"Margin: {max(margin, self.floor):.3g}, the larger one of the 95 % band of {count} "
            f"delays ({margin:.3f}) and the floor ({self.floor:g}).",
            f"At each age the largest share of any rollout counts. The next rollout is faster than "
            f"all {releases} with a chance of 1 in {releases + 1}.",
        ]
        if any(one.verdict in ("breached", "stopped_elsewhere", "lost") for one in self.rollouts):
            notes.append(
                "A rollout that was stopped shows only the delays that ended before the stop. They "
                "make the curve too fast, which is safe and costs time: prefer rollouts that ran "
                "to their end."
            )
        unknown = sum(delay == 0 for release in self.delays for delay in release)
        if 2 * unknown >= count:
            notes.append(
                f"{unknown} of {count} delays count as 0: devices were starting while these "
                "failures came, so that the counts do not say how late they were. The curve is of "
                "little use: learn from rollouts whose devices start together, such as waves."
            )
        if learned.retries is None:
            notes.append("The files do not say which retries the batch tasks had.")
        unbroken = f"reporting={learned},".replace(": ", ":~")
        lines = textwrap.wrap(unbroken, 92, break_long_words=False, subsequent_indent="    ")
        notes = [textwrap.fill(note, 100) for note in notes]
        paste = "\n".join(f"    {line}" for line in lines).replace("~", " ")
        return "\n\n".join(
            [table(head, rows), *notes, f"Paste this into SequentialFailureTest(...):\n\n{paste}"]
        )

    def to_json(self) -> dict[str, Any]:
        """The same as plain JSON; ``reporting`` is what a rule's JSON takes."""
        count = sum(map(len, self.delays))
        return {
            "reporting": self.learned.to_json(),
            "delays": count,
            "band": band(count),
            "floor": self.floor,
            "rollouts": [
                {
                    "name": one.name,
                    "failures": one.failures,
                    "delays": len(one.delays),
                    "verdict": one.verdict,
                    "retries": one.retries,
                }
                for one in self.rollouts
            ],
        }


def _row(one: Recorded) -> tuple[str, ...]:
    found = sorted(one.delays)
    places = [len(found) // 2, 9 * len(found) // 10, len(found) - 1] if found else []
    times = [duration(found[place]) for place in places] or ["-"] * 3
    unknown = sum(delay == 0 for delay in found)
    return (
        Path(one.name).name,
        f"{one.failures:,}",
        str(len(found)),
        str(unknown),
        *times,
        one.verdict,
    )


def from_counts(looks: Sequence[Look]) -> tuple[list[float], list[float]] | None:
    """The delay by counts alone, for a picture: ages in seconds, and shares of the failures.

    Expectation maximisation over delays in 200 steps of the rollout's time. Where devices start
    over hours, counts hardly tell the delay: no rule should rest on this.

    :return: None: there are no failures, or no time between the looks
    """
    if len(looks) < 2 or looks[-1].time <= looks[0].time:
        return None
    step = (looks[-1].time - looks[0].time) / _EM_BINS
    place = [min(_EM_BINS, int((look.time - looks[0].time) / step)) for look in looks]
    starts, failures = np.zeros(_EM_BINS + 1), np.zeros(_EM_BINS + 1)
    for counts, values in (
        (starts, [look.progress.ever_started for look in looks]),
        (failures, [look.progress.fail for look in looks]),
    ):
        highest = np.maximum.accumulate(np.array(values, dtype=float))
        np.add.at(counts, place, np.diff(highest, prepend=0.0))
    if not failures.any():
        return None
    size = _EM_BINS + 1
    seen = np.cumsum(starts)[::-1]  # devices that are watched for at least d steps
    chances = np.full(size, failures.sum() / max(1.0, starts.sum()) / size)
    for _ in range(_EM_STEPS):
        expected = np.convolve(starts, chances)[:size]
        ratio = np.where(expected > 0, failures / np.maximum(expected, 1e-300), 0.0)
        back = np.array([starts[: size - d] @ ratio[d:] for d in range(size)])
        chances = np.where(seen > 0, chances * back / np.maximum(seen, 1e-300), 0.0)
    total = float(chances.sum())
    if not total > 0:
        return None
    ages = [float(step * d) for d in range(size)]
    return ages, [float(share) for share in np.cumsum(chances) / total]


def add_to(commands: Any) -> None:
    """Add the command to the parser's commands."""
    words = "learn how late failures report from recorded rollouts, for a rule's reporting="
    sub = commands.add_parser("fit", help=words, description=words)
    sub.set_defaults(command=_fit)
    sub.add_argument(
        "files", nargs="+", metavar="FILE", help="an audit of each rollout: as for replay"
    )
    sub.add_argument(
        "--floor",
        type=float,
        default=0.1,
        help="the least margin: a share of the failures that may come at any age (%(default)s)",
    )
    sub.add_argument("--plot", metavar="FILE", help="draw the delays into a file such as out.png")
    sub.add_argument("--json", action="store_true", help="print JSON instead of a text")


def _fit(options: argparse.Namespace) -> object:
    rollouts = []
    for name in options.files:
        try:
            rollouts.append(Recorded.of(name, read_audit(text_in(name))))
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from error
    fit = Fit(tuple(rollouts), checks.share("--floor", options.floor))
    answer = fit.to_json() if options.json else fit.to_text()
    if options.plot:
        from iotda_provider.guards.lab.plot import draw_delays

        pictures = [
            (one.name, one.delays, from_counts(one.looks)) for one in fit.rollouts if one.delays
        ]
        draw_delays(fit.learned, pictures, options.plot)
    return answer
