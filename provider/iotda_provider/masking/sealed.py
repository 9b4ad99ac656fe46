"""Keeps secrets out of pickles, and out of the local variables that error reports show."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, NoReturn, TypeVar

T_co = TypeVar("T_co", covariant=True)


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


class without_frames:
    """Raises an error of this block without traceback, cause and context.

    The local variables in their frames hold secrets, which error reports would show.
    """

    def __enter__(self) -> None: ...

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        del traceback
        if error is not None:
            error.__traceback__ = error.__cause__ = error.__context__ = None
            try:
                raise error
            finally:
                del error
