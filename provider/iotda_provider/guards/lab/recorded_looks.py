"""An audit trail read back: the records of a file, and their looks for a replay."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from iotda_provider.guards.audit import VERSION, look_of, seconds_of
from iotda_provider.guards.look import Look
from iotda_provider.guards.verdict import Decision
from iotda_provider.models import checks

_MOST_LOOKS = 100_000


@dataclass(frozen=True)
class Audit:
    """What an audit file holds.

    :param header: its first line; empty if the file has no header
    :param records: its looks, as :func:`~iotda_provider.guards.audit.audit_record` made them
    :param cut_off: whether the last line is incomplete, as when the guard was killed while writing
    """

    header: Mapping[str, Any]
    records: tuple[dict[str, Any], ...]
    cut_off: bool = False


def read_audit(text: str) -> Audit:
    """Read an audit: JSON lines as in a file, or one JSON list as in the XCom ``audit``.

    An incomplete last line is left out.

    :raises ValueError: another line is not a record, or the version is unknown
    """
    header: Mapping[str, Any] = {}
    records: list[dict[str, Any]] = []
    broken: str | None = None
    for number, line in enumerate(_lines(text), 1):
        if not line.strip():
            continue
        if broken:
            raise ValueError(broken)
        try:
            item = json.loads(line)
            is_header = isinstance(item, dict) and "audit" in item
            if not is_header:
                look_of(item)
                Decision(item["decision"])
        except (ValueError, KeyError, RecursionError, AttributeError, TypeError) as error:
            broken = f"line {number} is not a record: {str(error) or repr(error)}"
            continue
        if not is_header:
            records.append(item)
        elif item.get("version") == VERSION:
            header = item
        else:
            raise ValueError(
                f"line {number}: version {item.get('version')!r} of the audit format is not known"
            )
    if broken and not records:
        raise ValueError(broken)
    return Audit(header, tuple(records), cut_off=broken is not None)


def _lines(text: str) -> list[str]:
    if not text.lstrip().startswith("["):
        return text.split("\n")
    try:
        return [json.dumps(item) for item in json.loads(text)]
    except RecursionError:
        raise ValueError("the list is nested too deeply") from None


def looks_of(records: Iterable[Mapping[str, Any]]) -> Iterator[Look]:
    """Every look of a trail. Looks that share one record are spread evenly over its time.

    :raises ValueError: something is not a record of a look
    """
    for record in records:
        look = look_of(record)
        yield look
        count = checks.whole("looks", record.get("looks", 1), least=1)
        if count > _MOST_LOOKS:
            checks.refuse("looks", f"at most {_MOST_LOOKS}", count)
        span = seconds_of(record.get("until", look.time)) - look.time if count > 1 else 0.0
        for index in range(1, count):
            later = span * index / (count - 1)
            asked = None if look.requested is None else look.requested + later
            yield replace(look, time=look.time + later, requested=asked)
