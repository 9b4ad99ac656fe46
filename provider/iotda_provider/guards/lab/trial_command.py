"""``iotda-guard trial``: a trial's answer to counts that a person types in."""

from __future__ import annotations

import argparse
from typing import Any

from iotda_provider.trials import DeviceTrial, Group
from iotda_provider.trials.answer import METHODS

_MOST_DEVICES = 1_000_000


def add_to(commands: Any) -> None:
    """Add the command to the parser's commands."""
    words = "answer whether updated devices are worse off than a control group"
    sub = commands.add_parser("trial", help=words, description=words)
    sub.set_defaults(command=_trial)
    usual = DeviceTrial()
    for group in ("treated", "control"):
        sub.add_argument(
            f"--{group}", required=True, metavar="COUNTS", help="unhealthy/devices, such as 12/100"
        )
        sub.add_argument(
            f"--{group}-unknown",
            type=int,
            default=0,
            metavar="COUNT",
            help="devices of these whose state is not known (%(default)s)",
        )
    for name, kind, value, words in (
        ("updated", float, 1.0, "share of the treated that report the new version"),
        ("look", int, 1, "which look of this gate"),
        ("gates", int, 1, "gates in the release"),
        ("margin", float, usual.margin, "share of the healthy devices that may be lost"),
        ("false-stop", float, usual.false_stop, "chance of stopping harmless firmware"),
        ("false-go", float, usual.false_go, "chance of going on with one that is worse"),
    ):
        sub.add_argument(f"--{name}", type=kind, default=value, help=f"{words} (%(default)s)")
    sub.add_argument("--method", choices=METHODS, default=usual.method, help="(%(default)s)")
    sub.add_argument("--json", action="store_true", help="print JSON instead of a sentence")


def _trial(options: argparse.Namespace) -> object:
    names = ("margin", "false_stop", "false_go", "method")
    trial = DeviceTrial(**{name: getattr(options, name) for name in names})
    answer = trial.judge(
        *(_group(options, name) for name in ("treated", "control")),
        look=options.look,
        gates=options.gates,
        updated=options.updated,
    )
    return answer.to_json() if options.json else answer.sentence


def _group(options: argparse.Namespace, name: str) -> Group:
    """The counts of one group, as ``12/100``."""
    text, unknown = getattr(options, name), getattr(options, f"{name}_unknown")
    unhealthy, _, devices = text.partition("/")
    try:
        bad, size = int(unhealthy), int(devices)
    except ValueError:
        raise ValueError(
            f"--{name}: {text[:40]!r} is no unhealthy/devices, such as 12/100"
        ) from None
    if min(bad, unknown) < 0 or bad + unknown > size or size > _MOST_DEVICES:
        raise ValueError(
            f"--{name}: unhealthy and unknown devices are part of the devices, at most "
            f"{_MOST_DEVICES:,}"
        )
    return Group(bad, size - bad - unknown, unknown)
