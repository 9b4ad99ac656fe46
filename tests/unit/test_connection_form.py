"""The connection form: from the provider info on Airflow 3, from the hook on Airflow 2."""

from __future__ import annotations

import json

import pytest
from airflow.models import Connection

from iotda_provider.connection_form import EXTRA_FIELDS, UI_FIELD_BEHAVIOUR, conn_fields
from iotda_provider.hooks.connection import load_settings
from iotda_provider.hooks.iotda import IoTDAHook

FIELDS = {field.name: field for field in EXTRA_FIELDS}
BY_KIND = {
    kind: {name for name, field in FIELDS.items() if field.kind == kind}
    for kind in ("secret", "choice", "flag", "number", "integer")
}


def test_every_field_has_a_label_and_a_description():
    for name, shown in conn_fields().items():
        assert shown["label"].strip(), name
        assert shown["description"].strip().endswith((".", "...")), name


def test_secrets_are_masked_choices_are_lists_flags_are_switches_and_numbers_numbers():
    shown = conn_fields()

    def types(name):
        kind = shown[name]["schema"]["type"]
        return set(kind if isinstance(kind, list) else [kind]) - {"null"}

    assert {n for n in shown if shown[n]["schema"].get("format") == "password"} == BY_KIND["secret"]
    assert {n for n in shown if "enum" in shown[n]["schema"]} == BY_KIND["choice"]
    assert {n for n in shown if types(n) == {"boolean"}} == BY_KIND["flag"]
    assert {n for n in shown if types(n) == {"number"}} == BY_KIND["number"]
    assert {n for n in shown if types(n) == {"integer"}} == BY_KIND["integer"]


def test_what_the_untouched_form_sends_is_accepted_and_means_the_defaults():
    """Airflow 3's form sends each field's default, and null for what has none."""
    sent = {name: shown["schema"].get("default") for name, shown in conn_fields().items()}
    known = {"conn_type": "iotda", "host": "h.example", "login": "AK", "password": "s3cret"}
    empty = Connection(conn_id="c", **known)
    filled = Connection(conn_id="c", **known, extra=json.dumps(sent))

    assert load_settings(filled, conn_id="c") == load_settings(empty, conn_id="c")


def test_airflow_2_gets_the_same_behaviour():
    behaviour = IoTDAHook.get_ui_field_behaviour()

    assert behaviour == {
        "hidden_fields": UI_FIELD_BEHAVIOUR["hidden-fields"],
        "relabeling": UI_FIELD_BEHAVIOUR["relabeling"],
        "placeholders": UI_FIELD_BEHAVIOUR["placeholders"],
    }


# --- Airflow 2 ----------------------------------------------------------------------------------


@pytest.fixture
def form_class():
    """The form as Airflow 2's web server builds it."""
    pytest.importorskip("flask_appbuilder", reason="Airflow 3 has no such form")
    from flask import Flask
    from flask_babel import Babel
    from wtforms import Form

    app = Flask("form")
    Babel(app)
    with app.test_request_context():
        yield type("ConnectionForm", (Form,), IoTDAHook.get_connection_form_widgets())


def test_airflow_2_shows_every_field_with_the_right_widget(form_class):
    form = form_class()
    kinds = {name: type(field).__name__ for name, field in form._fields.items()}
    expected = {
        "secret": "PasswordField",
        "choice": "SelectField",
        "flag": "BooleanField",
        "number": "FloatField",
        "integer": "IntegerField",
    }

    assert kinds == {
        name: expected.get(field.kind, "StringField") for name, field in FIELDS.items()
    }
    for name, field in form._fields.items():
        assert str(field.label.text) == FIELDS[name].label
        assert field.description == FIELDS[name].description
        assert field()  # it renders


def test_what_airflow_2s_untouched_form_sends_means_the_defaults(form_class):
    form = form_class()
    assert form.validate()
    # As ConnectionModelView.process_form puts Extra together.
    sent = {
        name: field.data for name, field in form._fields.items() if field.data not in ("", None)
    }
    known = {"conn_type": "iotda", "host": "h.example", "login": "AK", "password": "s3cret"}
    filled = Connection(conn_id="c", **known, extra=json.dumps(sent))

    empty = Connection(conn_id="c", **known)
    assert load_settings(filled, conn_id="c") == load_settings(empty, conn_id="c")


def test_airflow_2s_form_refuses_what_is_no_number(form_class):
    from werkzeug.datastructures import MultiDict

    form = form_class(MultiDict({"timeout": "soon", "max_attempts": "0", "auth_type": "magic"}))

    assert not form.validate()
    assert set(form.errors) >= {"timeout", "max_attempts", "auth_type"}
