"""A connection means the same, wherever Airflow was told of it."""

from __future__ import annotations

import base64
import json
import time
from pathlib import Path
from urllib.parse import quote, urlencode

import pytest
from airflow.models import Connection
from airflow.secrets.local_filesystem import LocalFilesystemBackend

from iotda_provider.connection.loading import load_settings
from iotda_provider.exceptions import IoTDAConfigError
from iotda_provider.hooks.iotda import IoTDAHook

EXTRAS = {
    "aksk": {
        "region": "cn-north-4",
        "project_id": "0123456789",
        "instance_id": "11111111-2222-3333-4444-555555555555",
        "security_token": "the/security+token==",
        "verify": "/etc/ssl/private-ca.pem",
        "timeout": 12.5,
        "max_attempts": 2,
        "max_requests_per_second": 4,
        "allow_http": True,
        "proxies": {"https": "http://user:proxy-pass@proxy.example:3128"},
    },
    "token": {
        "auth_type": "token",
        "region": "cn-north-4",
        "project_id": "05041fffa40025702f6dc009cc6f8f33",
        "domain_name": "the account & co",
        "iam_endpoint": "https://iam.example.com",
        "verify": False,
    },
    "federation": {
        "auth_type": "federation",
        "region": "cn-north-4",
        "project_id": "p-1",
        "idp_id": "idp-1",
        "id_token_file": "/var/run/secrets/id token",
        "derived_auth": "never",
    },
    "agency": {"auth_type": "agency", "region": "cn-north-4", "project_id": "p-1"},
}


def fields(auth_type: str) -> dict:
    known = {"conn_type": "iotda", "host": "iotda.example.com", "port": 8443}
    if auth_type in ("aksk", "token"):
        password = "s3cret" if auth_type == "aksk" else "p@ss/w:rd%20&é"
        known |= {"login": "AK", "password": password}
    return known


def as_uri(auth_type: str) -> str:
    """By hand, as a person writes it after the documentation."""
    known = fields(auth_type)
    user = ""
    if "login" in known:
        user = f"{known['login']}:{quote(known['password'], safe='')}@"
    extra = {
        name: value if isinstance(value, str) else json.dumps(value)
        for name, value in EXTRAS[auth_type].items()
    }
    return f"iotda://{user}{known['host']}:{known['port']}/?{urlencode(extra)}"


def as_json(auth_type: str) -> str:
    return json.dumps(fields(auth_type) | {"extra": EXTRAS[auth_type]})


def from_environment(text: str, monkeypatch, tmp_path: Path):
    monkeypatch.setenv("AIRFLOW_CONN_SOMEWHERE", text)
    return IoTDAHook("somewhere").settings


def from_backend(text: str, monkeypatch, tmp_path: Path):
    file = tmp_path / "connections.json"
    value = json.loads(text) if text.startswith("{") else text
    file.write_text(json.dumps({"somewhere": value}))
    connection = LocalFilesystemBackend(connections_file_path=str(file)).get_connection("somewhere")
    return load_settings(connection, conn_id="somewhere")


def from_ui(text: str, monkeypatch, tmp_path: Path):
    """Both UIs store Extra as JSON in one text."""
    known = json.loads(text)
    connection = Connection(
        conn_id="somewhere", **(known | {"extra": json.dumps(known.get("extra"))})
    )
    return load_settings(connection, conn_id="somewhere")


@pytest.mark.parametrize("auth_type", EXTRAS)
def test_all_sources_mean_the_same(auth_type, monkeypatch, tmp_path):
    expected = from_environment(as_json(auth_type), monkeypatch, tmp_path)
    assert expected.auth_type == auth_type
    assert expected.base_url == "https://iotda.example.com:8443"
    assert expected.password == fields(auth_type).get("password", "")

    others = {
        "environment, URI": from_environment(as_uri(auth_type), monkeypatch, tmp_path),
        "secrets backend, JSON": from_backend(as_json(auth_type), monkeypatch, tmp_path),
        "secrets backend, URI": from_backend(as_uri(auth_type), monkeypatch, tmp_path),
        "UI": from_ui(as_json(auth_type), monkeypatch, tmp_path),
    }
    assert {name: vars(settings) for name, settings in others.items()} == {
        name: vars(expected) for name in others
    }


@pytest.mark.parametrize("port", ["8443", " 8443 ", 8443])
def test_port_may_be_text_as_vaults_backend_leaves_it(port, monkeypatch, tmp_path):
    known = fields("aksk") | {"extra": json.dumps(EXTRAS["aksk"]), "port": port}
    settings = load_settings(Connection(conn_id="somewhere", **known), conn_id="somewhere")

    assert settings == from_environment(as_json("aksk"), monkeypatch, tmp_path)


@pytest.mark.parametrize("port", ["", " ", None])
def test_port_without_a_number_is_none(port):
    known = fields("aksk") | {"extra": json.dumps(EXTRAS["aksk"]), "port": port}
    settings = load_settings(Connection(conn_id="c", **known), conn_id="c")

    assert settings.base_url == "https://iotda.example.com"


