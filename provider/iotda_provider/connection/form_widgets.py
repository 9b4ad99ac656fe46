"""The connection form where Airflow asks the hook for it, as 2.11, 3.1 and 3.2 do.

Later ones take it from the provider info. All that ask know four kinds of fields, and drop a hook
whose form has any other. Airflow 3 asks with stand-ins for the web framework's fields, of which it
only reads what a JSON schema needs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from iotda_provider.connection.fields import EXTRA_FIELDS, UI_FIELD_BEHAVIOUR, conn_fields

if TYPE_CHECKING:
    from iotda_provider.connection.fields import ExtraField


def connection_form_widgets() -> dict[str, Any]:
    """The widgets for the fields of Extra."""
    from wtforms import StringField

    is_stand_in = hasattr(StringField(), "param")
    return {spec.name: _described(spec) if is_stand_in else _drawn(spec) for spec in EXTRA_FIELDS}


def ui_field_behaviour() -> dict[str, Any]:
    """Which of the standard fields the form shows, and what it calls them."""
    return {
        "hidden_fields": list(UI_FIELD_BEHAVIOUR["hidden-fields"]),
        "relabeling": dict(UI_FIELD_BEHAVIOUR["relabeling"]),
        "placeholders": dict(UI_FIELD_BEHAVIOUR["placeholders"]),
    }


def _described(spec: ExtraField) -> Any:
    """Airflow 3: a stand-in, with the schema of the provider info in it."""
    from wtforms import StringField

    field = StringField(label=spec.label, description=spec.description, default=spec.default)
    schema = dict(conn_fields()[spec.name]["schema"])
    default = schema.pop("default", None)
    field.param.schema = {**schema, "title": spec.label}
    field.param.value = default
    return field


def _drawn(spec: ExtraField) -> Any:
    """Airflow 2: a field of the web form."""
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
    """A widget: a list to choose from, for a field of text."""
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
    """A widget: a number with any digits after the point, for a field of text."""
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
