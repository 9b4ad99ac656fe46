"""Log e-values of beta-binomial mixture tests, accurate from one device to ten million.

An e-value is evidence that stays valid however often it is looked at: while the true failure rate
is at most the tolerated one, the chance that it *ever* reaches 1/alpha is at most alpha (Ville's
inequality). All values here are natural logarithms.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from iotda_provider.models.heavy_libraries import special

FLOOR = -700.0
"""The lowest log evidence that is returned; ``exp`` of less is 0 in double precision."""

# Below this the regularised integral loses digits, and soon underflows to 0.
_TINY = 1e-250


def log_e(failed: int, devices: int, tolerated_rate: float) -> float:
    """Log evidence that devices fail more often than ``tolerated_rate``.

    A likelihood ratio, averaged over the failure rates θ above p0 with the prior Beta(a, b)
    truncated to (p0, 1), a = 1, b = max(1, 1/(5·p0))::

        logE = betaln(a+s, b+f) - betaln(a, b)
             + log P(Beta(a+s, b+f) > p0) - log P(Beta(a, b) > p0)
             - s·log(p0) - f·log(1-p0)

    with s = failed, f = devices - failed, p0 = tolerated_rate. It rises with each failure and
    falls with each device that has not failed.

    :return: at least ``FLOOR``; NaN if double precision is not enough
    """
    prior = (1.0, max(1.0, 1.0 / (5.0 * tolerated_rate)))
    return _log_mixture(failed, devices - failed, tolerated_rate, prior, above=True)


def log_g(unproven: int, devices: int, max_failure_rate: float) -> float:
    """Log evidence that devices fail less often than ``max_failure_rate``.

    The mirror image of :func:`log_e`: the prior Beta(1, max(1, 1/p1)) is truncated to (0, p1)::

        logG = betaln(a+u, b+k) - betaln(a, b)
             + log P(Beta(a+u, b+k) < p1) - log P(Beta(a, b) < p1)
             - u·log(p1) - k·log(1-p1)

    with u = unproven (failed or unfinished), k = devices - unproven, p1 = max_failure_rate.
    """
    prior = (1.0, max(1.0, 1.0 / max_failure_rate))
    return _log_mixture(unproven, devices - unproven, max_failure_rate, prior, above=False)


#: c of the test that knows how late failures report.
_PRIOR = 0.2


def log_e_of_hazard(failed: int, hazard: float) -> float:
    """Log evidence that more devices have failed, or sooner, than a cumulative hazard allows.

    With S = failed and Λ = hazard, the sum over all devices that ever started of the chance that
    each has failed by now (:class:`~iotda_provider.guards.ReportingDelay`), the evidence is a
    likelihood ratio, averaged over the ratios r > 1 of the true hazard to Λ, with an exponential
    prior of mean 6: E = ∫ r^S·exp(-(r-1)·Λ)·c·exp(-c·(r-1)) dr, c = 0.2::

        log E = log c + x + gammaln(S+1) + log Q(S+1, x) - (S+1)·log x,   x = Λ + c

    Q is the regularised upper incomplete gamma function. It underflows for small S, where the same
    value is a sum of positive terms: E = (c/x)·Σ_{k=0..S} Π_{j<k} (S-j)/x. The evidence rises with
    each failure and falls with the hazard.

    :return: at least ``FLOOR``; NaN is given as ``FLOOR``, which never decides
    """
    x = hazard + _PRIOR
    if not math.isfinite(x) or hazard < 0 or failed < 0:
        return FLOOR
    if failed < x:
        value = math.log(_PRIOR / x) + math.log(_falling_sum(failed, x))
    else:
        functions: Any = special()
        tail = float(functions.gammaincc(failed + 1, x))
        if not tail > 0:
            return FLOOR
        value = math.log(_PRIOR) + x + math.lgamma(failed + 1) + math.log(tail)
        value -= (failed + 1) * math.log(x)
    return FLOOR if math.isnan(value) else max(FLOOR, value)


def _falling_sum(failed: int, x: float) -> float:
    """Σ_{k=0..S} Π_{j<k} (S-j)/x for S < x."""
    total = term = 1.0
    for j in range(failed):
        term *= (failed - j) / x
        total += term
        if term < 1e-17 * total:
            break
    return total


def log_mean(weights: Iterable[float], logs: Iterable[float]) -> float:
    """log Σ w·exp(x), computed without overflow; NaN if any x is NaN."""
    terms = [math.log(weight) + log for weight, log in zip(weights, logs, strict=True) if weight]
    if any(math.isnan(term) for term in terms):
        return math.nan
    top = max(terms, default=-math.inf)
    if math.isinf(top):
        return FLOOR if top < 0 else top
    return max(FLOOR, top + math.log(math.fsum(math.exp(term - top) for term in terms)))


def _log_mixture(
    hits: int, misses: int, rate: float, prior: tuple[float, float], *, above: bool
) -> float:
    a, b = prior
    try:
        value = _log_mass(hits, misses, rate, a, b, above) - _log_mass(0, 0, rate, a, b, above)
    except (ValueError, OverflowError, ZeroDivisionError):
        return math.nan
    return value if math.isnan(value) else max(FLOOR, value)


def _log_mass(hits: int, misses: int, rate: float, a: float, b: float, above: bool) -> float:
    """log ∫ t^(a+hits-1)·(1-t)^(b+misses-1) dt on one side of p, minus log(p^hits·(1-p)^misses)."""
    functions: Any = special()
    alpha, beta = a + hits, b + misses
    # The integral above p is the one below 1-p with the exponents exchanged. (scipy has betaincc
    # only since 1.14.)
    near, far, edge = (beta, alpha, 1.0 - rate) if above else (alpha, beta, rate)
    share = float(functions.betainc(near, far, edge))
    log_rate, log_rest = math.log(rate), math.log1p(-rate)
    if share > _TINY:
        whole = float(functions.betaln(alpha, beta))
        return whole + math.log(share) - hits * log_rate - misses * log_rest
    if math.isnan(share):
        return math.nan
    # Far in the tail, the integral is the integrand at the edge times a continued fraction, which
    # converges fast there. rate^hits·(1-rate)^misses then cancels exactly.
    fraction = _continued_fraction(near, far, edge)
    return a * log_rate + b * log_rest - math.log(near) + math.log(fraction)


def _continued_fraction(a: float, b: float, x: float) -> float:
    """The continued fraction of the incomplete beta integral, by Lentz's method (DLMF 8.17.22)."""
    tiny = 1e-300
    c, d = 1.0, 1.0 - (a + b) * x / (a + 1.0)
    d = 1.0 / (d if abs(d) > tiny else tiny)
    result = d
    for m in range(1, 100_000):
        for term in (
            m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m)),
            -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1)),
        ):
            d = 1.0 + term * d
            d = 1.0 / (d if abs(d) > tiny else tiny)
            c = 1.0 + term / c
            c = c if abs(c) > tiny else tiny
            result *= d * c
        if abs(d * c - 1.0) < 1e-15:
            return result
    return math.nan
