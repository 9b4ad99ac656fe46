"""What becomes of the values that Airflow keeps, so that its fakes are not kinder than Airflow."""

from __future__ import annotations

import json
from typing import Any

from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_0_PLUS

#: With what Airflow's scheduler resumes a deferred task whose own limit is over.
TIMED_OUT = {"error": "Trigger timeout" if AIRFLOW_V_3_0_PLUS else "Trigger/execution timeout"}


def as_xcom(value: Any) -> Any:
    """What is pulled of a value that was pushed."""
    if AIRFLOW_V_3_0_PLUS:
        from airflow.sdk.serde import deserialize, serialize

        return deserialize(as_json(serialize(value)))
    from airflow.utils.json import XComDecoder, XComEncoder

    return json.loads(json.dumps(value, cls=XComEncoder), cls=XComDecoder)


def as_state(value: Any) -> Any:
    """What is read of a value that was kept in the task state store."""
    from pydantic import JsonValue, TypeAdapter

    assert value is not None, "Airflow raises a ValueError"
    return as_json(TypeAdapter(JsonValue).validate_python(value))


def as_json(value: Any) -> Any:
    """What is read of JSON that was written, such as a trigger's arguments and events.

    A JSON column of Postgres sorts the keys of objects; its text has no NUL and no half of a
    surrogate pair. JSON has no infinite number.
    """
    text = json.dumps(value, allow_nan=False, ensure_ascii=False)
    text.encode()
    assert "\\u0000" not in text, "Postgres takes no NUL"
    return _sorted(json.loads(text))


def _sorted(value: Any) -> Any:
    if isinstance(value, dict):
        keys = sorted(value, key=lambda key: (len(key.encode()), key.encode()))
        return {key: _sorted(value[key]) for key in keys}
    return [_sorted(each) for each in value] if isinstance(value, list) else value
