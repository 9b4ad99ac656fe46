"""Reads the files that a command is given; one that is endless or far too large is an error."""

from __future__ import annotations

from pathlib import Path
from typing import TextIO

#: An audit of 100,000 looks, the most that a replay takes, has some 50 million characters.
_MOST = 100_000_000


def text_in(file: str) -> str:
    """The text of a file in UTF-8.

    :param file: its path
    :raises OSError: it can't be read
    :raises ValueError: it is no text, or has too many characters
    """
    with Path(file).open(encoding="utf-8") as opened:
        return text_of(opened)


def text_of(opened: TextIO) -> str:
    """The text of an open file.

    :raises ValueError: it is no text, or has too many characters
    """
    text = opened.read(_MOST + 1)
    if len(text) > _MOST:
        raise ValueError(f"the file has more than {_MOST:,} characters")
    return text
