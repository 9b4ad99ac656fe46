"""Airflow shows this provider, its connection form and its modules from metadata alone."""

from __future__ import annotations

import importlib.metadata
import importlib.resources
import importlib.util
import json
import subprocess
import sys

import jsonschema
import pytest
from tests import inventory

from iotda_provider import __version__
from iotda_provider.connection.fields import EXTRA_FIELDS
from iotda_provider.get_provider_info import get_provider_info

INFO = get_provider_info()
CONNECTION = INFO["connection-types"][0]


def airflow_schema(name: str) -> dict:
    return json.loads((importlib.resources.files("airflow") / name).read_text())


def test_info_is_valid_against_the_schema_of_the_installed_airflow():
    jsonschema.validate(INFO, airflow_schema("provider_info.schema.json"))


def test_connection_is_valid_against_the_stricter_schema_of_provider_yaml():
    schema = airflow_schema("provider.yaml.schema.json")["properties"]["connection-types"]
    jsonschema.validate(INFO["connection-types"], schema)


def test_distribution_registers_this_info_under_its_own_name():
    (entry_point,) = (
        entry_point
        for entry_point in importlib.metadata.entry_points(group="apache_airflow_provider")
        if entry_point.value.startswith("iotda_provider")
    )

    assert entry_point.load() is get_provider_info
    assert INFO["package-name"] == importlib.metadata.metadata("airflow-provider-iotda")["Name"]
    assert importlib.metadata.version("airflow-provider-iotda") == __version__


def test_info_imports_nothing_but_itself():
    script = (
        "import sys; before = set(sys.modules); import iotda_provider.get_provider_info as module; "
        "module.get_provider_info(); "
        "print(sorted({n.partition('.')[0] for n in set(sys.modules) - before} & {"
        "'airflow', 'requests', 'aiohttp', 'scipy', 'huaweicloudsdkcore', 'pendulum'}))"
    )
    answer = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )

    assert answer.stdout.strip() == "[]"


@pytest.mark.parametrize(
    "module",
    [
        module
        for kind in ("hooks", "operators", "sensors", "triggers")
        for integration in INFO.get(kind, [])
        for module in integration["python-modules"]
    ],
)
def test_listed_module_exists(module):
    assert importlib.util.find_spec(module)


@pytest.mark.parametrize("kind", inventory.ENDINGS)
def test_every_module_with_a_public_class_is_listed(kind):
    listed = {module for one in INFO[kind] for module in one["python-modules"]}
    missing = {
        module
        for module in inventory.classes(kind).values()
        if module not in listed and module.rpartition(".")[0] not in listed
    }

    assert not missing


def test_hook_class_exists_and_names_the_connection_type():
    module, _, name = CONNECTION["hook-class-name"].rpartition(".")
    hook = getattr(importlib.import_module(module), name)

    assert hook.conn_type == CONNECTION["connection-type"]
    assert hook.hook_name == CONNECTION["hook-name"]


def test_form_has_every_field_and_none_is_compulsory():
    fields = CONNECTION["conn-fields"]

    assert list(fields) == [field.name for field in EXTRA_FIELDS]
    # The form of Airflow 3 demands a value where the type does not admit null.
    for field in fields.values():
        assert "null" in field["schema"]["type"] or "default" in field["schema"]


def test_form_hides_secrets_and_offers_choices():
    fields = CONNECTION["conn-fields"]

    assert fields["security_token"]["schema"]["format"] == "password"
    assert fields["auth_type"]["schema"]["enum"] == ["aksk", "token", "agency", "federation"]
    assert fields["auth_type"]["schema"]["default"] == "aksk"
    assert fields["timeout"]["schema"]["default"] == 30
