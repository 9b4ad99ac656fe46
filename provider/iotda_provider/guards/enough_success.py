"""The gate between waves: have enough devices succeeded to go on?"""

from __future__ import annotations

import math
from bisect import bisect_left
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

from iotda_provider.guards.e_values import log_g
from iotda_provider.guards.look import Counts
from iotda_provider.guards.rule import Rule
from iotda_provider.guards.sequential import odds
from iotda_provider.guards.verdict import Decision, Undecided, Verdict
from iotda_provider.guards.wording import percent
from iotda_provider.models import checks


@dataclass(frozen=True)
class EnoughSuccess(Rule):
    """Says ``go`` when the failure rate is shown to be below ``max_failure_rate``.

    Every unfinished device counts as failed: u = started - success, k = started - u, and with
    p1 = max_failure_rate, beta = false_go, a = 1, b = max(1, 1/p1)::

        logG = betaln(a+u, b+k) - betaln(a, b)
             + log I_p1(a+u, b+k) - log I_p1(a, b)
             - u·log(p1) - k·log1p(-p1)
        go when logG >= log(1/beta), wait otherwise

    P(ever going on when the true failure rate is at least p1) <= beta, whatever the delays and
    however often one looks (Ville's inequality, as for :class:`SequentialFailureTest`; devices must
    fail independently). Devices that already had the new version prove nothing: pass their number
    as ``already_current``, and they count neither as started nor as successes.

    A wave can be too small to pass even if every device succeeds: see
    :meth:`smallest_passing_sample`, and let a person decide there.

    :param max_failure_rate: p1, above 0 and below 1 (5 % is 0.05)
    :param false_go: beta, the largest chance of ever going on when the failure rate is p1 or more,
        above 0 and below 1
    :raises ValueError: a parameter makes no sense; the message names it
    """

    max_failure_rate: float
    false_go: float = 0.05

    undecided_means: ClassVar[Decision] = Decision.WAIT

    def __post_init__(self) -> None:
        for name in ("max_failure_rate", "false_go"):
            object.__setattr__(self, name, checks.rate(name, getattr(self, name)))

    @property
    def log_bound(self) -> float:
        """log(1/beta): the log evidence that opens the gate."""
        return -math.log(self.false_go)

    def log_evidence(self, unproven: int, devices: int) -> float:
        """The log evidence for going on; ``unproven`` devices have failed or not finished."""
        return log_g(unproven, devices, self.max_failure_rate)

    def passes(self, unproven: int, devices: int) -> bool:
        """Whether the gate opens with so many failed or unfinished devices."""
        return self.log_evidence(unproven, devices) >= self.log_bound

    def smallest_passing_sample(self) -> int:
        """The number of devices that must succeed, without a failure, before the gate can open.

        A wave with fewer devices can never pass: say so before it starts, and ask a person.

        :raises ValueError: no number of devices is enough
        """
        enough = 1
        while not self.passes(0, enough):
            enough *= 2
            if enough > 2**53:
                raise ValueError(f"max_failure_rate {self.max_failure_rate} can never be shown")
        return bisect_left(range(enough), True, enough // 2 + 1, key=partial(self.passes, 0))

    def _judge(self, counts: Counts) -> Verdict:
        progress = counts.progress
        # Leaving out too many devices is the careful side for a gate.
        current = min(counts.observed.already_current, progress.success)
        devices = counts.ever_started - current
        unproven = devices - (progress.success - current)
        value = self.log_evidence(unproven, devices)
        goes = value >= self.log_bound
        share = unproven / devices if devices else 0.0
        return self._verdict(
            Decision.GO if goes else Decision.WAIT,
            f"{devices - unproven} of {devices} started devices have succeeded, {percent(share)} "
            f"have failed or not finished (below {percent(self.max_failure_rate)} to go on)",
            f"evidence {odds(value)}; {self.name} goes on at {odds(self.log_bound)}.",
            Undecided.EVIDENCE if math.isnan(value) else None,
            measure="log_evidence",
            value=value,
            bound=self.log_bound,
            unproven=unproven,
            succeeded=devices - unproven,
            devices=devices,
            already_current=current,
        )
