"""A call of the API as a value: a plain request, and a reader of its answer."""

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


class Repeat(Enum):
    """What asking a second time does, when the first answer was lost."""

    READ = "reads only, so it may be repeated"
    HARMLESS = "asks for a state, so a second time changes nothing"
    ONCE = "does something new each time, so it is never repeated blindly"


@dataclass(frozen=True)
class Outgoing:
    """A request ready to be signed and sent.

    ``path`` is percent-encoded as it travels, ``query`` is not encoded yet.
    """

    method: str
    host: str
    path: str
    query: tuple[tuple[str, str], ...] = ()
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""

    @cached_property
    def query_string(self) -> str:
        """The query, sorted and encoded as it is signed."""
        return "&".join(
            f"{quote(key, safe='~')}={quote(value, safe='~')}" for key, value in sorted(self.query)
        )

    @property
    def uri(self) -> str:
        """Path and query as they travel."""
        return f"{self.path}?{self.query_string}" if self.query else self.path


@dataclass(frozen=True)
class Call(Generic[T]):
    """One call of the API.

    :param action: what it does, in words that complete "Could not ..."
    :param path: its path, ``{project_id}`` left open
    :param read: makes the result from the answer's JSON (None for an empty body); a ValueError,
        KeyError, TypeError or AttributeError means that the answer makes no sense
    :param permission: the IAM action that it needs
    """

    action: str
    method: str
    path: str
    read: Callable[[Any], T]
    query: tuple[tuple[str, str], ...] = ()
    body: Any = None
    repeat: Repeat = Repeat.READ
    permission: str | None = None

    def outgoing(self, *, host: str, project_id: str, headers: Mapping[str, str]) -> Outgoing:
        """The request for one project at one host, not yet signed.

        :raises IoTDAConfigError: the body holds what JSON can't, or the query what UTF-8 can't
        """
        body = b"" if self.body is None else self._json_body()
        path = self.path.replace("{project_id}", quote(project_id, safe="~"))
        outgoing = Outgoing(self.method, host, path, self.query, headers, body)
        try:
            _ = outgoing.query_string  # which is kept
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
    """A page of rows and the marker that leads to the next one.

    :param marker: None where the platform sent none
    :param total: how many rows the whole list has, where the platform says so
    :param full: whether the page holds as many rows as were asked for
    """

    rows: tuple[T, ...]
    marker: str | None
    total: int | None = None
    full: bool = False
    task: BatchTask | None = None
