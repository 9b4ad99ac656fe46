"""A release by its numbers alone: what its check leaves for a dry run. No Airflow, no I/O."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from iotda_provider.models.json_text import PlainJson, checked_fields
from iotda_provider.release.planning import Membership
from iotda_provider.task_io.parameters import as_list, whole_number


@dataclass(frozen=True)
class Outline(PlainJson):
    """How large a release is, and what its check had to read.

    :param labels: of each wave
    :param cumulative: the devices of each wave with those before it
    :param late: devices that were not online lately
    :param late_waves: how many waves at the end hold these
    :param has_groups: whether some waves are device groups
    :param in_groups: devices in the groups of the release
    :param groups: how many groups were read, those that are waves included
    :param of_product: devices of the package's product
    :param asked_when_online: devices that were asked, one by one, since when they are offline
    :param packages: packages that were read: two, if there is one for the way back
    """

    labels: tuple[str, ...]
    cumulative: tuple[int, ...]
    late: int
    late_waves: int
    has_groups: bool
    in_groups: int
    groups: int
    of_product: int
    asked_when_online: int
    packages: int

    @classmethod
    def of(cls, waves: Membership, late: int, **counts: Any) -> Outline:
        """The outline of some waves.

        :param counts: the other fields
        """
        return cls(waves.labels, waves.cumulative, late, waves.late, **counts)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Outline:
        """The inverse of :meth:`to_json`.

        :raises ValueError: it is not what that returns
        """
        outline = cls(
            **checked_fields(cls, data, "outline", labels=_read_labels, cumulative=_read_sizes)
        )
        labels, sizes = outline.labels, outline.cumulative
        if not sizes or len(labels) != len(sizes) or sorted(set(sizes)) != [*sizes]:
            raise ValueError("outline: each wave needs a label and at least one device")
        return outline


def _read_labels(data: Any) -> tuple[str, ...]:
    return tuple(map(str, as_list(data, "outline: labels")))


def _read_sizes(data: Any) -> tuple[int, ...]:
    sizes = as_list(data, "outline: cumulative")
    return tuple(whole_number(one, "outline: cumulative") for one in sizes)
