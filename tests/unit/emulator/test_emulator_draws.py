"""Chance that can be repeated."""

from __future__ import annotations

import math
import statistics

import pytest

from iotda_provider.emulator.common.randomness import Draws, Mix
from iotda_provider.emulator.scenario.distributions import (
    Constant,
    Delay,
    Exponential,
    Lognormal,
    Uniform,
)


def test_draws_depend_on_seed_and_names_and_on_nothing_else() -> None:
    draw = Draws(1).stream("fate", 3)
    first = draw("a")
    draw("b")
    assert draw("a") == first
    assert Draws(1).stream("fate", 3)("a") == first
    others = (
        Draws(2).stream("fate", 3)("a"),
        Draws(1).stream("fate", 31)("a"),
        Draws(1).stream("fate", 3)("1a"),
        draw("b"),
    )
    assert first not in others


def test_draws_are_uniform() -> None:
    draw = Draws(0).stream("x")
    numbers = [u for n in range(2000) for u in draw(str(n))]
    assert all(0 <= u < 1 for u in numbers)
    assert math.isclose(statistics.fmean(numbers), 0.5, abs_tol=0.02)
    assert math.isclose(statistics.pvariance(numbers), 1 / 12, abs_tol=0.01)


@pytest.mark.parametrize(
    ("distribution", "middle", "low", "high"),
    [
        (Constant(value=5), 5, 5, 5),
        (Uniform(min=10, max=20), 15, 10, 20),
        (Exponential(mean=100), 69.3, 0, math.inf),
        (Exponential(mean=100, max=50), 50, 0, 50),
        (Lognormal(median=60, sigma=0.5), 60, 0, math.inf),
        (Lognormal(median=60, sigma=0.5, max=80), 60, 0, 80),
    ],
)
def test_distributions_by_quantile(
    distribution: Delay, middle: float, low: float, high: float
) -> None:
    assert distribution.at(0.5) == pytest.approx(middle, rel=1e-3)
    quantiles = [distribution.at(u) for u in (0, 0.1, 0.5, 0.9, 1 - 2**-53)]
    assert quantiles == sorted(quantiles)
    assert low <= quantiles[0] <= quantiles[-1] <= high
    assert math.isfinite(quantiles[-1])


def test_a_mix_is_drawn_by_weight() -> None:
    mix = Mix.of([7, 8, 9], [1, 0, 3])
    assert [mix.at(u) for u in (0, 0.24, 0.25, 0.99)] == [7, 7, 9, 9]
