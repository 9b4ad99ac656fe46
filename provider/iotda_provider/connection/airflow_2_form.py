"""Airflow 2 only: the fields of the connection form, for its web framework."""

from __future__ import annotations

from typing import Any

from iotda_provider.connection.fields import ExtraField


def form_field(spec: ExtraField) -> Any:
    """The form field for one field of Extra."""
    from flask_appbuilder.fieldwidgets import BS3PasswordFieldWidget, BS3TextFieldWidget
    from flask_babel import lazy_gettext
    from wtforms import BooleanField, IntegerField, PasswordField, StringField
    from wtforms.validators import AnyOf, NumberRange, Optional

    common = {
        "label": lazy_gettext(spec.label),
        "description": spec.description,
        "default": spec.default,
    }
    if spec.is_secret:
        return PasswordField(widget=BS3PasswordFieldWidget(), **common)
    if spec.kind == "flag":
        return BooleanField(**common)
    if spec.kind == "choice":
        return StringField(widget=_choose, validators=[Optional(), AnyOf(spec.choices)], **common)
    if spec.kind == "integer":
        limits = [Optional(), NumberRange(min=spec.minimum)]
        return IntegerField(widget=BS3TextFieldWidget(), validators=limits, **common)
    if spec.kind == "number":
        return StringField(widget=_enter_number, validators=[Optional(), _is_number], **common)
    return StringField(widget=BS3TextFieldWidget(), **common)


def _choose(field: Any, **attributes: Any) -> Any:
    """A widget for a text field: a list of choices."""
    from markupsafe import Markup, escape
    from wtforms.widgets import html_params

    (choices,) = (rule.values for rule in field.validators if hasattr(rule, "values"))
    attributes = {"id": field.id, "class": "form-control", **attributes, "name": field.name}
    options = (
        f"<option {html_params(value=choice, selected=choice == field.data)}>{escape(choice)}"
        "</option>"
        for choice in choices
    )
    return Markup(f"<select {html_params(**attributes)}>{''.join(options)}</select>")  # noqa: S704


def _enter_number(field: Any, **attributes: Any) -> Any:
    """A widget for a text field: a number with any decimals."""
    from flask_appbuilder.fieldwidgets import BS3TextFieldWidget

    return BS3TextFieldWidget()(field, **{**attributes, "type": "number", "step": "any"})


def _is_number(form: Any, field: Any) -> None:
    from wtforms.validators import ValidationError

    try:
        number = float(field.data)
    except (TypeError, ValueError):
        raise ValidationError("Not a number.") from None
    if not 0 < number < float("inf"):
        raise ValidationError("Must be a positive number.")
