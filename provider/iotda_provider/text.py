"""Text from elsewhere, made fit for a log line, an XCom and an error."""

from __future__ import annotations


def one_line(value: object, longest: int) -> str:
    """One line without control characters, cut where it is longer than ``longest``."""
    text = value if isinstance(value, str) else str(value)
    if len(text) > 2 * longest:
        text = text[: 2 * longest]  # before looking at each of a million characters
    if not text.isprintable():
        text = " ".join("".join(char if char.isprintable() else " " for char in text).split())
    return text if len(text) <= longest else text[: longest - 1] + "…"
