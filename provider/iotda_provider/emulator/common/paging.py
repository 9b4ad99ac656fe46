"""Paging as IoTDA does it: newest first, from a marker, with an offset that counts from it."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from operator import attrgetter
from typing import Any, Protocol, TypeVar

_T = TypeVar("_T")

MAX_LIMIT = 50
MAX_OFFSET = 500
NEWEST = "f" * 24


@dataclass(frozen=True)
class Page:
    """What a client asked to see: ``limit`` records below ``marker``, past ``offset`` others."""

    limit: int = 10
    marker: str = NEWEST
    offset: int = 0

    def newest(self, ascending: Sequence[int], before: int) -> list[int]:
        """This page of numbers in ascending order: those below ``before``, the last ones first.

        It takes as long for the last page as for the first.
        """
        end = max(0, bisect_left(ascending, before) - self.offset)
        return list(ascending[max(0, end - self.limit) : end])[::-1]

    def cut(self, records: Iterable[_T]) -> list[_T]:
        """This page of records, which are already those below the marker."""
        return list(islice(records, self.offset, self.offset + self.limit))


class Record(Protocol):
    """A record that the API lists; the ids are in the order of creation."""

    record_id: str

    def describe(self, brief: bool = False) -> dict[str, Any]:
        """The record as the API shows it."""


def listed(title: str, records: Iterable[Record], page: Page) -> dict[str, object]:
    """An answer with one page of these records, newest first; they may come in any order."""
    found = sorted(records, key=attrgetter("record_id"), reverse=True)
    shown = page.cut(record for record in found if record.record_id < page.marker)
    return {
        title: [record.describe(brief=True) for record in shown],
        "page": described(len(found), shown, attrgetter("record_id")),
    }


def below(ids: Sequence[str], marker: str) -> Iterator[str]:
    """Ids below the marker, newest first, of ids that are sorted oldest first."""
    for place in range(bisect_left(ids, marker) - 1, -1, -1):
        yield ids[place]


def described(
    count: int, records: Sequence[_T], record_id: Callable[[_T], str]
) -> dict[str, object]:
    """The answer's ``page``; an empty page has no marker, because it has no last record."""
    page: dict[str, object] = {"count": count}
    if records:
        page["marker"] = record_id(records[-1])
    return page
