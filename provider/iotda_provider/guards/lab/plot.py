"""Pictures of a simulation and of a learned delay. They need matplotlib (the extra ``plot``)."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from typing import Any

from iotda_provider.guards.lab.notation import notation
from iotda_provider.guards.lab.simulation import Result
from iotda_provider.guards.reporting_delay import ReportingDelay

MISSING = "--plot needs matplotlib: pip install 'airflow-provider-iotda[plot]'"


def figure_class() -> Any:
    """matplotlib's ``Figure``.

    :raises ModuleNotFoundError: it is not installed; the message says how to install it
    """
    try:
        return import_module("matplotlib.figure").Figure
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(MISSING) from error


def draw(results: Sequence[Result], path: str) -> None:
    """Draw how often, when and at what cost each rule stops, for each true failure rate.

    :param results: from :func:`simulate`, for several rates
    :param path: the file of the picture; its ending chooses the format
    """
    rules = list(dict.fromkeys(result.rule for result in results))
    rates = sorted({result.fleet.failure_rate for result in results})
    by_case = {(result.rule, result.fleet.failure_rate): result for result in results}
    figure = figure_class()(figsize=(12, 4.2 + 0.25 * len(rules)), layout="constrained")
    panels: tuple[tuple[str, Any], ...] = (
        ("rollouts stopped (%)", lambda result: 100 * result.stopped),
        ("time to the stop, median (min)", lambda result: (result.median_stop_time or 0) / 60),
        ("devices exposed, mean", lambda result: result.mean_exposed),
    )
    for axes, (title, measure) in zip(figure.subplots(1, len(panels)), panels, strict=True):
        width = 0.8 / len(rules)
        for number, rule in enumerate(rules):
            places = [index + number * width for index in range(len(rates))]
            heights = [measure(by_case[rule, rate]) for rate in rates]
            axes.bar(places, heights, width, label=notation(rule))
        axes.set_title(title, fontsize=10)
        middle = 0.4 - width / 2
        axes.set_xticks([index + middle for index in range(len(rates))])
        axes.set_xticklabels([f"{100 * rate:g} %" for rate in rates])
        axes.set_xlabel("true failure rate")
        axes.spines[["top", "right"]].set_visible(False)
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", fontsize=8)
    figure.savefig(path, dpi=120)


def draw_delays(
    learned: ReportingDelay,
    rollouts: Sequence[tuple[str, Sequence[float], tuple[list[float], list[float]] | None]],
    path: str,
) -> None:
    """Draw what was learned over what each rollout has shown.

    :param learned: the learned delay
    :param rollouts: for each rollout its name, its recorded delays in seconds, and the ages and
        shares by its counts alone, if they are known
    :param path: the file of the picture; its ending chooses the format
    """
    figure = figure_class()(figsize=(12, 5), layout="constrained")
    recorded, counted = figure.subplots(1, 2, sharex=True, sharey=True)
    last = max(learned.horizon, *(max(delays) for _, delays, _ in rollouts))
    for number, (name, delays, counts) in enumerate(rollouts):
        found, colour = sorted(delays), f"C{number % 10}"
        shares = [(index + 1) / len(found) for index in range(len(found))]
        ages = [0.0, *(delay / 60 for delay in found), last / 60]
        recorded.step(ages, [0.0, *shares, 1.0], where="post", color=colour, label=name)
        if counts is not None:
            minutes = [age / 60 for age in counts[0]]
            counted.plot(minutes, counts[1], color=colour, label=name)
    grid = [last * index / 400 for index in range(401)]
    curve = [learned.share(age) for age in grid]
    for axes, title in (
        (recorded, "recorded delays (the shortest that the looks allow)"),
        (counted, "by counts alone: a picture, not to be relied on"),
    ):
        axes.plot([age / 60 for age in grid], curve, color="black", linewidth=2, label="learned: F")
        axes.set_title(title, fontsize=10)
        axes.set_xlim(0, 1.02 * last / 60)
        axes.set_ylim(0, 1.02)
        axes.set_xlabel("minutes from a device's start to the report of its failure")
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(fontsize=8, loc="lower right")
    recorded.set_ylabel("share of the failures")
    figure.savefig(path, dpi=120)
