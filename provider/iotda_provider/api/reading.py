"""Pieces of answers that several calls share: rows and pages."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from iotda_provider.api.call import Page
from iotda_provider.models import BatchTask

T = TypeVar("T")

#: Rows that one page may hold.
MAX_PAGE = 50


def rows_of(data: Any, key: str, read: Callable[[Any], T]) -> tuple[T, ...]:
    return tuple(read(row) for row in (data.get(key) or ()))


def nothing(data: Any) -> None:
    """The result of a call whose answer says no more than that it is done.

    :raises ValueError: it says something else
    """
    if data is not None and not isinstance(data, dict):
        raise ValueError(f"it is {type(data).__name__}, not an object")


def page_of(data: Any, rows: tuple[T, ...], limit: int, task: BatchTask | None = None) -> Page[T]:
    page = data.get("page") or {}
    marker, total = page.get("marker"), page.get("count")
    return Page(
        rows,
        marker=str(marker) if marker else None,
        total=total if isinstance(total, int) else None,
        full=len(rows) >= limit,
        task=task,
    )


def page_query(limit: int, marker: str | None) -> tuple[tuple[str, str], ...]:
    return (("limit", str(limit)), *((("marker", marker),) if marker else ()))
