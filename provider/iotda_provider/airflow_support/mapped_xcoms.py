"""The XCom of a mapped task in a template: the list that it is, in every version of Airflow."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


class MappedXComsAsLists:
    """A mixin for operators and sensors, before Airflow's class.

    Airflow 2 writes such an XCom into a text as ``LazySelectSequence([2 items])``, without what is
    in it. What a user has set as Jinja's ``finalize`` is left alone.
    """

    def render_template_fields(self, context: Any, jinja_env: Any = None) -> None:
        environment = jinja_env or self.get_template_env()  # type: ignore[attr-defined]
        if environment.finalize is None:
            environment.finalize = _as_list
        super().render_template_fields(context, environment)  # type: ignore[misc]


def _as_list(value: Any) -> Any:
    is_lazy = isinstance(value, Sequence) and type(value).__name__.startswith("Lazy")
    return list(value) if is_lazy else value
