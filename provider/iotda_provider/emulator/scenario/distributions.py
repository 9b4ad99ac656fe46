"""Delays in seconds: a number, or a distribution that a delay is drawn from."""

from __future__ import annotations

import math
from collections.abc import Mapping
from statistics import NormalDist
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Discriminator, Tag, model_validator

from iotda_provider.emulator.common.field_types import LONGEST, Seconds, within
from iotda_provider.emulator.common.strict_model import (
    IN_OUR_WORDS,
    PLAIN_VALUE,
    TAG,
    StrictModel,
    wrong,
)

_NORMAL = NormalDist()


class Constant(StrictModel):
    """Always the same delay."""

    distribution: Literal["constant"] = "constant"
    value: Seconds

    def at(self, u: float) -> float:
        """The delay at this quantile (0 ≤ u < 1)."""
        return self.value


class Uniform(StrictModel):
    """Any delay between two limits, all equally likely."""

    distribution: Literal["uniform"] = "uniform"
    min: Seconds
    max: Seconds

    @model_validator(mode="after")
    def _are_in_order(self) -> Uniform:
        if self.max < self.min:
            raise wrong("max", "must not be below min")
        return self

    def at(self, u: float) -> float:
        """The delay at this quantile (0 ≤ u < 1)."""
        return self.min + (self.max - self.min) * u


class Exponential(StrictModel):
    """An exponential distribution; ``max`` cuts its tail off."""

    distribution: Literal["exponential"] = "exponential"
    mean: Seconds
    max: Seconds = LONGEST

    def at(self, u: float) -> float:
        """The delay at this quantile (0 ≤ u < 1)."""
        return min(self.max, -self.mean * math.log1p(-u))


class Lognormal(StrictModel):
    """A lognormal distribution; ``max`` cuts its tail off.

    :param sigma: the standard deviation of the delay's natural logarithm
    """

    distribution: Literal["lognormal"] = "lognormal"
    median: Seconds
    sigma: Annotated[float, within(0, 10)]
    max: Seconds = LONGEST

    def at(self, u: float) -> float:
        """The delay at this quantile (0 ≤ u < 1)."""
        # The inverse of the normal distribution has no value at 0 itself.
        return min(self.max, self.median * math.exp(self.sigma * _NORMAL.inv_cdf(max(u, 1e-12))))


def _tag(value: Any) -> str:
    if isinstance(value, Mapping):
        return TAG.format(value.get("distribution"))
    return PLAIN_VALUE


def _as_constant(value: Any) -> dict[str, Any]:
    return {"value": value}


Delay = Annotated[
    Annotated[Constant, BeforeValidator(_as_constant), Tag(PLAIN_VALUE)]
    | Annotated[Constant, Tag("<constant>")]
    | Annotated[Uniform, Tag("<uniform>")]
    | Annotated[Exponential, Tag("<exponential>")]
    | Annotated[Lognormal, Tag("<lognormal>")],
    Discriminator(
        _tag,
        custom_error_type=IN_OUR_WORDS,
        custom_error_message="must be a number, or an object whose distribution is one of constant,"
        " uniform, exponential, lognormal",
    ),
]
