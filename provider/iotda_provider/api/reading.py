"""Pieces of answers that several calls share: rows and pages."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from iotda_provider.api.call import Page
from iotda_provider.models import BatchTask

T = TypeVar("T")

#: Rows that one page may hold.
MAX_PAGE = 50
_LONGEST_MARKER = 1_024


def rows_of(data: Any, key: str, read: Callable[[Any], T], most: int) -> tuple[T, ...]:
    """The rows under a key; none where it is left out.

    :param most: as many as were asked for
    :raises ValueError: there are more, or it is no list
    """
    rows = data.get(key) or ()
    if not isinstance(rows, (list, tuple)):
        raise ValueError(f"{key} is no list")
    if len(rows) > most:
        raise ValueError(f"{key} has {len(rows)} rows, more than the {most} that were asked for")
    return tuple(read(row) for row in rows)


def nothing(data: Any) -> None:
    """The result of a call whose answer says no more than that it is done.

    :raises ValueError: it says something else
    """
    if data is not None and not isinstance(data, dict):
        raise ValueError(f"it is {type(data).__name__}, not an object")


def page_of(data: Any, rows: tuple[T, ...], limit: int, task: BatchTask | None = None) -> Page[T]:
    page = data.get("page") or {}
    marker, total = page.get("marker"), page.get("count")
    if marker and len(str(marker)) > _LONGEST_MARKER:
        raise ValueError(f"a marker of {len(str(marker))} characters")
    is_count = isinstance(total, int) and not isinstance(total, bool) and total >= 0
    return Page(
        rows,
        marker=str(marker) if marker else None,
        total=total if is_count else None,
        full=len(rows) >= limit,
        task=task,
    )


def page_query(limit: int, marker: str | None) -> tuple[tuple[str, str], ...]:
    return (("limit", str(limit)), *((("marker", marker),) if marker else ()))
