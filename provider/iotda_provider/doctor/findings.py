"""What an examination has found, as a table for people or as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from enum import Enum
from textwrap import wrap
from typing import Any

from iotda_provider.models.text import one_line

_LONGEST_DETAIL = 700
_LEAST_WIDTH = 40


class Result(str, Enum):
    """What a check has shown."""

    OK = "ok"
    FAILS = "FAILS"  # something would fail at the worst moment
    WARNING = "warning"  # works now, and may be in the way later
    UNKNOWN = "unknown"  # it could not be found out, or only by a change


@dataclass(frozen=True)
class Finding:
    """One row.

    :param part: the part of the examination, such as ``permissions``
    :param check: what was checked, in a few words
    :param detail: what was seen, and what to do about it: one line
    """

    part: str
    check: str
    result: Result
    detail: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "detail", one_line(self.detail, _LONGEST_DETAIL))


@dataclass(frozen=True)
class Report:
    """All findings about one connection."""

    conn_id: str
    findings: Sequence[Finding]

    @property
    def failing(self) -> list[Finding]:
        """The findings because of which something would fail."""
        return [finding for finding in self.findings if finding.result is Result.FAILS]

    @property
    def exit_code(self) -> int:
        """1 if something would fail at the worst moment, otherwise 0."""
        return 1 if self.failing else 0

    def to_dict(self) -> dict[str, Any]:
        """The report as plain JSON."""
        rows = [{**asdict(one), "result": one.result.value} for one in self.findings]
        return {"connection": self.conn_id, "fails": len(self.failing), "findings": rows}

    def table(self, width: int | None = None) -> str:
        """The report as a table.

        :param width: the characters of a line, beyond which details go on in the next; None: each
            finding has one line, however long
        """
        checks = max((len(one.check) for one in self.findings), default=0)
        results = max(len(one.value) for one in Result)
        indent = " " * (2 + results + 2 + checks + 2)
        room = _LONGEST_DETAIL if width is None else max(_LEAST_WIDTH, width - len(indent))
        lines: list[str] = []
        part = None
        for one in self.findings:
            if one.part != part:
                part = one.part
                lines += ["", part]
            first, *rest = wrap(one.detail, room) or [""]
            head = f"  {one.result.value:<{results}}  {one.check:<{checks}}  "
            lines += [f"{head}{first}".rstrip(), *(f"{indent}{line}" for line in rest)]
        return "\n".join([f"Connection {self.conn_id}", *lines, "", self.summary])

    @property
    def summary(self) -> str:
        """The report in one sentence."""
        warnings = sum(one.result is Result.WARNING for one in self.findings)
        unknown = sum(one.result is Result.UNKNOWN for one in self.findings)
        rest = f"{warnings} warning(s), {unknown} thing(s) that could not be found out."
        if not self.failing:
            return f"OK: nothing that was tried would fail. {rest}"
        names = ", ".join(one.check for one in self.failing)
        return f"FAILS: {len(self.failing)} of {len(self.findings)} checks: {names}. {rest}"
