"""How rules say their counts: each count once, for somebody who is on call."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Counted:
    """One count of devices: ``34 of 257 devices failed (13.2 %; 2 % tolerated)``.

    :param many: how many
    :param what: what became of them, such as ``failed``
    :param devices: of how many, in words: ``257 devices``
    :param share: the share that is judged, in words; None: no share is
    :param tolerated: the shares that rules tolerate, in words
    :param more: what else belongs to the count
    """

    many: str
    what: str
    devices: str
    share: str | None = None
    tolerated: tuple[str, ...] = ()
    more: tuple[str, ...] = ()

    def merged(self, other: Counted) -> Counted:
        """Both, where they are the same count, which two rules judge."""
        return replace(
            self,
            share=self.share or other.share,
            tolerated=_distinct(self.tolerated + other.tolerated),
            more=_distinct(self.more + other.more),
        )

    def said(self, *, first: bool) -> str:
        """The count in words; the first one of a sentence says of how many devices."""
        of = f" of {self.devices}" if first else ""
        words = f"{self.many}{of} {self.what}"
        tolerated = f"{' and '.join(self.tolerated)} tolerated" if self.tolerated else ""
        notes = ", ".join(filter(None, (tolerated, *self.more)))
        judged = "; ".join(filter(None, (self.share, notes)))
        return f"{words} ({judged})" if judged else words


FAILED = "failed"


def in_words(counts: Iterable[Counted]) -> str:
    """All counts, each of them once; the devices that failed come first."""
    found: dict[tuple[str, str], Counted] = {}
    for one in counts:
        key = (one.many, one.what)
        found[key] = found[key].merged(one) if key in found else one
    ordered = sorted(found.values(), key=lambda one: one.what != FAILED)
    return ", ".join(one.said(first=not number) for number, one in enumerate(ordered))


def what_failed(classes: Iterable[str] | None) -> str:
    """What became of devices that failed, of all classes or of some."""
    return f"had {'/'.join(classes)} failures" if classes else FAILED


def how_many(least: int, most: int) -> str:
    """A number that is not known for certain: ``3 to 7``."""
    return str(least) if least == most else f"{least} to {most}"


def percent(share: float) -> str:
    """A share as text: ``6.5 %``."""
    return f"{100 * share:.3g} %" if share < 0.9995 else f"{100 * share:.4g} %"


def share_of(count: int, devices: int) -> str:
    """``count`` of ``devices`` as a share; 0 % of none."""
    return percent(count / devices) if devices else "0 %"


def lasting(seconds: float) -> str:
    """Seconds as a person says them: ``26 h``, ``15 min``, ``90 s``."""
    for unit, name in ((3600, "h"), (60, "min")):
        if seconds >= unit and seconds % unit == 0:
            return f"{seconds / unit:.0f} {name}"
    return f"{seconds:.0f} s"


def _distinct(words: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(words))
