"""Airflow 2: the connection form, which Airflow 3 takes from the provider info instead.

Everything in this file serves Airflow 2 alone; dropping Airflow 2 is deleting it.
"""

from __future__ import annotations

from typing import Any

from iotda_provider.connection_form import EXTRA_FIELDS, UI_FIELD_BEHAVIOUR


class ConnectionFormMixin:
    """The form's widgets as Airflow 2 asks a hook for them."""

    @classmethod
    def get_connection_form_widgets(cls) -> dict[str, Any]:
        """The widgets for the fields of Extra."""
        from flask_appbuilder.fieldwidgets import (
            BS3PasswordFieldWidget,
            BS3TextFieldWidget,
            Select2Widget,
        )
        from flask_babel import lazy_gettext
        from wtforms import (
            BooleanField,
            FloatField,
            IntegerField,
            PasswordField,
            SelectField,
            StringField,
        )
        from wtforms.validators import NumberRange, Optional

        widgets: dict[str, Any] = {}
        for spec in EXTRA_FIELDS:
            common = {
                "label": lazy_gettext(spec.label),
                "description": spec.description,
                "default": spec.default,
            }
            if spec.kind == "secret":
                widget = PasswordField(widget=BS3PasswordFieldWidget(), **common)
            elif spec.kind == "flag":
                widget = BooleanField(**common)
            elif spec.kind == "choice":
                choices = [(word, word) for word in spec.choices]
                widget = SelectField(widget=Select2Widget(), choices=choices, **common)
            elif spec.kind in ("integer", "number"):
                field = IntegerField if spec.kind == "integer" else FloatField
                limits = [Optional(), NumberRange(min=spec.minimum)]
                widget = field(widget=BS3TextFieldWidget(), validators=limits, **common)
            else:
                widget = StringField(widget=BS3TextFieldWidget(), **common)
            widgets[spec.name] = widget
        return widgets

    @classmethod
    def get_ui_field_behaviour(cls) -> dict[str, Any]:
        """Which of the standard fields the form shows, and what it calls them."""
        return {
            "hidden_fields": list(UI_FIELD_BEHAVIOUR["hidden-fields"]),
            "relabeling": dict(UI_FIELD_BEHAVIOUR["relabeling"]),
            "placeholders": dict(UI_FIELD_BEHAVIOUR["placeholders"]),
        }
