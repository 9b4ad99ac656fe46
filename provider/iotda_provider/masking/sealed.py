"""Keeps secrets out of pickles, and out of the local variables that error reports show."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, NoReturn, TypeVar

T_co = TypeVar("T_co", covariant=True)
E = TypeVar("E", bound=BaseException)


class Unpicklable:
    """A base class for what holds secrets: it refuses to be pickled or copied."""

    def __reduce_ex__(self, protocol: Any) -> NoReturn:
        raise TypeError(f"{type(self).__name__} holds secrets: it can't be pickled")


class Sealed(Unpicklable, Generic[T_co]):
    """A secret that no repr shows."""

    def __init__(self, secret: T_co) -> None:
        self._get: Callable[[], T_co] = lambda: secret

    def reveal(self) -> T_co:
        """The secret."""
        return self._get()

    def __repr__(self) -> str:
        return "<sealed>"


def without_frames(error: E) -> E:
    """The error without its traceback, cause and context: their local variables hold secrets.

    Raise it outside of the ``except`` block that caught it, which would set its context again.
    """
    error.__traceback__ = error.__cause__ = error.__context__ = None
    return error
