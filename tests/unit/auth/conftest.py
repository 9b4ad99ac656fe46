"""Connections of every kind, and fakes of whoever issues their credentials."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
import requests_mock

from iotda_provider.api import Outgoing
from iotda_provider.connection.settings import ConnectionSettings

IAM = "https://iam.cn-north-4.myhuaweicloud.com"
METADATA = "http://169.254.169.254"


@pytest.fixture
def web():
    with requests_mock.Mocker() as mocker:
        yield mocker


def _settings(auth_type: str, **more) -> ConnectionSettings:
    base = {
        "conn_id": "here",
        "base_url": "https://iotda.cn-north-4.myhuaweicloud.com",
        "region": "cn-north-4",
        "project_id": "project-1",
        "auth_type": auth_type,
    }
    if auth_type in ("aksk", "token"):
        base |= {"login": "somebody", "password": "pass-word-1"}
    if auth_type == "token":
        base |= {"domain_name": "the account"}
    if auth_type == "federation":
        base |= {"idp_id": "idp-1"}
    return ConnectionSettings(**(base | more))


def _outgoing(**headers: str) -> Outgoing:
    host = "iotda.cn-north-4.myhuaweicloud.com"
    return Outgoing("GET", host, "/v5/iot/project-1/batchtasks", (), {"Host": host, **headers})


def _in_seconds(seconds: float) -> str:
    return f"{datetime.now(timezone.utc) + timedelta(seconds=seconds):%Y-%m-%dT%H:%M:%S.%fZ}"


def _issue_tokens(web, *, lifetime=86_400, project="project-1"):
    """IAM gives out token-1, token-2, ..."""
    numbers = iter(range(1, 100))

    def answer(request, context):
        context.status_code = 201
        context.headers["X-Subject-Token"] = f"token-{next(numbers)}"
        token = {"expires_at": _in_seconds(lifetime), "issued_at": _in_seconds(0)}
        return {"token": token | {"project": {"id": project, "name": "cn-north-4"}}}

    return web.post(f"{IAM}/v3/auth/tokens", json=answer)


def _key(number: int, lifetime: float = 6 * 3600) -> dict:
    return {
        "credential": {
            "access": f"ACCESS{number}",
            "secret": f"secret-{number}",
            "securitytoken": f"security-token-{number}",
            "expires_at": _in_seconds(lifetime),
        }
    }


def _issue_agency_keys(web, lifetime=6 * 3600):
    numbers = iter(range(1, 100))
    web.put(f"{METADATA}/meta-data/latest/api/token", text="metadata-token")
    return web.get(
        f"{METADATA}/openstack/latest/securitykey",
        json=lambda request, context: _key(next(numbers), lifetime),
    )


def _exchange_id_tokens(web):
    numbers = iter(range(1, 100))
    unscoped = web.post(
        f"{IAM}/v3.0/OS-AUTH/id-token/tokens",
        status_code=201,
        headers={"X-Subject-Token": "unscoped-1"},
        json={"token": {}},
    )
    keys = web.post(
        f"{IAM}/v3.0/OS-CREDENTIAL/securitytokens",
        status_code=201,
        json=lambda request, context: _key(next(numbers)),
    )
    return unscoped, keys


@pytest.fixture
def settings() -> Callable[..., Any]:
    return _settings


@pytest.fixture
def outgoing() -> Callable[..., Any]:
    return _outgoing


@pytest.fixture
def in_seconds() -> Callable[..., Any]:
    return _in_seconds


@pytest.fixture
def issue_tokens() -> Callable[..., Any]:
    return _issue_tokens


@pytest.fixture
def key() -> Callable[..., Any]:
    return _key


@pytest.fixture
def issue_agency_keys() -> Callable[..., Any]:
    return _issue_agency_keys


@pytest.fixture
def exchange_id_tokens() -> Callable[..., Any]:
    return _exchange_id_tokens
