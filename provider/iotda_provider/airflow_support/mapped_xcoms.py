"""The XCom of a mapped task in a template: the list that it is, in every version of Airflow."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from airflow.providers.common.compat.sdk import BaseOperator


class MappedXComsAsLists(BaseOperator):
    """An operator or sensor, before Airflow's own class among its bases.

    Airflow 2 writes such an XCom into a text as ``LazySelectSequence([2 items])``, without what is
    in it. What a user has set as Jinja's ``finalize`` is left alone.
    """

    def render_template_fields(self, context: Any, jinja_env: Any = None) -> None:
        environment = jinja_env or self.get_template_env()
        if environment.finalize is None:
            environment.finalize = _as_list
        super().render_template_fields(context, environment)


def _as_list(value: Any) -> Any:
    is_lazy = isinstance(value, Sequence) and type(value).__name__.startswith("Lazy")
    return list(value) if is_lazy else value
