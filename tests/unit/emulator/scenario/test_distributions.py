"""Delays by their quantiles."""

from __future__ import annotations

import math

import pytest

from iotda_provider.emulator.scenario.distributions import (
    Constant,
    Delay,
    Exponential,
    Lognormal,
    Uniform,
)


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
