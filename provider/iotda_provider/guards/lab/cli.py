"""``iotda-guard``: try rules on recorded rollouts, on simulated fleets, or by exact computation."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from iotda_provider.guards.evaluation import checked_rules
from iotda_provider.guards.lab import fit, reports, trial_command
from iotda_provider.guards.lab.fleets import SPREADS, Fleet
from iotda_provider.guards.lab.given_files import text_in, text_of
from iotda_provider.guards.lab.notation import parse_rules
from iotda_provider.guards.lab.recorded_looks import looks_of, read_audit
from iotda_provider.guards.lab.replay import replay
from iotda_provider.guards.lab.simulation import DEFAULT_RULES, Result, simulate
from iotda_provider.guards.retries import retry_warnings
from iotda_provider.guards.rule import Rule
from iotda_provider.guards.serialization import rules_from_json
from iotda_provider.models import checks
from iotda_provider.models.platform_retries import MOST_MINUTES, MOST_RETRIES, PlatformRetries

_RULES_HELP = (
    "rules such as 'SequentialFailureTest(0.02), MaxFailures(5)', JSON of them, "
    "or a file that holds either"
)


def main(argv: Sequence[str] | None = None, more: Sequence[Callable[[Any], object]] = ()) -> int:
    """Run a command.

    :param more: functions that add further commands to argparse's subparsers; a command that prints
        by itself returns its exit code
    """
    options = _parser(more).parse_args(argv)
    try:
        command: Callable[[argparse.Namespace], object] = options.command
        answer = command(options)
    except (ValueError, OSError, ModuleNotFoundError) as error:
        print(f"iotda-guard {options.name}: {error}", file=sys.stderr)
        return 2
    if isinstance(answer, int):
        return answer
    if isinstance(answer, str):
        print(answer)
    else:
        print(json.dumps(answer, indent=2, ensure_ascii=False))
    return 0


def _parser(more: Sequence[Callable[[Any], object]]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="iotda-guard", description=__doc__)
    commands = parser.add_subparsers(dest="name", required=True, metavar="COMMAND")
    for name, command, words in (
        ("replay", _replay, "show what rules would have done on a recorded rollout"),
        (
            "simulate",
            _simulate,
            "run rules on simulated fleets: false stops, time to the stop, devices",
        ),
        ("plan", _plan, "compute exactly how many devices each rule would expose"),
    ):
        sub = commands.add_parser(name, help=words, description=words)
        sub.set_defaults(command=command)
        sub.add_argument("--rules", metavar="RULES", help=_RULES_HELP)
        sub.add_argument(
            "--rule", action="append", metavar="RULE", help="one more rule; may be repeated"
        )
        sub.add_argument("--json", action="store_true", help="print JSON instead of a table")
        if name == "replay":
            sub.add_argument(
                "file", help="an audit: JSON lines, or the list of the XCom; -: standard input"
            )
        else:
            sub.add_argument("--devices", type=int, default=1000, help="fleet size (%(default)s)")
            _add_retries(sub)
        if name == "simulate":
            _add_fleet(sub)
        if name == "plan":
            _add_plan(sub)
    fit.add_to(commands)
    trial_command.add_to(commands)
    for add in more:
        add(commands)
    return parser


def _add_fleet(sub: argparse.ArgumentParser) -> None:
    usual = Fleet()
    sub.add_argument(
        "--first-failure-rate",
        type=float,
        help="share of devices that fail their first attempt, if failed ones are retried (all "
        "others succeed at a retry)",
    )
    sub.add_argument(
        "--healthy",
        default="0.02",
        metavar="RATES",
        help="true failure rates at which a stop is a false one (%(default)s)",
    )
    sub.add_argument(
        "--faulty",
        default="0.05,0.1",
        metavar="RATES",
        help="true failure rates at which a stop is wanted (%(default)s)",
    )
    for name, words in (
        ("failure-after", "seconds until a failure is reported, on average"),
        ("success-after", "seconds until a success is reported, on average"),
        ("arrival", "seconds over which the devices start; 0: all at once"),
        ("silent-rate", "share of the failures that never report (bricked devices)"),
        ("environment-share", "share of the failures that are environmental"),
        ("hand-stop-at", "seconds after which somebody stops some running devices"),
        ("hand-stop-share", "share of the running devices that they stop"),
        ("sigma", "of a lognormal spread, the standard deviation of the logarithm"),
        ("poll", "seconds between two looks"),
    ):
        value = getattr(usual, name.replace("-", "_"))
        shown = "never" if value is None else f"{value:g}"
        sub.add_argument(f"--{name}", type=float, default=value, help=f"{words} ({shown})")
    sub.add_argument(
        "--spread",
        choices=SPREADS,
        default=usual.spread,
        help="distribution of the times (%(default)s)",
    )
    sub.add_argument("--fleets", type=int, default=1000, help="fleets per rate (%(default)s)")
    sub.add_argument("--seed", type=int, default=1, help="seed of the random numbers (%(default)s)")
    sub.add_argument("--plot", metavar="FILE", help="draw the result into a file such as out.png")


def _add_retries(sub: argparse.ArgumentParser) -> None:
    usual = Fleet()
    sub.add_argument(
        "--retry-count",
        type=int,
        default=usual.retry_count,
        help="how often the platform retries a failed device, as in a task_policy (%(default)s)",
    )
    sub.add_argument(
        "--retry-interval",
        type=int,
        default=usual.retry_interval,
        help="minutes until it does, as in a task_policy (%(default)s)",
    )


def _add_plan(sub: argparse.ArgumentParser) -> None:
    sub.add_argument(
        "--attempt",
        type=float,
        default=Fleet().failure_after,
        metavar="SECONDS",
        help="how long a failing attempt takes; only for warnings about retries (%(default)g)",
    )
    sub.add_argument(
        "--rates",
        default="0.01,0.02,0.03,0.05,0.1,0.2",
        metavar="RATES",
        help="true failure rates (%(default)s)",
    )
    sub.add_argument(
        "--waves",
        metavar="COUNTS",
        help="evaluate only at the ends of waves: started devices, such as 100,500,2500",
    )
    sub.add_argument(
        "--in-flight",
        type=int,
        default=0,
        metavar="COUNT",
        help="devices that have started but not reported, at each look (%(default)s)",
    )


def _rules(options: argparse.Namespace) -> list[Rule]:
    rules: list[Rule] = []
    for text in [options.rules, *(options.rule or [])]:
        if text is not None:
            rules += parse_rules(_text_of(text))
    return rules


def _text_of(text: str) -> str:
    # Every rule has a parenthesis and all JSON a bracket; other text must be a file's name.
    if not text.startswith("@") and any(mark in text for mark in "([{"):
        return text
    try:
        return text_in(text.removeprefix("@"))
    except (FileNotFoundError, IsADirectoryError):
        raise ValueError(
            f"{text!r} is neither a rule, such as MaxFailures(5), nor a file"
        ) from None


def _numbers(text: str, name: str, read: Callable[[str, Any], Any], kind: type) -> list[Any]:
    numbers = []
    for item in text.split(","):
        try:
            number = kind(item)
        except ValueError:
            raise ValueError(f"--{name}: {item.strip()!r} is not a number") from None
        numbers.append(read(f"--{name}", number))
    return numbers


def _rates(text: str, name: str) -> list[float]:
    return _numbers(text, name, checks.share, float)


def _replay(options: argparse.Namespace) -> object:
    is_piped = options.file == "-"
    text = text_of(sys.stdin) if is_piped else text_in(options.file)
    audit = read_audit(text)
    if not audit.records:
        raise ValueError(f"{options.file} holds no looks")
    rules = _rules(options) or rules_from_json(audit.header.get("rules") or [])
    if not rules:
        raise ValueError("the file names no rules; give some with --rules")
    looks = list(looks_of(audit.records))
    outcomes = replay(looks, checked_rules(rules))
    if options.json:
        return reports.replay_json(outcomes)
    return reports.replay_text(audit, len(looks), outcomes)


def _simulate(options: argparse.Namespace) -> object:
    rules = checked_rules(_rules(options) or DEFAULT_RULES)
    _fleet_size(options.devices)
    names = [name for name in Fleet.__dataclass_fields__ if name != "failure_rate"]
    fleet = Fleet(**{name: getattr(options, name) for name in names})
    healthy = _rates(options.healthy, "healthy")
    rates = [*healthy, *_rates(options.faulty, "faulty")]
    if options.plot:
        # If matplotlib is missing, fail before the simulation, not after it.
        from iotda_provider.guards.lab.plot import draw, figure_class

        figure_class()
    results: list[Result] = []
    for rate in rates:
        case = replace(fleet, failure_rate=rate)
        show = _progress(rate, options.fleets) if sys.stderr.isatty() else None
        results += simulate(rules, case, fleets=options.fleets, seed=options.seed, progress=show)
    if options.plot:
        draw(results, options.plot)
        print(f"drawn into {options.plot}", file=sys.stderr)
    if options.json:
        return reports.simulation_json(results)
    text = reports.simulation_text(results, healthy, options.seed)
    found = _warnings(rules, options, options.failure_after, poll_interval=options.poll)
    return "\n\n".join([text, *found])


def _warnings(
    rules: Sequence[Rule],
    options: argparse.Namespace,
    attempt: float,
    poll_interval: float | None = None,
) -> list[str]:
    """What the retries that the user has named hide from the rules."""
    checks.whole("--retry-count", options.retry_count, most=MOST_RETRIES)
    checks.whole("--retry-interval", options.retry_interval, most=MOST_MINUTES)
    policy = {"retry_count": options.retry_count, "retry_interval": options.retry_interval}
    retries = PlatformRetries.of(policy)
    if retries is None:
        return []
    return retry_warnings(retries, rules, attempt=attempt, poll_interval=poll_interval)


def _progress(rate: float, fleets: int) -> Callable[[int], None]:
    def show(done: int) -> None:
        end = "\n" if done == fleets else "\r"
        print(f"true rate {rate:g}: {done} of {fleets} fleets", end=end, file=sys.stderr)

    return show


def _plan(options: argparse.Namespace) -> object:
    rules = tuple(_rules(options) or DEFAULT_RULES)
    attempt = checks.seconds("--attempt", options.attempt)
    plan = reports.Plan(
        rules=rules,
        rates=tuple(_rates(options.rates, "rates")),
        devices=_fleet_size(options.devices),
        waves=_waves(options.waves, options.devices) if options.waves else None,
        in_flight=checks.whole("--in-flight", options.in_flight),
        warnings=tuple(_warnings(rules, options, attempt)),
    )
    return plan.to_json() if options.json else plan.to_text()


def _fleet_size(devices: int) -> int:
    if devices > _MOST_DEVICES:
        raise ValueError(
            f"--devices: at most {_MOST_DEVICES:,}; what a bigger fleet adds is decided long before"
        )
    return checks.whole("--devices", devices, least=1)


_MOST_DEVICES = 1_000_000


def _waves(text: str, devices: int) -> tuple[int, ...]:
    def whole(name: str, number: int) -> int:
        return checks.whole(name, number, least=1)

    waves: list[int] = _numbers(text, "waves", whole, int)
    if waves != sorted(set(waves)) or waves[-1] > devices:
        raise ValueError(f"--waves: counts must rise, up to the {devices} devices")
    return tuple(waves) if waves[-1] == devices else (*waves, devices)
