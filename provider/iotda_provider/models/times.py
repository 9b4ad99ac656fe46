"""Times as ISO 8601 in UTC, as XComs, audits and messages have them."""

from __future__ import annotations

from datetime import datetime, timezone


def utc_text(time: float) -> str:
    """Seconds since the epoch as text with milliseconds."""
    when = datetime.fromtimestamp(time, timezone.utc)
    return when.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def read_time(text: str) -> datetime:
    """Read a time; it is in UTC if it names no zone.

    :raises ValueError: it is no time
    """
    when = datetime.fromisoformat(text.replace("Z", "+00:00"))
    return when if when.tzinfo else when.replace(tzinfo=timezone.utc)
