"""The output of ``iotda-guard``: tables for people, and plain JSON."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

from iotda_provider.guards.enough_success import EnoughSuccess
from iotda_provider.guards.lab import exact
from iotda_provider.guards.lab.notation import notation
from iotda_provider.guards.lab.recorded_looks import Audit
from iotda_provider.guards.lab.replay import Event, Outcome
from iotda_provider.guards.lab.simulation import Result
from iotda_provider.guards.reach import powerless_rules
from iotda_provider.guards.rule import ATTEMPTS, CLUSTERS, Rule
from iotda_provider.guards.serialization import rules_to_json
from iotda_provider.guards.time_rules import Stalled


def replay_text(audit: Audit, looks: int, outcomes: Sequence[Outcome]) -> str:
    """What the guard recorded, and what each rule would have done."""
    head = ("rule", "would hold", "would stop", "started", "failed", "evidence", "bound")
    parts = [_recorded(audit, looks), table(head, [_outcome_row(item) for item in outcomes])]
    for item in outcomes:
        if item.broken:
            parts.append(item.broken.verdict.sentence)
        elif item.unsure and item.last:
            parts.append(
                f"{notation(item.rule)} could not judge {item.unsure} of {item.looks} looks: "
                f"the file does not say enough of their {item.last.undecided or 'failures'}."
            )
    return "\n\n".join(parts)


def _recorded(audit: Audit, looks: int) -> str:
    first, last = audit.records[0], audit.records[-1]
    lines = [f"{looks} looks, {first['time']} to {last.get('until', last['time'])}"]
    omitted = sum(record.get("omitted", 0) for record in audit.records)
    if omitted:
        lines.append(f"{omitted} more looks were left out to bound the trail")
    if audit.cut_off:
        lines.append("the last line is cut off and was left out")
    decided = next((record for record in audit.records if record["decision"] == "breach"), None)
    if decided:
        lines.append(f"as recorded: breach at {decided['time']}: {decided.get('sentence')}")
    else:
        lines.append(f"as recorded: no breach; the last decision was {last['decision']}")
    return "\n".join(lines)


def _after(event: Event | None) -> str:
    return f"after {duration(event.after_seconds)}" if event else "never"


def _outcome_row(outcome: Outcome) -> tuple[str, ...]:
    verdict = outcome.broken.verdict if outcome.broken else outcome.last
    evidence = verdict.evidence if verdict else {}
    numbers = (evidence.get("value"), evidence.get("bound"))
    return (
        notation(outcome.rule),
        _after(outcome.held),
        _after(outcome.broken),
        str(evidence.get("devices", "-")),
        str(evidence.get("failed", "-")),
        *("-" if number is None else f"{number:.4g}" for number in numbers),
    )


def replay_json(outcomes: Sequence[Outcome]) -> list[dict[str, Any]]:
    """The same as plain JSON."""
    return [
        {
            "rule": rules_to_json(outcome.rule)[0],
            "held": _event(outcome.held),
            "broken": _event(outcome.broken),
            "looks": outcome.looks,
            "unsure": outcome.unsure,
        }
        for outcome in outcomes
    ]


def _event(event: Event | None) -> dict[str, Any] | None:
    if event is None:
        return None
    verdict = event.verdict.to_dict()
    verdict.pop("parts", None)
    return {"after_seconds": event.after_seconds, "time": event.look.time, "verdict": verdict}


def simulation_text(results: Sequence[Result], healthy: Sequence[float], seed: int) -> str:
    """A table with one line for each rule and true failure rate.

    :param healthy: the rates at which a stop is a false stop
    """
    fleet = results[0].fleet
    head = ("rule", "true rate", "stopped", "", "time, median", "exposed, mean", "harmed, mean")
    intro = (
        f"{len(results[0].exposed)} fleets of {fleet.devices:,} devices for each rate, seed {seed};"
        f" failures after {duration(fleet.failure_after)}, successes after "
        f"{duration(fleet.success_after)} ({fleet.spread})"
    )
    return f"{intro}\n\n{table(head, [_result_row(result, healthy) for result in results])}"


def _result_row(result: Result, healthy: Sequence[float]) -> tuple[str, ...]:
    rate = result.fleet.failure_rate
    return (
        notation(result.rule),
        f"{100 * rate:g} %",
        chance(result.stopped),
        "false" if rate in healthy and result.stopped else "",
        duration(result.median_stop_time),
        count(result.mean_exposed),
        count(result.mean_harmed),
    )


def simulation_json(results: Sequence[Result]) -> list[dict[str, Any]]:
    """The same as plain JSON."""
    return [
        {
            "rule": rules_to_json(result.rule)[0],
            "fleet": asdict(result.fleet),
            "stopped": result.stopped,
            "median_stop_seconds": result.median_stop_time,
            "mean_exposed": result.mean_exposed,
            "mean_harmed": result.mean_harmed,
        }
        for result in results
    ]


@dataclass(frozen=True)
class Plan:
    """How many devices each rule would expose, before a rollout.

    :param rules: stopping rules and gates
    :param rates: true failure rates; for a rule that counts one class, the rates of that class
    :param devices: the devices in the fleet
    :param waves: the devices that have started by the end of each wave; None: a look after every
        outcome
    :param in_flight: the devices that have started but not reported, at each look
    :param warnings: sentences to add to the notes
    """

    rules: tuple[Rule, ...]
    rates: tuple[float, ...]
    devices: int
    waves: tuple[int, ...] | None = None
    in_flight: int = 0
    warnings: tuple[str, ...] = ()

    @property
    def gates(self) -> list[EnoughSuccess]:
        """The rules that open a gate."""
        return [rule for rule in self.rules if isinstance(rule, EnoughSuccess)]

    @property
    def stopping(self) -> list[Rule]:
        """The rules that stop a rollout."""
        return [rule for rule in self.rules if not isinstance(rule, EnoughSuccess)]

    @cached_property
    def rows(self) -> list[list[exact.Exposure]]:
        """For each stopping rule its exposures, one for each rate."""
        sizes: dict[str, Any] = {"looks": self.waves, "in_flight": self.in_flight}
        return [
            [exact.exposure(rule, rate, self.devices, **sizes) for rate in self.rates]
            for rule in self.stopping
        ]

    def to_text(self) -> str:
        """A table, and notes on rules that the table cannot show."""
        parts = []
        if self.stopping:
            step = (self.waves or exact.every_device(self.devices))[0]
            every = "every outcome" if step == 1 else f"every {step} outcomes"
            when = "at the ends of the waves" if self.waves else f"after {every}"
            parts.append(
                f"{self.devices:,} devices, looked at {when}: devices started by the stop, on "
                "average (chance that it stops)"
            )
            head = ("rule", *(f"{100 * rate:g} % fail" for rate in self.rates))
            rows = zip(self.stopping, self.rows, strict=True)
            parts.append(table(head, [_plan_row(rule, row) for rule, row in rows]))
        return "\n\n".join((*parts, *self._notes()))

    def _notes(self) -> list[str]:
        size = self.devices
        notes = []
        powerless = powerless_rules(self.stopping, size)
        for rule in self.stopping:
            if isinstance(rule, Stalled):
                notes.append(f"{notation(rule)} uses times: see iotda-guard simulate.")
            elif rule in powerless:
                notes.append(f"{notation(rule)} can never stop {size} devices, even if all fail.")
            elif rule.ages_up_to:
                notes.append(
                    f"{notation(rule)} knows how late failures report, which a plan does not: in "
                    "its line every device counts with its full age, which is the slowest that the "
                    "rule can be. See iotda-guard simulate."
                )
            elif ATTEMPTS in rule.needs:
                notes.append(
                    f"{notation(rule)} counts devices with a failed attempt: read its line as if "
                    "so many of them had one. If failed devices are retried, fewer fail finally: "
                    "see iotda-guard simulate."
                )
            elif CLUSTERS in rule.needs:
                notes.append(
                    f"{notation(rule)} uses clusters, which a plan does not know: its figures are "
                    "for a fleet without clusters."
                )
        for gate in self.gates:
            least = gate.smallest_passing_sample()
            opens = f"opens after {least} successes without a failure"
            person = f": with {size} devices a person must decide" if least > size else ""
            notes.append(f"{notation(gate)} {opens} at the earliest{person}.")
        return [*notes, *self.warnings]

    def to_json(self) -> dict[str, Any]:
        """The same as plain JSON."""
        return {
            "devices": self.devices,
            "waves": self.waves,
            "in_flight": self.in_flight,
            "rules": [
                {
                    "rule": rules_to_json(rule)[0],
                    "exposures": [
                        {"failure_rate": rate, **asdict(exposure)}
                        for rate, exposure in zip(self.rates, row, strict=True)
                    ],
                }
                for rule, row in zip(self.stopping, self.rows, strict=True)
            ],
            "gates": [
                {
                    "rule": rules_to_json(gate)[0],
                    "smallest_passing_sample": gate.smallest_passing_sample(),
                }
                for gate in self.gates
            ],
            "notes": self._notes(),
        }


def _plan_row(rule: Rule, row: Sequence[exact.Exposure]) -> tuple[str, ...]:
    cells = (f"{count(each.mean_devices)} ({chance(each.stopped)})" for each in row)
    return (notation(rule), *cells)


# --- how a cell is written ------------------------------------------------------------------------


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Aligned columns: the first to the left, the others to the right."""
    lines = [list(head), *map(list, rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    texts = [_line(line, widths) for line in lines]
    return "\n".join([texts[0], "  ".join("-" * width for width in widths), *texts[1:]])


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    first = cells[0].ljust(widths[0])
    others = (cell.rjust(width) for cell, width in zip(cells[1:], widths[1:], strict=True))
    return "  ".join((first, *others)).rstrip()


def duration(seconds: float | None) -> str:
    """A duration in seconds as text, in seconds, minutes or hours."""
    if seconds is None:
        return "-"
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 7200:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"


def count(number: float | None) -> str:
    """A number of devices; from 10 on, without decimals."""
    if number is None:
        return "-"
    return f"{number:,.0f}" if number >= 10 or number == int(number) else f"{number:.1f}"


def chance(share: float) -> str:
    """A probability; a very small one is not shown as 0, nor a very large one as 1."""
    if 0 < share < 0.0001:
        return "<.01 %"
    if 0.9999 < share < 1 - 1e-9:
        return ">99.99 %"
    return f"{100 * share:.3g} %" if share < 0.9995 else f"{100 * share:.4g} %"
