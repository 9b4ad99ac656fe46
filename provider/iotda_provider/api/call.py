"""An API call as a value: a plain request, and the function that reads its answer."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from functools import cached_property
from typing import Any, Generic, TypeVar
from urllib.parse import quote

from iotda_provider.exceptions import IoTDAConfigError
from iotda_provider.models import BatchTask

T = TypeVar("T")

#: The most rows that one page may hold.
MAX_PAGE = 50
_LONGEST_MARKER = 1_024


class Repeat(Enum):
    """What sending the call a second time does, if the first answer was lost."""

    READ = "only reads, so it may be repeated"
    NOT_NEEDED = "only reads, and is not repeated: its caller has another way"
    HARMLESS = "asks for a state, so a second time changes nothing"
    ONCE = "does something new each time, so it is never repeated blindly"

    @property
    def is_read(self) -> bool:
        """Whether the call changes nothing."""
        return self in (Repeat.READ, Repeat.NOT_NEEDED)


@dataclass(frozen=True)
class Outgoing:
    """A request, ready to be signed and sent.

    :param path: percent-encoded
    :param query: pairs of name and value, not encoded yet
    """

    method: str
    host: str
    path: str
    query: tuple[tuple[str, str], ...] = ()
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""

    @cached_property
    def query_string(self) -> str:
        """The query, sorted and percent-encoded, as it is signed and sent."""
        return "&".join(
            f"{quote(key, safe='~')}={quote(value, safe='~')}" for key, value in sorted(self.query)
        )

    @property
    def uri(self) -> str:
        """Path and query as they are sent."""
        return f"{self.path}?{self.query_string}" if self.query else self.path


@dataclass(frozen=True)
class Call(Generic[T]):
    """One call of the API.

    :param action: what it does, in words that complete "Could not ..."
    :param path: its path, with ``{project_id}`` in it
    :param read: makes the result from the answer's JSON (None for an empty body); a ValueError,
        KeyError, TypeError or AttributeError means that the answer makes no sense
    :param body: plain JSON; None: no body
    :param permission: the IAM action that the caller needs; None: unknown
    :param goes_first: whether it takes the next moment of the rate limit, before calls that wait
    """

    action: str
    path: str
    read: Callable[[Any], T]
    method: str = "GET"
    query: tuple[tuple[str, str], ...] = ()
    body: Any = None
    repeat: Repeat = Repeat.READ
    permission: str | None = None
    goes_first: bool = False

    def outgoing(self, *, host: str, project_id: str, headers: Mapping[str, str]) -> Outgoing:
        """The request for one project at one host, not yet signed.

        :raises IoTDAConfigError: the body cannot be written as JSON, or the query as UTF-8
        """
        body = b"" if self.body is None else self._json_body()
        path = self.path.replace("{project_id}", quote(project_id, safe="~"))
        outgoing = Outgoing(self.method, host, path, self.query, headers, body)
        try:
            _ = outgoing.query_string  # cached: encoded once, here
        except UnicodeEncodeError as error:
            raise IoTDAConfigError(
                f"Could not {self.action}: the query can't be encoded ({error})."
            ) from None
        return outgoing

    def _json_body(self) -> bytes:
        try:
            return json.dumps(self.body, ensure_ascii=False, allow_nan=False).encode()
        except (TypeError, ValueError, RecursionError) as error:
            raise IoTDAConfigError(
                f"Could not {self.action}: the body is not plain JSON ({error})."
            ) from None


@dataclass(frozen=True)
class Page(Generic[T]):
    """One page of a list.

    :param marker: asks for the next page; None: the platform sent none
    :param total: the number of rows in the whole list; None: the platform does not say
    :param full: whether the page has as many rows as were asked for
    :param task: the batch task, in a page of its subtasks
    """

    rows: tuple[T, ...]
    marker: str | None
    total: int | None = None
    full: bool = False
    task: BatchTask | None = None


def page_query(limit: int, marker: str | None, **only: str | None) -> tuple[tuple[str, str], ...]:
    """The query for a page of ``limit`` rows after ``marker``.

    :param only: what the rows must have; None: anything
    """
    given = {"marker": marker or None, **only}
    return (
        ("limit", str(limit)),
        *((key, item) for key, item in given.items() if item is not None),
    )


def page_of(
    data: Any,
    key: str,
    read: Callable[[Any], T],
    limit: int,
    after: str | None,
    task: BatchTask | None = None,
) -> Page[T]:
    """The page in an answer, whose rows stand under ``key``.

    :param after: the marker that was asked for; None: this is the first page
    :raises ValueError: there are more rows than asked for, or the marker is too long; or the first
        page has no rows, and the platform counts some: nobody must take that for an empty list
    """
    rows = rows_of(data, key, read, limit)
    page = data.get("page") or {}
    marker, total = page.get("marker"), page.get("count")
    if marker and len(str(marker)) > _LONGEST_MARKER:
        raise ValueError(f"a marker of {len(str(marker))} characters")
    is_count = isinstance(total, int) and not isinstance(total, bool) and total >= 0
    if is_count and total and not rows and not after:
        raise ValueError(f"page.count is {total}, and {key} has no rows")
    return Page(
        rows,
        marker=str(marker) if marker else None,
        total=total if is_count else None,
        full=len(rows) >= limit,
        task=task,
    )


def rows_of(data: Any, key: str, read: Callable[[Any], T], most: int) -> tuple[T, ...]:
    """The rows under ``key``; empty if the answer has no such key.

    :param most: the number of rows that were asked for
    :raises ValueError: there are more, or they are not a list
    """
    rows = data.get(key) or ()
    if not isinstance(rows, (list, tuple)):
        raise ValueError(f"{key} is no list")
    if len(rows) > most:
        raise ValueError(f"{key} has {len(rows)} rows, more than the {most} that were asked for")
    return tuple(read(row) for row in rows)


def nothing(data: Any) -> None:
    """The result of a call whose answer has no content.

    :raises ValueError: the answer is neither empty nor an object
    """
    if data is not None and not isinstance(data, dict):
        raise ValueError(f"it is {type(data).__name__}, not an object")