@pytest.mark.parametrize("port", ["secret-5", "8443.0", "0", "65536", "-1", "\u0661"])
def test_any_other_text_is_no_port(port):
    known = fields("aksk") | {"port": port}
    with pytest.raises(IoTDAConfigError, match="Port must be from 1 to 65535") as caught:
        load_settings(Connection(conn_id="c", **known), conn_id="c")

    assert "secret-5" not in str(caught.value)


def test_uri_that_airflow_itself_writes_is_read(monkeypatch, tmp_path):
    known = fields("aksk") | {"extra": json.dumps(EXTRAS["aksk"])}
    uri = Connection(conn_id="somewhere", **known).get_uri()

    assert from_environment(uri, monkeypatch, tmp_path) == from_environment(
        as_json("aksk"), monkeypatch, tmp_path
    )


@pytest.mark.parametrize(
    "password",
    ["12?secret-5", "12?secret-5&x", "12?se=secret-5", "12?secret-5=&x=1", "1?a b?secret-5"],
)
def test_half_of_a_password_that_was_not_encoded_is_not_shown(password, monkeypatch, tmp_path):
    uri = f"iotda://AK:{password}@iotda.example.com?region=cn-north-4"
    with pytest.raises(IoTDAConfigError, match=r"each \? and & of the password") as caught:
        from_environment(uri, monkeypatch, tmp_path)

    assert "secret-5" not in str(caught.value)


def test_uri_may_say_http_behind_the_host(monkeypatch, tmp_path):
    uri = "iotda://AK:s3cret@127.0.0.1:8765/http?project_id=p-1&region=cn-north-4"

    assert from_environment(uri, monkeypatch, tmp_path).base_url == "http://127.0.0.1:8765"


def test_secrets_are_masked_as_soon_as_the_connection_is_read(monkeypatch):
    masked = []
    monkeypatch.setattr("iotda_provider.masking.airflow_masker.mask_secret", masked.append)
    connection = Connection(conn_id="c", **(fields("aksk") | {"extra": json.dumps(EXTRAS["aksk"])}))
    load_settings(connection, conn_id="c")

    header = base64.b64encode(b"user:proxy-pass").decode()
    assert set(masked) == {"s3cret", "the/security+token==", "proxy-pass", header}


def test_password_is_masked_even_where_the_rest_is_wrong(monkeypatch):
    masked = []
    monkeypatch.setattr("iotda_provider.masking.airflow_masker.mask_secret", masked.append)
    connection = Connection(conn_id="c", **(fields("aksk") | {"extra": '{"nonsense": 1}'}))
    with pytest.raises(Exception, match="unknown Extra field"):
        load_settings(connection, conn_id="c")

    assert masked == ["s3cret"]


@pytest.mark.parametrize(
    "extra",
    [
        {"proxies": {"https": "http://user:proxy%21pass@proxy.example:3128"}, "timeout": "soon"},
        {"proxies": '{"https": "http://user:proxy%21pass@proxy.example:3128"}', "nonsense": 1},
        {"proxies": {"https": "ftp://user:proxy%21pass@[bad"}},
        {"proxies": {"https": ["user:proxy%21pass@proxy.example"]}},
        {"proxies": "http://user:proxy%21pass@proxy.example"},
    ],
)
def test_secrets_of_extra_are_masked_even_where_the_rest_is_wrong(extra, monkeypatch):
    masked = []
    monkeypatch.setattr("iotda_provider.masking.airflow_masker.mask_secret", masked.append)
    extra = extra | {"security_token": "the/security+token=="}
    connection = Connection(conn_id="c", **(fields("aksk") | {"extra": json.dumps(extra)}))
    with pytest.raises(IoTDAConfigError) as caught:
        load_settings(connection, conn_id="c")

    header = base64.b64encode(b"user:proxy!pass").decode()
    assert {"the/security+token==", "proxy%21pass", "proxy!pass", header} <= set(masked)
    assert "21pass" not in str(caught.value)


def test_passwords_of_the_environments_proxies_are_masked(monkeypatch):
    masked = []
    monkeypatch.setattr("iotda_provider.masking.airflow_masker.mask_secret", masked.append)
    monkeypatch.setenv("HTTPS_PROXY", "http://user:proxy%21pass@proxy.example:3128")
    load_settings(Connection(conn_id="c", **fields("aksk")), conn_id="c")

    header = base64.b64encode(b"user:proxy!pass").decode()
    assert {"proxy%21pass", "proxy!pass", header} <= set(masked)


def test_reading_a_connection_takes_no_time_to_speak_of():
    connection = Connection(conn_id="c", **(fields("aksk") | {"extra": json.dumps(EXTRAS["aksk"])}))
    load_settings(connection, conn_id="c")
    start = time.thread_time()  # whatever else the machine is busy with
    for _ in range(20):
        load_settings(connection, conn_id="c")

    assert (time.thread_time() - start) / 20 < 0.05
