"""Renders the XCom of a mapped task as a list in templates, in every version of Airflow."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from airflow.providers.common.compat.sdk import BaseOperator


class MappedXComsAsLists(BaseOperator):
    """A base class of operators and sensors; name it before Airflow's own class.

    Airflow 2 renders such an XCom as ``LazySelectSequence([2 items])``, without the items. A
    ``finalize`` of Jinja's environment that the user has set is not replaced.
    """

    def render_template_fields(self, context: Any, jinja_env: Any = None) -> None:
        environment = jinja_env or self.get_template_env()
        if environment.finalize is None:
            environment.finalize = _as_list
        super().render_template_fields(context, environment)


def _as_list(value: Any) -> Any:
    is_lazy = isinstance(value, Sequence) and type(value).__name__.startswith("Lazy")
    return list(value) if is_lazy else value
