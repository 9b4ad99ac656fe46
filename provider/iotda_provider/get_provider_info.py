"""What Airflow reads about this provider without importing any of its code that does work."""

from __future__ import annotations

from typing import Any

from iotda_provider import __version__
from iotda_provider.connection_form import EXTRA_FIELDS, UI_FIELD_BEHAVIOUR, ExtraField

INTEGRATION = "Huawei Cloud IoTDA"
_DOCUMENTATION = "https://support.huaweicloud.com/intl/en-us/iothub/index.html"


def get_provider_info() -> dict[str, Any]:
    """The provider's metadata, in the shape of Airflow's ``provider_info.schema.json``."""
    return {
        "package-name": "airflow-provider-iotda",
        "name": INTEGRATION,
        "description": "Guarded firmware rollouts and batch tasks on Huawei Cloud IoTDA.",
        "versions": [__version__],
        "integrations": [
            {
                "integration-name": INTEGRATION,
                "external-doc-url": _DOCUMENTATION,
                "tags": ["service"],
            }
        ],
        "hooks": _modules("iotda_provider.hooks.iotda"),
        "connection-types": [
            {
                "connection-type": "iotda",
                "hook-name": INTEGRATION,
                "hook-class-name": "iotda_provider.hooks.iotda.IoTDAHook",
                "ui-field-behaviour": UI_FIELD_BEHAVIOUR,
                "conn-fields": {field.name: _form_field(field) for field in EXTRA_FIELDS},
            }
        ],
    }


def _modules(*names: str) -> list[dict[str, Any]]:
    return [{"integration-name": INTEGRATION, "python-modules": list(names)}]


_JSON_TYPES = {
    "text": "string",
    "secret": "string",
    "choice": "string",
    "verify": "string",
    "number": "number",
    "integer": "integer",
    "flag": "boolean",
    "mapping": "object",
}


def _form_field(field: ExtraField) -> dict[str, Any]:
    # The form demands a field whose type does not admit null.
    schema: dict[str, Any] = {"type": [_JSON_TYPES[field.kind], "null"]}
    if field.kind == "secret":
        schema["format"] = "password"
    if field.choices:
        schema["enum"] = list(field.choices)
    if field.kind in ("number", "integer"):
        schema["minimum"] = field.minimum
    if field.default is not None:
        # `verify` is a text in the form, as it may be a path.
        schema["default"] = "true" if field.kind == "verify" else field.default
    return {"label": field.label, "description": field.description, "schema": schema}
