"""Make the high-precision test vectors of the sequential test: needs mpmath, runs for half an hour.

    pip install mpmath && python benchmarks/guard_vectors.py > tests/unit/guards/vectors.json

The evidence is integrated numerically from its definition: the mean of the likelihood ratio over
the truncated prior. So it shares nothing with the closed form that it checks.
"""

from __future__ import annotations

import json
import sys
from functools import cache
from itertools import pairwise
from typing import Any

import mpmath  # type: ignore[import-not-found, import-untyped, unused-ignore]

mp: Any = mpmath.mp
mp.dps = 30

RATES = (1e-4, 0.005, 0.02, 0.05, 0.5, 0.9)
SIZES = (1, 10, 100, 1000, 100_000, 10_000_000)
FLOOR = -700


@cache
def integral(hits: int, misses: int, a: Any, b: Any, low: Any, high: Any, rate: Any) -> Any:
    """log of ∫ t^(a+hits-1) (1-t)^(b+misses-1) / (rate^hits (1-rate)^misses) from low to high."""

    def height(t: Any) -> Any:
        return (
            hits * (mp.log(t) - mp.log(rate))
            + misses * (mp.log1p(-t) - mp.log1p(-rate))
            + (b - 1) * mp.log1p(-t)
            + (a - 1) * mp.log(t)
        )

    count = hits + misses + a + b - 2
    peak = min(max((hits + a - 1) / max(count, 1), low), high)
    inside = min(max(peak, mp.mpf(10) ** -30), 1 - mp.mpf(10) ** -30)
    top = height(inside)
    width = mp.sqrt(inside * (1 - inside) / max(count, 1))
    edges = {low, high, peak}
    # Enough cuts around the peak and, on a finer and finer scale, at the edges of the interval.
    for k in range(-12, 13, 2):
        edges.add(peak + k * width)
    for k in range(1, 60, 3):
        step = (high - low) * mp.mpf(2) ** -k
        edges |= {low + step, high - step, peak - step, peak + step}
    cuts = sorted(edge for edge in edges if low <= edge <= high)

    def scaled(t: Any) -> Any:
        if t <= 0 or t >= 1:
            return mp.mpf(0)
        return mp.exp(height(t) - top)

    total = mp.mpf(0)
    for left, right in pairwise(cuts):
        if right > left and max(scaled(left), scaled(right), scaled((left + right) / 2)) > 1e-25:
            total += mp.quad(scaled, [left, right], method="gauss-legendre", maxdegree=5)
    return top + mp.log(total)


def evidence(kind: str, hits: int, devices: int, rate: float) -> float:
    """log E (kind ``e``) or log G (kind ``g``)."""
    p = mp.mpf(rate)
    one = mp.mpf(1)
    b = max(one, 1 / (5 * p) if kind == "e" else 1 / p)
    low, high = (p, one) if kind == "e" else (mp.mpf(0), p)
    misses = devices - hits
    prior = integral(0, 0, one, b, low, high, p)
    return max(FLOOR, float(integral(hits, misses, one, b, low, high, p) - prior))


def main() -> None:
    """Print one vector a line."""
    rows = []
    for kind in "eg":
        for rate in RATES:
            for devices in SIZES:
                expected = devices * rate
                spread = (devices * rate * (1 - rate)) ** 0.5
                wanted = {0, 1, devices // 2, devices, int(expected * 0.9), int(expected)}
                wanted |= {int(expected + 3 * spread), int(expected + 5 * spread)}
                for hits in sorted(count for count in wanted if 0 <= count <= devices):
                    rows.append([kind, hits, devices, rate, evidence(kind, hits, devices, rate)])
                print(kind, rate, devices, file=sys.stderr)
    print("[\n" + ",\n".join(json.dumps(row) for row in rows) + "\n]")


if __name__ == "__main__":
    main()
