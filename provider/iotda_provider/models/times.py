"""Times as text: ISO 8601, as XComs, audits and messages have them, and the platform's form."""

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


def read_platform_time(text: str) -> datetime:
    """Read a time as batch tasks have it, such as ``20151212T121212Z``.

    :raises ValueError: it is no such time
    """
    return datetime.strptime(text, "%Y%m%dT%H%M%SZ").replace(tzinfo=timezone.utc)


# The first call imports a module, which would block the event loop of a triggerer.
read_platform_time("19700101T000000Z")
