"""Reads files that a connection names: its editor may name any file of the worker."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def opened(path: str, most: int) -> Iterator[int]:
    """A descriptor of a regular file, closed at the end of the block; never waits for a FIFO.

    All checks are of the descriptor, so the file can't be replaced in between.

    :param most: how many bytes the file may have
    :raises OSError: it can't be opened
    :raises ValueError: it is no regular file, is empty or too large; the error quotes nothing of it
    """
    file = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    try:
        facts = os.fstat(file)
        if not stat.S_ISREG(facts.st_mode):
            raise ValueError("it is no regular file")
        if not facts.st_size:  # or a virtual file of the kernel, which may be endless
            raise ValueError("it is empty")
        if facts.st_size > most:
            raise ValueError(f"it has {facts.st_size:,} bytes; at most {most:,} are allowed")
        yield file
    finally:
        os.close(file)


def read(path: str, most: int) -> bytes:
    """The content of a regular file.

    :raises OSError: it can't be opened
    :raises ValueError: it is no regular file, or too large; the error quotes nothing of it
    """
    with opened(path, most) as file:
        parts = []
        left = most + 1  # it may have grown
        while left and (part := os.read(file, left)):
            parts.append(part)
            left -= len(part)
        if not left:
            raise ValueError(f"it has more than {most:,} bytes")
        return b"".join(parts)
