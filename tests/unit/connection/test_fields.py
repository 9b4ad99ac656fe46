"""The connection form: from the provider info, or from the hook where Airflow asks that."""

from __future__ import annotations

import json
import sys
from types import SimpleNamespace

import pytest
from airflow.models import Connection
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_0_PLUS

from iotda_provider.connection.fields import EXTRA_FIELDS, UI_FIELD_BEHAVIOUR, conn_fields
from iotda_provider.connection.loading import load_settings
from iotda_provider.hooks.iotda import IoTDAHook

FIELDS = {field.name: field for field in EXTRA_FIELDS}
BY_KIND = {
    kind: {name for name, field in FIELDS.items() if field.kind == kind}
    for kind in ("choice", "flag", "number", "integer")
}
SECRET = {"security_token", "proxies"}


def test_every_field_has_a_label_and_a_description():
    for name, shown in conn_fields().items():
        assert shown["label"].strip(), name
        assert shown["description"].strip().endswith((".", "...")), name


def test_secrets_are_masked_choices_are_lists_flags_are_switches_and_numbers_numbers():
    shown = conn_fields()

    def types(name):
        kind = shown[name]["schema"]["type"]
        return set(kind if isinstance(kind, list) else [kind]) - {"null"}

    assert {n for n in shown if shown[n]["schema"].get("format") == "password"} == SECRET
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

only_airflow_2 = pytest.mark.skipif(AIRFLOW_V_3_0_PLUS, reason="Airflow 3 draws it by itself")


@pytest.fixture
def form_class():
    """The form as Airflow 2's web server builds it, of what it has found in the hook."""
    from airflow.providers_manager import ProvidersManager
    from flask import Flask
    from flask_babel import Babel
    from wtforms import Form

    found = ProvidersManager().connection_form_widgets
    prefix = "extra__iotda__"
    fields = {
        key.removeprefix(prefix): widget.field
        for key, widget in found.items()
        if key.startswith(prefix)
    }
    app = Flask("form")
    Babel(app)
    with app.test_request_context():
        yield type("ConnectionForm", (Form,), fields)


@only_airflow_2
def test_airflow_2_shows_every_field_with_the_right_widget(form_class):
    form = form_class(data=dict.fromkeys(SECRET, "the-secret"))
    drawn = {
        "choice": {"<select"},
        "flag": {"<input", 'type="checkbox"'},
        "number": {"<input", 'type="number"', 'step="any"'},
    }

    assert form._fields.keys() == FIELDS.keys()
    for name, field in form._fields.items():
        assert str(field.label.text) == FIELDS[name].label
        assert field.description == FIELDS[name].description
        words = field().replace(">", " ").split(" ")
        secret = {"<input", 'type="password"', 'value=""'}
        expected = secret if name in SECRET else drawn.get(FIELDS[name].kind, {"<input"})
        assert {*expected, f'id="{name}"', f'name="{name}"'} <= set(words)
    assert '<option selected value="aksk">aksk</option>' in form.auth_type()
    assert '<option value="token">token</option>' in form.auth_type()


@only_airflow_2
def test_airflow_2_knows_which_standard_fields_to_show():
    from airflow.providers_manager import ProvidersManager

    assert ProvidersManager().field_behaviours["iotda"]["relabeling"]["login"].startswith("Access")


@only_airflow_2
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


@only_airflow_2
def test_airflow_2s_form_takes_what_is_right(form_class):
    from werkzeug.datastructures import MultiDict

    form = form_class(MultiDict({"timeout": "2.5", "max_attempts": "3", "auth_type": "token"}))

    assert form.validate(), form.errors
    assert 'value="2.5"' in form.timeout()
    assert '<option selected value="token">' in form.auth_type()


@only_airflow_2
def test_airflow_2s_form_refuses_what_is_no_number(form_class):
    from werkzeug.datastructures import MultiDict

    form = form_class(MultiDict({"timeout": "soon", "max_attempts": "0", "auth_type": "magic"}))

    assert not form.validate()
    assert set(form.errors) >= {"timeout", "max_attempts", "auth_type"}


# --- Airflow 3.1 and 3.2 --------------------------------------------------------------------------


@pytest.mark.skipif(not AIRFLOW_V_3_0_PLUS, reason="Airflow 2 has a web form")
def test_stand_ins_of_airflow_3_get_the_schema_of_the_provider_info(monkeypatch):
    from airflow.api_fastapi.core_api.services.ui.connections import HookMetaService as service

    monkeypatch.setitem(
        sys.modules, "wtforms", SimpleNamespace(StringField=service.MockStringField)
    )

    shown = {
        name: field.param.dump() for name, field in IoTDAHook.get_connection_form_widgets().items()
    }

    for name, expected in conn_fields().items():
        schema = {**expected["schema"], "title": expected["label"]}
        default = schema.pop("default", None)
        assert shown[name]["schema"] == schema
        assert (shown[name]["value"], shown[name]["description"]) == (
            default,
            expected["description"],
        )
