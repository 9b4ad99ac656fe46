"""The exact tests that compare the unhealthy devices of two groups, x of n in each.

x_T of n_T are the treated devices, x_C of n_C those of the control group. All functions take any
group sizes up to millions; SciPy is imported at the first call, never when a DAG is parsed.
"""

from __future__ import annotations

import math
from functools import cache
from typing import Any

from iotda_provider.models.heavy_libraries import special

#: The cells of [0, 1] over which the product test looks for the least favourable control rate.
CELLS = 1000


def look_weight(look: int) -> float:
    """The share of an error bound that the ``look``-th look of a gate may use.

    6/(π²·j²): over all looks j = 1, 2, ... these shares sum to 1.
    """
    return 6.0 / (math.pi * look) ** 2


def fisher(x_t: int, n_t: int, x_c: int, n_c: int) -> float:
    """P of the one-sided exact test of Fisher: that so many or more of the unhealthy are treated.

    ``hypergeom.sf(x_t - 1, n_t + n_c, x_t + x_c, n_t)``: of x_t + x_c unhealthy devices among
    n_t + n_c, at least x_t are among the n_t treated ones, where only the draw is random.
    """
    unhealthy, everybody = x_t + x_c, n_t + n_c
    fewest, most = max(0, unhealthy - n_c), min(unhealthy, n_t)
    if x_t <= fewest:
        return 1.0
    # Sum the side that the mode is not on: its terms only fall, so nothing underflows that counts.
    if x_t > (unhealthy + 1) * (n_t + 1) // (everybody + 2):
        return min(1.0, _sum(x_t, most, unhealthy, n_t, everybody, 1))
    return max(0.0, 1.0 - _sum(x_t - 1, fewest, unhealthy, n_t, everybody, -1))


def _sum(first: int, last: int, unhealthy: int, drawn: int, everybody: int, step: int) -> float:
    """Σ P(X = k) from ``first`` to ``last`` for a hypergeometric X, away from the mode."""

    def choose(n: int, k: int) -> float:
        return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)

    healthy = everybody - unhealthy
    log = choose(unhealthy, first) + choose(healthy, drawn - first) - choose(everybody, drawn)
    term = total = math.exp(log)
    for k in range(first, last, step):
        if step > 0:
            over = (unhealthy - k) * (drawn - k)
            under = (k + 1) * (healthy - drawn + k + 1)
        else:
            over = k * (healthy - drawn + k)
            under = (unhealthy - k + 1) * (drawn - k + 1)
        term *= over / under
        total += term
        if term <= total * 1e-18:
            break
    return total


def upper(x: int, n: int, b: float) -> float:
    """The upper Clopper-Pearson bound of a rate: P(below the true rate) <= b."""
    return 1.0 if x >= n else 1.0 - float(special().betaincinv(n - x, x + 1, b))


def lower(x: int, n: int, b: float) -> float:
    """The lower Clopper-Pearson bound of a rate: P(above the true rate) <= b."""
    return 0.0 if x <= 0 else float(special().betaincinv(x, n - x + 1, b))


def loss(x_t: int, n_t: int, x_c: int, n_c: int, b: float) -> float:
    """The largest share of devices that would be healthy which the firmware may have taken.

    1 - (1 - upper(x_t, n_t)) / (1 - lower(x_c, n_c)), each bound at b/2: P(below the true share)
    <= b, whatever the dependence between the groups. It may be negative.
    """
    return 1.0 - (1.0 - upper(x_t, n_t, b / 2)) / (1.0 - lower(x_c, n_c, b / 2))


def product(x_t: int, n_t: int, x_c: int, n_c: int, share: float) -> float:
    """The product of two P values that the firmware takes ``share`` of the healthy devices.

    The largest, over each control rate p, of P(X_T <= x_t | 1 - (1 - share)(1 - p)) times
    P(X_C >= x_c | p). On each of 1,000 cells of p the first factor is taken at the left end and the
    second at the right end, so the result is never too small. Needs independent devices.
    """
    import numpy as np

    edges = np.linspace(0.0, 1.0, CELLS + 1)
    betainc = special().betainc
    treated: Any = 1.0 - (1.0 - share) * (1.0 - edges[:-1])
    few: Any = 1.0 if x_t >= n_t else betainc(n_t - x_t, x_t + 1, 1.0 - treated)
    many: Any = 1.0 if x_c <= 0 else betainc(x_c, n_c - x_c + 1, edges[1:])
    return float(np.max(few * many * np.ones(CELLS)))


@cache
def product_bound(b: float) -> float:
    """κ with κ·(1 - ln κ) = b: the product of two P values is at most κ with a chance of b."""
    low, high = 0.0, 1.0
    while low < (middle := (low + high) / 2) < high:
        if middle * (1.0 - math.log(middle)) <= b:
            low = middle
        else:
            high = middle
    return low
