"""Which sensors may start in the triggerer, without any worker: a check when the DAG is parsed."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from iotda_provider.exceptions import IoTDAConfigError

# `{{ params.x }}` and `{{ params['x'] }}`: all that a triggerer renders right.
_PARAMS = re.compile(r"\{\{-?\s*params(\.\w+|\[\s*(['\"])\w+\2\s*\])+\s*-?\}\}")


def check_start_from_trigger(fields: Mapping[str, Any]) -> None:
    """Whether these templated fields mean in a triggerer what they would mean in a worker.

    There, an XCom or any other template stays what it is, and the wait would never end.

    :param fields: the values of templated parameters, by name
    :raises ValueError: one is neither plain nor made of ``params``; or Airflow is too old for it
    """
    from airflow import __version__

    if tuple(int(part) for part in __version__.split(".")[:2]) < (3, 3):
        raise ValueError(
            f"start_from_trigger needs Airflow 3.3 or later, this is {__version__}: use "
            "deferrable=True"
        )
    for name, value in fields.items():
        if value is None:
            continue
        left = _PARAMS.sub("", value) if isinstance(value, str) else None
        if left is None or "{{" in left or "{%" in left or "{#" in left:
            raise ValueError(
                f"start_from_trigger: {name} must be plain text or hold nothing but "
                f"'{{{{ params.x }}}}', because a triggerer renders nothing else; got {value!r}. "
                "Use deferrable=True instead"
            )


def check_plain_id(value: str) -> None:
    """A batch task id that is written out must be one; a template is checked when it is rendered.

    :raises ValueError: it can't be one
    """
    from iotda_provider.api import check_task_id

    if "{{" not in value:
        try:
            check_task_id(value)
        except IoTDAConfigError as error:
            raise ValueError(str(error)) from None
