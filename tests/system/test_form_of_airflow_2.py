"""The connection form in the web server of Airflow 2: what it draws, and what it stores."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_0_PLUS

from iotda_provider.connection.fields import EXTRA_FIELDS
from iotda_provider.hooks.iotda import IoTDAHook

pytestmark = pytest.mark.skipif(AIRFLOW_V_3_0_PLUS, reason="Airflow 3 has another web server")


@pytest.fixture
def browser(airflow_database: Path) -> Any:
    from airflow.www.app import create_app

    settings = {"AUTH_ROLE_PUBLIC": "Admin", "WTF_CSRF_ENABLED": False}
    return create_app(config=settings, testing=True).test_client()


def test_form_stores_what_the_hook_reads(browser: Any) -> None:
    page = browser.get("/connection/add").text
    for spec in EXTRA_FIELDS:
        tag = "select" if spec.kind == "choice" else "input"
        assert re.search(rf'<{tag} [^>]*name="extra__iotda__{spec.name}"', page), spec.name

    entered = {
        "conn_id": "entered",
        "conn_type": "iotda",
        "login": "AK",
        "password": "the-secret-key",
        "extra__iotda__region": "cn-north-4",
        "extra__iotda__auth_type": "token",
        "extra__iotda__domain_name": "company",
        "extra__iotda__security_token": "",
        "extra__iotda__verify": "true",
        "extra__iotda__timeout": "2.5",
        "extra__iotda__max_attempts": "3",
    }
    assert browser.post("/connection/add", data=entered).status_code == 302

    settings = IoTDAHook("entered").settings
    assert (settings.auth_type, settings.timeout, settings.max_attempts) == ("token", 2.5, 3)
    assert (settings.verify, settings.allow_http, settings.security_token) == (True, False, None)
