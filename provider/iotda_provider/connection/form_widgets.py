"""The connection form for Airflow 2.11, 3.1 and 3.2, which ask the hook for it.

Later versions read the provider info instead. The versions that ask know four kinds of fields, and
drop a hook with any other kind. Airflow 3 replaces the web framework's fields by stand-ins, and
reads only their JSON schema.
"""

from __future__ import annotations

from copy import copy
from typing import Any

from iotda_provider.connection.airflow_2_form import form_field
from iotda_provider.connection.fields import (
    EXTRA_FIELDS,
    UI_FIELD_BEHAVIOUR,
    ExtraField,
    conn_fields,
)


def connection_form_widgets() -> dict[str, Any]:
    """The widgets for the fields of Extra."""
    from wtforms import StringField

    is_stand_in = hasattr(StringField(), "param")
    return {
        spec.name: _described(spec) if is_stand_in else form_field(spec) for spec in EXTRA_FIELDS
    }


def ui_field_behaviour() -> dict[str, Any]:
    """Which of the standard fields the form shows, and their labels."""
    return {key.replace("-", "_"): copy(value) for key, value in UI_FIELD_BEHAVIOUR.items()}


def _described(spec: ExtraField) -> Any:
    """A stand-in of Airflow 3, with the schema from the provider info."""
    from wtforms import StringField

    field = StringField(label=spec.label, description=spec.description, default=spec.default)
    schema = dict(conn_fields()[spec.name]["schema"])
    default = schema.pop("default", None)
    field.param.schema = {**schema, "title": spec.label}
    field.param.value = default
    return field
