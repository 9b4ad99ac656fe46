"""Keeps secrets out of what tools make of an error: the locals of its frames, and pickles."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, NoReturn, TypeVar

T_co = TypeVar("T_co", covariant=True)
E = TypeVar("E", bound=BaseException)


class Unpicklable:
    """What holds secrets, and so refuses to be pickled or copied."""

    def __reduce_ex__(self, protocol: Any) -> NoReturn:
        raise TypeError(f"{type(self).__name__} holds secrets: it can't be pickled")


class Sealed(Unpicklable, Generic[T_co]):
    """Something secret that shows nowhere: not in its repr, nor in that of what holds it."""

    def __init__(self, secret: T_co) -> None:
        self._get: Callable[[], T_co] = lambda: secret

    def reveal(self) -> T_co:
        """What it holds."""
        return self._get()

    def __repr__(self) -> str:
        return "<sealed>"


def without_frames(error: E) -> E:
    """The error, without the frames below its next ``raise``, whose locals hold secrets.

    Raise it outside of the ``except`` that caught it, or it gets the same frames as its context.
    """
    error.__traceback__ = error.__cause__ = error.__context__ = None
    return error
