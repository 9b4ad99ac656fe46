"""What is counted of the two groups at one look, and what the trial answers."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from enum import Enum
from typing import Any

from iotda_provider.models.checks import whole

LOSS, PRODUCT = METHODS = ("loss", "product")
#: Below this share of updated devices the group says too little of the firmware to go on.
LEAST_UPDATED = 0.5


class Decision(str, Enum):
    """What one look says.

    ``WORSE`` stops the release. ``NO_WORSE`` lets a wave pass that the trial is required for.
    ``UNDECIDED`` does neither.
    """

    WORSE = "worse"
    NO_WORSE = "no worse"
    UNDECIDED = "undecided"

    def __str__(self) -> str:
        return str(self.value)


@dataclass(frozen=True)
class Group:
    """The devices of one group by their state at one look.

    :param unknown: devices whose state is not known; they count against every decision
    """

    unhealthy: int
    healthy: int
    unknown: int = 0

    def __post_init__(self) -> None:
        for name in ("unhealthy", "healthy", "unknown"):
            object.__setattr__(self, name, whole(name, getattr(self, name)))

    @property
    def devices(self) -> int:
        """All devices of the group: nobody leaves it after the draw."""
        return self.unhealthy + self.healthy + self.unknown

    @property
    def mostly_known(self) -> bool:
        """Whether at most a tenth of the devices is unknown."""
        return 10 * self.unknown <= self.devices


@dataclass(frozen=True, kw_only=True)
class Answer:
    """A trial's answer to one look.

    :param look: which look of the gate, from 1
    :param p: P of "is it worse?"; it is at ``stops_at`` or less
    :param p_newest: the same with the newest wave alone as the treated group, a fresh draw; None:
        there is no wave before it
    :param method: ``loss`` or ``product``, for "is it no worse?"
    :param value: its value; it is no worse below ``goes_below`` (``product``: or at it)
    :param margin: the share of the devices that the firmware may take
    :param updated: the share of the treated devices that report the new version
    :param worse: the answer to the first question
    :param no_worse: the answer to the second one
    :param what: what unhealthy devices are called
    """

    look: int
    treated: Group
    control: Group
    p: float
    stops_at: float
    p_newest: float | None
    method: str
    value: float
    goes_below: float
    margin: float
    updated: float
    worse: bool
    no_worse: bool
    what: str

    @property
    def decision(self) -> Decision:
        """What follows; where both answers are yes, it is worse."""
        if self.worse:
            return Decision.WORSE
        return Decision.NO_WORSE if self.no_worse else Decision.UNDECIDED

    @property
    def sentence(self) -> str:
        """Both groups' counts, the decision, P and the bounds, in one sentence for a person."""
        treated = _unhealthy_of(self.treated, f"updated devices are {self.what}")
        return f"{treated}, {_unhealthy_of(self.control, 'others')}: {self._decided}."

    def to_json(self) -> dict[str, Any]:
        """As plain JSON."""
        return {**asdict(self), "decision": str(self.decision), "sentence": self.sentence}

    @property
    def _decided(self) -> str:
        for group, name in ((self.treated, "updated devices"), (self.control, "others")):
            if not group.devices:
                return f"not decided, as there are no {name} to compare"
            if not group.mostly_known:
                return f"not decided, as more than a tenth of the {name} is unknown"
        chance = f"P = {_short(self.p)} (it stops at {_short(self.stops_at)})"
        if self.worse and self.no_worse:
            return f"worse, {chance}, but by less than {_percent(self.margin)}: {self._lost}"
        if self.worse:
            return f"worse, {chance}"
        if self.no_worse:
            return f"no worse, {self._lost}; {chance}"
        return f"not decided, {chance}; {self._lost}"

    @property
    def _lost(self) -> str:
        if self.updated < LEAST_UPDATED:
            return f"only {_percent(self.updated)} of them run the new version (50 % to go on)"
        if self.method != LOSS:
            return (
                f"the chance of this with {_percent(self.margin * self.updated)} of the devices "
                f"lost is {_short(self.value)} (at most {_short(self.goes_below)} to go on)"
            )
        most, are = ("at most", "are") if self.no_worse else ("up to", "may be")
        return (
            f"{most} {_percent(self.value)} of the devices that would be healthy {are} lost (below "
            f"{_percent(self.goes_below)} to go on)"
        )


def _unhealthy_of(group: Group, what: str) -> str:
    unknown = f" ({group.unknown:,} unknown)" if group.unknown else ""
    return f"{group.unhealthy:,} of {group.devices:,} {what}{unknown}"


def _percent(share: float) -> str:
    return f"{100 * share:.2g} %" if share < 0.995 else f"{100 * share:.3g} %"


def _short(p: float) -> str:
    return f"{p:.1g}" if p < 0.001 else f"{p:.2g}"
