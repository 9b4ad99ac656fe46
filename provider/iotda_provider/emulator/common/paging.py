"""Paging as IoTDA does it: newest first, from a marker, with an offset that counts from it."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TypeVar

from iotda_provider.emulator.common import errors

_T = TypeVar("_T")
_MARKER = re.compile(r"[0-9a-fA-F]{24}")
_DIGITS = re.compile(r"[0-9]{1,9}")

MAX_LIMIT = 50
MAX_OFFSET = 500
NEWEST = "f" * 24


@dataclass(frozen=True)
class Page:
    """What a client asked to see: ``limit`` records below ``marker``, past ``offset`` others."""

    limit: int = 10
    marker: str = NEWEST
    offset: int = 0

    @classmethod
    def read(cls, query: Mapping[str, str]) -> Page:
        """From the query, within the documented limits.

        :raises ApiError: something is out of its range
        """
        limit = query.get("limit", "10")
        if not _DIGITS.fullmatch(limit) or not 1 <= int(limit) <= MAX_LIMIT:
            raise errors.bad_limit()
        offset = query.get("offset", "0")
        if not _DIGITS.fullmatch(offset) or int(offset) > MAX_OFFSET:
            raise errors.invalid(f"offset must be a whole number from 0 to {MAX_OFFSET}.")
        marker = query.get("marker", NEWEST)
        if not _MARKER.fullmatch(marker):
            raise errors.bad_marker()
        return cls(int(limit), marker.lower(), int(offset))

    def newest(self, ascending: Sequence[int], before: int) -> list[int]:
        """This page of numbers in ascending order: those below ``before``, the last ones first.

        It takes as long for the last page as for the first.
        """
        end = max(0, bisect_left(ascending, before) - self.offset)
        return list(ascending[max(0, end - self.limit) : end])[::-1]

    def cut(self, records: Iterable[_T]) -> list[_T]:
        """This page of records, which are already those below the marker."""
        return list(islice(records, self.offset, self.offset + self.limit))


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
