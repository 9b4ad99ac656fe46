"""Which devices get the old package back after a release was stopped for the firmware's fault."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from iotda_provider.guards import EnoughSuccess
from iotda_provider.models import OtaPackage, SubtaskStatus
from iotda_provider.models.statuses import WITHOUT_OUTCOME
from iotda_provider.release.manifest import OTHER_VERSION, UNREAD_VERSION

#: Whether devices get the old package back, if the release is stopped for the firmware's fault.
NEVER_BACK, ASK, AT_ONCE = ROLLBACKS = ("never", "ask", "at once")

ROLL_BACK = "roll_back"
NOT_CONFIRMED = "not_confirmed"
HAD_IT_BEFORE = "had_it_before"
BEFORE_UNKNOWN = "version_before_unknown"
STILL_INSTALLING = "still_installing"
_SAID = {
    ROLL_BACK: "get the old package",
    NOT_CONFIRMED: "were not confirmed by this release",
    HAD_IT_BEFORE: "ran the new version before",
    BEFORE_UNKNOWN: "run the new version, and nobody knows what they ran before",
    STILL_INSTALLING: "are still installing",
    OTHER_VERSION: "do not run the new version",
    UNREAD_VERSION: "say not what they run",
}

WORDS = tuple(_SAID)
#: How many devices are confirmed at a time: at least so many, or this share of all.
_LEAST_AT_A_TIME, _SHARE_AT_A_TIME = 5, 0.1
_FIRST_WAVE = 0.05
#: The most ids in an XCom: ids may be long.
_MOST_NAMED = 700


@dataclass(frozen=True)
class Versions:
    """What is known of the versions that matter.

    :param new: what the release has brought
    :param old: what the package for the way back brings
    :param before: what each device ran when its wave began; left out: nobody knows
    :param now: what each device runs now; None or left out: nobody knows
    """

    new: str
    old: str
    before: Mapping[str, str | None]
    now: Mapping[str, str | None]


@dataclass
class WayBack:
    """Every device of a release under the one word that says whether it gets the old package.

    ``roll_back``: it does: this release has confirmed it, it runs the new version now, and ran
    another one before. All other words say why not: ``not_confirmed`` (by this release),
    ``had_it_before``, ``version_before_unknown``, ``still_installing``, ``runs_another_version``
    (failed without changing its version, or has gone back by itself), ``version_unread``.
    """

    counted: Counter[str] = field(default_factory=Counter)
    #: The devices that get the old package.
    devices: list[str] = field(default_factory=list)
    #: Those of them that ran another version before than the package brings.
    from_another: list[str] = field(default_factory=list)
    #: The first of the devices that do not get it, by the word that says why.
    others: dict[str, list[str]] = field(default_factory=dict)

    @property
    def counts(self) -> dict[str, int]:
        """How many devices there are under each word."""
        return {word: self.counted[word] for word in WORDS}

    @property
    def summary(self) -> str:
        """The same in one sentence, which begins with the outcome."""
        left = [
            f"{count} {_SAID[word]}"
            for word, count in self.counts.items()
            if count and word != ROLL_BACK
        ]
        others = len(self.from_another)
        text = f"{len(self.devices)} device(s) {_SAID[ROLL_BACK]}"
        text += f" ({others} of them ran yet another version before)" if others else ""
        return f"{text}; of the others, {', '.join(left)}." if left else f"{text}."


def sort_out(
    found: WayBack,
    members: Iterable[str],
    confirmed: Collection[str],
    statuses: Mapping[str, SubtaskStatus],
    versions: Versions,
) -> Iterator[dict[str, Any]]:
    """Decide for each device of one batch task; a row for each, for a report.

    Nothing is assumed: a device whose version could not be read, before or now, stays as it is.

    :param found: the results of earlier batch tasks; these devices are added to it
    :param members: the devices of the batch task
    :param confirmed: those that this release has confirmed, or may have
    :param statuses: the subtask's status of each device, as far as it is not a final one
    """
    for device in members:
        before, now = versions.before.get(device), versions.now.get(device)
        word = _word(device in confirmed, statuses.get(device), before, now, versions.new)
        found.counted[word] += 1
        if word == ROLL_BACK:
            found.devices.append(device)
            if before != versions.old:
                found.from_another.append(device)
        elif found.counted.total() - len(found.devices) <= _MOST_NAMED:
            found.others.setdefault(word, []).append(device)
        yield {"target": device, "outcome": word, "version_before": before, "version_now": now}


def _word(
    confirmed: bool,
    status: SubtaskStatus | None,
    before: str | None,
    now: str | None,
    new: str,
) -> str:
    if not confirmed:
        return NOT_CONFIRMED
    if before == new:
        return HAD_IT_BEFORE
    if status in WITHOUT_OUTCOME:  # it may change its version at any moment
        return STILL_INSTALLING
    if not now:
        return UNREAD_VERSION
    if now != new:
        return OTHER_VERSION
    return ROLL_BACK if before else BEFORE_UNKNOWN


def why_not_back(new: OtaPackage, old: OtaPackage) -> str:
    """Why one package can't be the way back from another; empty: it can.

    :param new: the package of the release
    :param old: the package that devices are to get back
    """
    for name, what in (("package_type", "type"), ("product_id", "product")):
        one, other = getattr(old, name), getattr(new, name)
        if one != other:
            return f"its {what} is {one}, and that of package {new.package_id} is {other}"
    if old.version == new.version:
        return f"it brings version {new.version}, as package {new.package_id} does"
    if old.source_versions and new.version not in old.source_versions:
        return (
            f"it can be installed on {', '.join(old.source_versions)[:300]} only "
            f"(support_source_versions), and devices will run {new.version}"
        )
    return ""


def way_back_waves(devices: int, gate: EnoughSuccess, late: int = 0) -> tuple[list[str], int]:
    """The waves for the way back, and how many devices may be under way at the same time.

    Each wave is large enough to pass by its numbers. If there are too few devices for two waves,
    there is one, and few of its devices are under way at a time, so that a bad package is stopped
    early.

    :param devices: how many devices get the old package
    :param gate: what a wave must show
    :param late: how many of them come after all others
    """
    needed = gate.smallest_passing_sample()
    others = devices - late if devices > late else devices
    first = max(needed, math.ceil(_FIRST_WAVE * others))
    waves = ["100%"] if 2 * first > others else [str(first), "100%"]
    at_a_time = max(_LEAST_AT_A_TIME, math.ceil(_SHARE_AT_A_TIME * devices))
    return waves, at_a_time


def late_of(devices: Sequence[str], offline: Collection[str], gate: EnoughSuccess) -> list[str]:
    """Who comes after all others, so that nobody waits for devices that are offline.

    These are the devices that are offline. If the others are too few for a wave that can pass,
    nobody comes later: in such a wave an offline device takes up a place only for a few minutes.

    :param devices: the devices that get the old package
    :param offline: those of them that are not online now
    :param gate: what a wave must show
    """
    late = [device for device in devices if device in offline]
    are_too_few = len(devices) - len(late) < gate.smallest_passing_sample()
    return list(devices) if late and are_too_few else late
