"""The sequential test: one bound on false alarms, however often one looks."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from iotda_provider.guards.e_values import FLOOR, log_e, log_e_of_hazard
from iotda_provider.guards.look import Counts
from iotda_provider.guards.reporting_delay import ReportingDelay
from iotda_provider.guards.rule import ATTEMPTS, CLUSTERS, HISTORY, ClassedRule
from iotda_provider.guards.verdict import Decision, Undecided, Verdict
from iotda_provider.guards.wording import Counted, in_words, percent, share_of
from iotda_provider.models import checks


@dataclass(frozen=True)
class Evidence:
    """The log evidence against a rollout at one look.

    :param least: the evidence that is certain; NaN: double precision is not enough
    :param most: the evidence that is possible, once everything is known
    :param unsure: what must be read to know the evidence; None: it is known
    :param counted: the counts behind it, for a sentence
    :param facts: the same as plain JSON
    :param any_delay: the evidence that holds however late failures report; None: ``least`` does
    """

    least: float
    most: float
    unsure: Undecided | None
    counted: Sequence[Counted]
    facts: dict[str, Any] = field(default_factory=dict)
    any_delay: float | None = None

    @property
    def whatever_delay(self) -> float:
        """The evidence that holds however late failures report."""
        return self.least if self.any_delay is None else self.any_delay


class EvidenceRule(ClassedRule):
    """A rule that compares an e-value with 1/alpha, and with a lower level at which it holds."""

    false_alarm: float | None
    hold_at: float | None

    @property
    def log_bound(self) -> float:
        """log(1/alpha): the log evidence at which the rule breaks."""
        assert self.false_alarm is not None
        return -math.log(self.false_alarm)

    @abstractmethod
    def evidence(self, counts: Counts) -> Evidence:
        """The evidence in counts that add up."""

    @abstractmethod
    def log_evidence(self, failed: int, devices: int) -> float:
        """The log evidence of ``failed`` among ``devices``, with all outcomes known."""

    def breaks(self, failed: int, devices: int) -> bool:
        """Whether so many failures among so many started devices break the rule."""
        return self._decide(self.log_evidence(failed, devices)) is Decision.BREACH

    def _decide(self, log: float) -> Decision:
        # Every comparison with NaN is False, so NaN never decides.
        if log >= self.log_bound:
            return Decision.BREACH
        if self.hold_at is not None and log >= math.log(self.hold_at):
            return Decision.HOLD
        return Decision.CONTINUE

    def _judge(self, counts: Counts) -> Verdict:
        found = self.evidence(counts)
        decision = self._decide(found.least)
        if math.isnan(found.least) or math.isnan(found.most):
            unsure: Undecided | None = Undecided.EVIDENCE
        else:
            unsure = found.unsure if self._decide(found.most) is not decision else None
        return self._verdict(
            decision,
            in_words(found.counted),
            f"evidence against the rollout {_odds_between(found.least, found.most)}"
            f"{self._next_step(decision, unsure)} stops at {odds(self.log_bound)}."
            f"{self._on_delay(decision, found)}",
            unsure,
            measure="log_evidence",
            value=found.least,
            bound=self.log_bound,
            value_at_most=found.most,
            **found.facts,
            **self._delay_facts(decision, found),
        )

    def _rests_on_delay(self, decision: Decision, found: Evidence) -> bool:
        """Whether the decision holds only if failures report no sooner than assumed."""
        return self._decide(found.whatever_delay) is not decision

    def _delay_facts(self, decision: Decision, found: Evidence) -> dict[str, Any]:
        if found.any_delay is None:
            return {}
        rests = decision is not Decision.CONTINUE and self._rests_on_delay(decision, found)
        return {"log_evidence_whatever_delay": found.any_delay, "rests_on_reporting": rests}

    def _on_delay(self, decision: Decision, found: Evidence) -> str:
        if found.any_delay is None or decision is Decision.CONTINUE:
            return ""
        without = f"without this assumption the evidence is {odds(found.any_delay)}"
        if self._rests_on_delay(decision, found):
            return f" That is so if failures report no sooner than assumed; {without}."
        return f" That is so however soon failures report: {without}."

    def _next_step(self, decision: Decision, unsure: Undecided | None) -> str:
        if decision is Decision.HOLD:
            assert self.hold_at is not None
            return f"; {self.name} holds at {odds(math.log(self.hold_at))} and"
        if unsure is Undecided.EVIDENCE:
            return f", as it could not be computed; {self.name}"
        if unsure and decision is not Decision.BREACH:
            return f"; the {unsure} must be read to tell; {self.name}"
        return f"; {self.name}"


def odds(log: float) -> str:
    """Evidence as odds: ``195 to 1``, ``1,110 to 1``."""
    if math.isnan(log):
        return "unknown"
    if log > math.log(1e6):
        return f"10^{log / math.log(10):.0f} to 1"
    if log < math.log(0.001):
        return "less than 0.001 to 1"
    shown = f"{math.exp(log):.3g}"
    return f"{float(shown):,.0f} to 1" if "e" in shown else f"{shown} to 1"


def _odds_between(least: float, most: float) -> str:
    if least == most or not math.isfinite(least + most):
        return odds(least)
    return f"between {odds(least)} and {odds(most)}"


#: With a larger tolerated rate, a test that knows the delay decides later than one that does not.
_MOST_WITH_DELAY = 0.1
#: What :class:`SequentialFailureTest` can count.
COUNTS = ("failed", "attempts")
_REPORTED = {"failed": "final failures", "attempts": "first failed attempts"}


@dataclass(frozen=True)
class SequentialFailureTest(EvidenceRule):
    """Breaks when there is enough evidence that devices fail more often than ``tolerated_rate``.

    With s failed of n started devices, p0 = tolerated_rate, alpha = false_alarm, f = n - s, and the
    prior Beta(a, b) truncated to (p0, 1), a = 1, b = max(1, 1/(5·p0))::

        logE = betaln(a+s, b+f) - betaln(a, b)
             + beta.logsf(p0, a+s, b+f) - beta.logsf(p0, a, b)
             - s·log(p0) - f·log1p(-p0)
        it breaks when logE >= log(1/alpha)

    While the true rate is at most p0, the likelihood ratio of every failure rate above p0 has a
    mean of at most 1. So has their mixture E, which is therefore a nonnegative supermartingale. By
    Ville's inequality, P(E ever reaches 1/alpha) <= alpha: **a rollout within the tolerated rate is
    stopped with a chance of at most alpha, however often and however irregularly one looks**, and
    even if the guard is restarted.

    Assumption: devices fail independently; more exactly, P(device i ever fails | outcomes of the
    devices that started before it) <= p0. n counts *started* devices, so that a device that has not
    reported yet counts as not failed: failures that report sooner than successes do no harm. Let
    devices start in random order: if the worst 200 of 2,500 start first, they look like bad
    firmware. Failures that come in clusters, such as an outage of one site, break the assumption:
    see ``leave_worst_out``.

    A test that counts a device as healthy until it reports loses time where failures report late.
    ``reporting`` says how late they do (:class:`ReportingDelay`), and the test is another one::

        Λ = Σ -log(1 - p0·F(age)), over all devices that ever started, whatever became of them
        log E = log c + x + gammaln(s+1) + log Q(s+1, x) - (s+1)·log(x),   x = Λ + c, c = 0.2

    The bound then holds while each device's chance to have failed by age a is at most p0·F(a). So a
    stop says that devices fail more often than tolerated, *or sooner than F says*; the verdict says
    whether the evidence would do without F (``rests_on_reporting``). If the ages of devices are not
    known, as for those that had started before the first look, F is 1 for them. With F = 1 for all,
    the test decides a failure or two later than without ``reporting`` (tolerated_rate <= 0.02).

    If the platform retries failed devices (``retry_count``), a device has failed only after its
    last attempt, which may take hours. ``counts="attempts"`` does not wait for that: a device
    counts once its latest attempt has failed, whether the platform tries it again or not. For each
    batch task, s is the highest fail + fail_wait_retry ever seen, or the number of devices that
    were ever found waiting for a retry, whichever is more. Neither exceeds the number of devices of
    which some attempt has failed. So the bound holds while at most ``tolerated_rate`` of the
    devices have *any* failed attempt: tolerate more than of final failures, such as 0.2.
    ``reporting`` is then the delay to the first failed attempt.

    :param tolerated_rate: the share of devices that fail with good firmware, above 0 and below 1
        (2 % is 0.02)
    :param false_alarm: alpha, the largest chance of ever stopping a rollout within that rate, above
        0 and below 1
    :param hold_at: evidence at which to hold (confirm no more devices, alert a person), above 1 and
        below 1/alpha. With 10, a healthy rollout is ever held with a chance of at most 1/10. None:
        never hold; a hold helps only if a person is alerted
    :param failure_class: count only failures of this class, or of these; n still counts all devices
    :param leave_worst_out: break only if the evidence reaches the bound even without any one
        cluster. The bound is exact if all clusters but one are healthy. Needs clusters
    :param reporting: how late failures report, if it is known; only with a ``tolerated_rate`` of at
        most 0.1. None: the test holds however late they report
    :param counts: ``failed`` counts devices that have finally failed, ``attempts`` devices of which
        an attempt has failed; the latter without ``failure_class`` and ``leave_worst_out``, because
        only final failures are read with their classes and clusters
    :raises ValueError: a parameter makes no sense; the message names it

    Ville 1939, Étude critique de la notion de collectif; Wald 1945, Sequential tests of
    statistical hypotheses; Robbins 1970, Statistical methods related to the law of the iterated
    logarithm; Johari et al. 2017, arXiv 1512.04922; Howard et al. 2021, arXiv 1810.08240; Lindon &
    Malek 2022, arXiv 2011.03567; Waudby-Smith & Ramdas 2024, arXiv 2010.09686. With ``reporting``:
    the gamma-Poisson mixture of Howard et al., and ter Schure et al. 2024, arXiv 2011.06931.
    """

    tolerated_rate: float
    false_alarm: float = 0.01
    hold_at: float | None = None
    failure_class: Sequence[str] | None = None
    leave_worst_out: bool = False
    reporting: ReportingDelay | None = None
    counts: str = "failed"

    def __post_init__(self) -> None:
        alarm = checks.rate("false_alarm", self.false_alarm)
        self._normalise(
            tolerated_rate=checks.rate("tolerated_rate", self.tolerated_rate),
            false_alarm=alarm,
            hold_at=checks.level("hold_at", self.hold_at, below=1 / alarm),
            leave_worst_out=checks.flag("leave_worst_out", self.leave_worst_out),
            reporting=ReportingDelay.of(self.reporting),
            counts=checks.choice("counts", self.counts, COUNTS),
        )
        if self.reporting is not None:
            self._check_reporting(self.reporting)
        if self.counts_attempts:
            for name, unset in (("failure_class", None), ("leave_worst_out", False)):
                if getattr(self, name) != unset:
                    expected = f"{unset} with counts='attempts', which reads no class or cluster"
                    checks.refuse(name, expected, getattr(self, name))

    def _check_reporting(self, reporting: ReportingDelay) -> None:
        if self.tolerated_rate > _MOST_WITH_DELAY:
            raise ValueError(
                f"reporting: with a tolerated_rate above {_MOST_WITH_DELAY} (here "
                f"{self.tolerated_rate:g}) the test without it is better: leave it out"
            )
        if reporting.counts != self.counts:
            raise ValueError(
                f"reporting: it says how late {_REPORTED[reporting.counts]} are reported, and with "
                f"counts={self.counts!r} the test counts {_REPORTED[self.counts]}: learn it from "
                "those, or leave it out"
            )

    @property
    def counts_attempts(self) -> bool:
        """Whether the rule counts devices of which an attempt has failed."""
        return self.counts == "attempts"

    @property
    def needs(self) -> frozenset[str]:
        more = {
            CLUSTERS: self.leave_worst_out,
            HISTORY: self.reporting is not None,
            ATTEMPTS: self.counts_attempts,
        }
        return super().needs | frozenset(name for name, needed in more.items() if needed)

    @property
    def ages_up_to(self) -> float:
        return 0.0 if self.reporting is None else self.reporting.horizon

    def log_evidence(self, failed: int, devices: int) -> float:
        """The log evidence with all outcomes known, however late they were reported."""
        if self.reporting is None:
            return log_e(failed, devices, self.tolerated_rate)
        return log_e_of_hazard(failed, -devices * math.log1p(-self.tolerated_rate))

    def breaks_by(self, failed: int, hazard: float) -> bool:
        """Whether so many failures break a rule with ``reporting``.

        :param hazard: Λ, as :meth:`ReportingDelay.total_hazard` computes it
        """
        return self._decide(log_e_of_hazard(failed, hazard)) is Decision.BREACH

    def _log_evidence_in(
        self, failed: int, counts: Counts, without: int = 0, *, whatever_delay: bool = False
    ) -> float:
        """The log evidence of ``failed`` in these counts, without so many of the devices."""
        if self.reporting is None or whatever_delay:
            return self.log_evidence(failed, max(failed, counts.devices - without))
        return log_e_of_hazard(failed, self._hazard(counts, without))

    def _hazard(self, counts: Counts, without: int = 0) -> float:
        """Λ, without so many of the devices."""
        assert self.reporting is not None
        observed = counts.observed
        return self.reporting.total_hazard(
            self.tolerated_rate,
            counts.ever_started,
            observed.ages,
            observed.time or 0.0,
            left_out=counts.already_current + without,
        )

    def evidence(self, counts: Counts) -> Evidence:
        devices = counts.devices
        if self.counts_attempts:
            least = most = counts.attempted
        else:
            least, most = counts.failed(self.classes)
        unsure = Undecided.CLASSES if least != most else None
        facts: dict[str, Any] = {
            "failed": least,
            "failed_at_most": most,
            "devices": devices,
            "denominator": "started",
            "rate": least / devices if devices else 0.0,
        }
        if self.counts_attempts:
            final = counts.progress.fail
            facts |= {"attempted": least, "failed": final, "failed_at_most": final}
        any_delay: float | None = None
        notes: tuple[str, ...] = ()
        if self.reporting is not None:
            facts["hazard"] = self._hazard(counts)
            any_delay = self._log_evidence_in(least, counts, whatever_delay=True)
            by_now = f"{facts['hazard']:.3g} by now"
            notes = (f"{percent(self.tolerated_rate)} would be {by_now}",)
        counted = self._counted(counts, least, most, notes)
        if not self.leave_worst_out:
            low = self._log_evidence_in(least, counts)
            high = low if least == most else self._log_evidence_in(most, counts)
            return Evidence(low, high, unsure, counted, facts, any_delay)
        if counts.observed.clusters is None:
            everything = self._log_evidence_in(most, counts)
            return Evidence(FLOOR, everything, Undecided.CLUSTERS, counted, facts, any_delay)
        left, worst = self._without_worst(counts, least)
        facts["left_out"] = worst
        if worst:
            notes += (f"the evidence leaves out {worst}",)
            counted = self._counted(counts, least, most, notes)
        most_left = self._without_worst(counts, most)[0]
        if any_delay is not None:
            any_delay = self._without_worst(counts, least, whatever_delay=True)[0]
        return Evidence(left, most_left, unsure, counted, facts, any_delay)

    def _without_worst(self, counts: Counts, failed: int, **how: bool) -> tuple[float, str | None]:
        """The smallest evidence when any one cluster is left out, and the name of that cluster."""
        clusters = counts.observed.clusters or {}
        # A failure that belongs to no known cluster may belong to any of them.
        astray = max(0, counts.progress.fail - sum(cluster[0] for cluster in clusters.values()))
        known = max(0, failed - astray)
        found: list[tuple[float, str | None]] = [
            (self._log_evidence_in(known, counts, **how), None)
        ]
        for name, (failed_here, started_here) in clusters.items():
            rest = max(0, known - failed_here)
            without = max(0, started_here - counts.already_current)
            found.append((self._log_evidence_in(rest, counts, without, **how), name))
        return min(found, key=lambda item: item[0])

    def _counted(
        self, counts: Counts, least: int, most: int, notes: tuple[str, ...]
    ) -> list[Counted]:
        devices = counts.devices
        share, tolerated = share_of(least, devices), (percent(self.tolerated_rate),)
        of = f"{devices} devices"
        if not self.counts_attempts:
            return [self._failed(least, most, of, share=share, tolerated=tolerated, more=notes)]
        final = counts.progress.fail
        if final == least:
            attempts = (f"{tolerated[0]} with a failed attempt",)
            return [self._failed(final, final, of, share=share, tolerated=attempts, more=notes)]
        return [
            self._failed(final, final, of, share=share_of(final, devices)),
            Counted(str(least), "have a failed attempt", of, share, tolerated, notes),
        ]
