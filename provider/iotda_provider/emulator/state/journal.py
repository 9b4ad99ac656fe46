"""What was asked of the emulator, request by request, for assertions."""

from __future__ import annotations

import re
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping
from fnmatch import fnmatchcase
from typing import Any

from iotda_provider.emulator.common import strict_json
from iotda_provider.emulator.common.errors import ScenarioError
from iotda_provider.emulator.identity.iam import matching_a_call

MAX_ENTRIES = 10_000
MAX_BODY = 64 * 1024

# Names of headers and query parameters that are never kept, because their values are secrets.
_SECRET = re.compile(r"auth|cookie|token|secret|password|passwd|credential|signature|session|key")

Entry = dict[str, Any]


def body_of(raw: bytes) -> Any:
    """A body as an entry keeps it: its JSON, otherwise its text; None if it is too long."""
    if not raw or len(raw) > MAX_BODY:
        return None
    text = raw.decode("utf-8", "replace")
    try:
        return strict_json.parse(text)
    except ValueError:
        return text


def without_secrets(fields: Mapping[str, str]) -> dict[str, str]:
    """Headers or a query as an entry keeps them."""
    return {name: value for name, value in fields.items() if not _SECRET.search(name.lower())}


class Journal:
    """The last requests, oldest first.

    :param keep: called with each entry, to keep it elsewhere too
    :param before: entries of before a restart
    """

    def __init__(
        self, keep: Callable[[Entry], None] | None = None, before: Iterable[Entry] = ()
    ) -> None:
        self._keep = keep
        self._entries: deque[Entry] = deque(before, maxlen=MAX_ENTRIES)
        #: How many requests there were of each call, since this process began or :meth:`clear`.
        self.counts: Counter[str] = Counter()
        self._made = self._entries[-1]["n"] if self._entries else 0

    def add(self, entry: Mapping[str, Any]) -> None:
        """Write down one request; it gets the next number, ``n``."""
        self._made += 1
        numbered = {"n": self._made, **entry}
        self._entries.append(numbered)
        self.counts[entry["call"] or ""] += 1
        if self._keep is not None:
            self._keep(numbered)

    def entries(self, call: str = "*", after: int = 0, limit: int | None = None) -> list[Entry]:
        """The requests of calls that match a pattern, numbered above ``after``, oldest first.

        :raises ScenarioError: the pattern matches no call
        """
        try:
            matching_a_call(call)
        except ValueError as error:
            raise ScenarioError(f"journal.call {error}") from None
        found = [
            entry
            for entry in self._entries
            if entry["n"] > after and fnmatchcase(entry["call"] or "", call)
        ]
        return found if limit is None else found[:limit]

    def clear(self) -> None:
        """Empty the journal; numbers continue."""
        self.counts.clear()
        self._entries.clear()
