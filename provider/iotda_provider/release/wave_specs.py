"""How the waves of a release are written down: shares, counts, groups, and the rest."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from itertools import islice, pairwise
from typing import Any

from iotda_provider.models.text import what_is
from iotda_provider.task_io.parameters import as_list

PERCENT, COUNT, GROUP, REST = "percent", "count", "group", "rest"

_PERCENT = re.compile(r"([0-9]{1,3}(?:\.[0-9]{1,6})?) {0,9}%")
_GROUP = re.compile(r"group:([a-fA-F0-9-]{1,36})")
#: The most characters of a list of waves, and the most waves.
_LONGEST, _MOST_WAVES, _MOST_DEVICES = 2000, 100, 999_999_999


@dataclass(frozen=True)
class WaveSpec:
    """One wave as it is asked for.

    :param kind: ``percent`` and ``count`` are cumulative, of the devices that are not kept for the
        end; ``group`` is every device of a group that is in no wave yet; ``rest`` all that is left
    :param label: the wave in the words in which it was asked for
    :param share: for ``percent``, from 0 to 1
    :param count: for ``count``, in devices
    :param group_id: for ``group``
    """

    kind: str
    label: str
    share: Fraction = Fraction(0)
    count: int = 0
    group_id: str = ""

    @classmethod
    def parse(cls, value: Any) -> WaveSpec:
        """Read ``"5%"``, ``500`` (or ``"500"``), ``"group:<id>"`` or ``"rest"``.

        :raises ValueError: it is none of these
        """
        is_count = isinstance(value, int) and 0 < value <= _MOST_DEVICES
        if isinstance(value, bool) or not (isinstance(value, str) or is_count):
            raise ValueError(f"waves: {what_is(value, instead_of='a wave')} is no wave: {_FORMS}")
        text = str(value).strip()
        if match := _PERCENT.fullmatch(text):
            share = Fraction(match[1]) / 100
            if not 0 < share <= 1:
                raise ValueError(f"waves: {text!r} must be above 0 % and at most 100 %")
            return cls(REST if share == 1 else PERCENT, text, share=share)
        if text.isascii() and text.isdecimal() and 0 < len(text) <= 9 and int(text) > 0:
            return cls(COUNT, text, count=int(text))
        if match := _GROUP.fullmatch(text):
            return cls(GROUP, text, group_id=match[1])
        if text.lower() == REST:
            return cls(REST, REST)
        if text.startswith("group:"):
            raise ValueError(
                f"waves: {what_is(text)} takes a group's ID, not its name: 1 to 36 characters of "
                "a-f, A-F, 0-9 and -, as the console shows it"
            )
        raise ValueError(f"waves: {what_is(text)} is no wave: {_FORMS}")

    def size(self, fleet: int) -> int:
        """How many of so many devices are in this wave and those before it, rounded up."""
        if self.kind == PERCENT:
            return math.ceil(self.share * fleet)
        return min(self.count, fleet) if self.kind == COUNT else fleet


_FORMS = "give '5%' or 500 (both count from the first device), 'group:<group id>' or 'rest'"


def parse_waves(value: Any) -> tuple[WaveSpec, ...]:
    """The waves of a release, in order; the last one takes all that is left.

    :param value: a list, or text with commas: ``"1%, 5%, 25%, 100%"``
    :raises ValueError: a wave makes no sense, they do not grow, or the last leaves devices out
    """
    if isinstance(value, str) and len(value) > _LONGEST:
        raise ValueError(f"waves must have at most {_LONGEST} characters, got {len(value)}")
    listed = value.split(",") if isinstance(value, str) else value
    if not isinstance(listed, Iterable) or isinstance(listed, (bytes, Mapping)):
        raise ValueError(f"waves must be a list, got {what_is(value, instead_of='a list')}")
    items = list(islice(listed, _MOST_WAVES + 1))
    if len(items) > _MOST_WAVES:
        raise ValueError(f"waves must be at most {_MOST_WAVES}, got more")
    specs = tuple(WaveSpec.parse(item) for item in items)
    labels = ", ".join(spec.label for spec in specs)
    if not specs:
        raise ValueError("waves must name at least one wave")
    if specs[-1].kind != REST:
        raise ValueError(
            f"waves must end with '100%' or 'rest', not {specs[-1].label!r}: devices that no wave "
            "takes would wait for ever"
        )
    if any(spec.kind == REST for spec in specs[:-1]):
        raise ValueError("waves: nothing is left for a wave after '100%' or 'rest'")
    for kind in (PERCENT, COUNT):
        sizes = [spec.share or spec.count for spec in specs if spec.kind == kind]
        if any(later <= earlier for earlier, later in pairwise(sizes)):
            raise ValueError(f"waves must grow, each counting from the first device: {labels}")
    groups = [spec.group_id for spec in specs if spec.kind == GROUP]
    if len(set(groups)) < len(groups):
        raise ValueError(f"waves name a group twice: {labels}")
    return specs


def wave_specs(value: Any) -> tuple[WaveSpec, ...]:
    """The waves in any form of a list parameter, or as text with commas.

    :raises ValueError: they make no sense
    """
    text = value.strip() if isinstance(value, str) else ""
    return parse_waves(value if text and text[0] not in "[(" else as_list(value, "waves"))
