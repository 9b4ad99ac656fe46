"""Makes a hook's public methods out of the descriptions of calls, so that each is written once."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, TypeVar

F = TypeVar("F", bound=Callable[..., Any])


def described_by(description: Callable[..., Any], method: F) -> F:
    """Give a method the parameters and the docstring of the function that describes its call."""
    signature = inspect.signature(description)
    itself = inspect.Parameter("self", inspect.Parameter.POSITIONAL_OR_KEYWORD)
    method.__signature__ = signature.replace(  # type: ignore[attr-defined]
        parameters=[itself, *signature.parameters.values()],
        return_annotation=inspect.Signature.empty,
    )
    method.__doc__ = description.__doc__
    return method
