"""Access keys that stand in the connection, and those of agencies and federated identities."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from traceback import TracebackException

import pytest

from iotda_provider.auth.authenticator import authenticator_for
from iotda_provider.exceptions import (
    IoTDAAuthError,
    IoTDAConfigError,
    IoTDATransportError,
)

IAM = "https://iam.cn-north-4.myhuaweicloud.com"
METADATA = "http://169.254.169.254"


def test_key_of_the_connection_is_never_asked_for_nor_renewed(web, settings, outgoing):
    authenticator = authenticator_for(settings("aksk"))

    authenticator.prepare()
    assert authenticator.is_ready()
    headers = authenticator.authenticate(outgoing())
    assert headers["Authorization"].startswith("SDK-HMAC-SHA256 Access=somebody, ")
    assert "X-Security-Token" not in headers
    assert not authenticator.rejected(headers)
    assert web.call_count == 0


def test_temporary_key_of_the_connection_sends_and_signs_its_security_token(settings, outgoing):
    authenticator = authenticator_for(settings("aksk", security_token="security-token-0"))
    headers = authenticator.authenticate(outgoing())

    assert headers["X-Security-Token"] == "security-token-0"
    assert "x-security-token" in headers["Authorization"]
    assert not authenticator.rejected(headers), "there is nobody to get a newer one from"


@pytest.mark.parametrize(
    ("host", "derived_auth", "kind"),
    [
        ("iotda.cn-north-4.myhuaweicloud.com", "auto", "SDK-HMAC-SHA256"),
        ("abc.st1.iotda-app.cn-north-4.myhuaweicloud.com", "auto", "V11-HMAC-SHA256"),
        ("10.0.0.8:8443", "auto", "V11-HMAC-SHA256"),
        ("iotda.cn-north-4.myhuaweicloud.com", "always", "V11-HMAC-SHA256"),
        ("10.0.0.8:8443", "never", "SDK-HMAC-SHA256"),
    ],
)
def test_signature_is_of_the_kind_that_the_host_takes(host, derived_auth, kind, settings, outgoing):
    chosen = settings("aksk", base_url=f"https://{host}", derived_auth=derived_auth)
    headers = authenticator_for(chosen).authenticate(outgoing())

    assert headers["Authorization"].startswith(f"{kind} ")


def test_derived_signature_without_a_region_is_an_error_before_anything_is_sent(settings):
    with pytest.raises(IoTDAConfigError, match="set region in Extra"):
        authenticator_for(settings("aksk", base_url="https://10.0.0.8", region=None))


def test_missing_project_is_looked_up_once(web, settings):
    lookup = web.get(f"{IAM}/v3/projects", json={"projects": [{"id": "found-1"}]})
    authenticator = authenticator_for(settings("aksk", project_id=None, iam_endpoint=IAM))
    assert not authenticator.is_ready()

    authenticator.prepare()
    authenticator.prepare()

    assert authenticator.project_id == "found-1"
    assert authenticator.is_ready()
    assert lookup.call_count == 1
    assert lookup.last_request.query == "name=cn-north-4"
    assert lookup.last_request.headers["Authorization"].startswith("SDK-HMAC-SHA256 ")


@pytest.mark.parametrize(
    "found", [[], [{"id": "a-1"}, {"id": "a-2"}], [{"id": "../x"}], [{"id": "a\r\nb"}]]
)
def test_project_that_is_not_one_is_an_error_that_says_so(web, found, settings):
    web.get(f"{IAM}/v3/projects", json={"projects": found})
    authenticator = authenticator_for(settings("aksk", project_id=None, iam_endpoint=IAM))

    says = rf"lists {len(found)} projects .* Set project_id"
    with pytest.raises(IoTDAConfigError, match=says) as caught:
        authenticator.prepare()
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("number", [None, 5, ["a"], {}])
def test_project_whose_id_is_no_text_is_none(web, number, settings):
    web.get(f"{IAM}/v3/projects", json={"projects": [{"id": number}]})
    authenticator = authenticator_for(settings("aksk", project_id=None, iam_endpoint=IAM))

    with pytest.raises(IoTDATransportError, match="list of projects makes no sense"):
        authenticator.prepare()
    assert not authenticator.is_ready()


def test_project_is_not_looked_up_at_an_iam_that_nobody_named(web, settings):
    authenticator = authenticator_for(settings("aksk", project_id=None))

    authenticator.prepare()
    assert authenticator.is_ready()
    with pytest.raises(IoTDAConfigError, match="No project id"):
        _ = authenticator.project_id
    assert web.call_count == 0


def test_agencys_key_comes_from_the_metadata_service_with_its_token(
    web, settings, outgoing, issue_agency_keys
):
    issue_agency_keys(web)
    authenticator = authenticator_for(settings("agency"))
    authenticator.prepare()
    headers = authenticator.authenticate(outgoing())

    put, get = web.request_history
    assert put.headers["X-Metadata-Token-Ttl-Seconds"] == "21600"
    assert get.headers["X-Metadata-Token"] == "metadata-token"
    assert headers["X-Security-Token"] == "security-token-1"
    assert "Access=ACCESS1, " in headers["Authorization"]


@pytest.mark.parametrize("status", [404, 405])
def test_metadata_service_without_tokens_is_asked_without_one(
    web, status, settings, issue_agency_keys
):
    issue_agency_keys(web)
    web.put(f"{METADATA}/meta-data/latest/api/token", status_code=status)
    authenticator_for(settings("agency")).prepare()

    assert "X-Metadata-Token" not in web.last_request.headers


def test_metadata_service_is_never_asked_through_a_proxy(
    web, monkeypatch, settings, issue_agency_keys
):
    monkeypatch.setenv("HTTP_PROXY", "http://proxy.example:3128")
    issue_agency_keys(web)
    authenticator_for(settings("agency", proxies={"http": "http://proxy.example:3128"})).prepare()

    assert [request.proxies for request in web.request_history] == [{}, {}]


def test_agencys_key_is_renewed_before_it_expires_and_after_a_rejection(
    web, settings, outgoing, issue_agency_keys
):
    issue_agency_keys(web, lifetime=3600)
    authenticator = authenticator_for(settings("agency"))
    authenticator.prepare()
    first = authenticator.authenticate(outgoing())

    assert authenticator.rejected(first)
    authenticator.prepare()
    assert authenticator.authenticate(outgoing())["X-Security-Token"] == "security-token-2"
    now = authenticator._key._now()
    authenticator._key._now = lambda: now + 3400
    assert not authenticator.is_ready()
    authenticator.prepare()
    assert authenticator.authenticate(outgoing())["X-Security-Token"] == "security-token-3"


def test_key_that_lives_for_minutes_is_not_renewed_at_each_request(
    web, settings, issue_agency_keys
):
    """The SDK, left to itself, renews 40 minutes before the end."""
    issue_agency_keys(web, lifetime=1200)
    authenticator = authenticator_for(settings("agency"))
    authenticator.prepare()
    asked = web.call_count
    for _ in range(3):
        assert authenticator.is_ready()
        authenticator.prepare()
    assert web.call_count == asked


def test_instance_without_an_agency_is_told_to_bind_one(web, settings):
    web.put(f"{METADATA}/meta-data/latest/api/token", status_code=404)
    web.get(
        f"{METADATA}/openstack/latest/securitykey",
        status_code=401,
        text="Please configure Cloud Service Agency first",
    )
    with pytest.raises(IoTDAAuthError, match="Bind an agency"):
        authenticator_for(settings("agency")).prepare()


def test_id_token_is_exchanged_for_a_key_and_read_anew_each_time(
    web, tmp_path, settings, outgoing, exchange_id_tokens
):
    unscoped, keys = exchange_id_tokens(web)
    file = tmp_path / "id_token"
    file.write_text("id.token.1\n")
    authenticator = authenticator_for(settings("federation", id_token_file=str(file)))
    authenticator.prepare()
    headers = authenticator.authenticate(outgoing())

    assert headers["X-Security-Token"] == "security-token-1"
    assert unscoped.last_request.headers["X-Idp-Id"] == "idp-1"
    assert unscoped.last_request.json() == {"auth": {"id_token": {"id": "id.token.1"}}}
    assert keys.last_request.json()["auth"]["identity"]["token"]["id"] == "unscoped-1"

    file.write_text("id.token.2")
    assert authenticator.rejected(headers)
    authenticator.prepare()
    assert unscoped.last_request.json() == {"auth": {"id_token": {"id": "id.token.2"}}}


@pytest.mark.parametrize("content", [None, b"", b" \n", b"\xff\xfe\xfa", ...])
def test_id_token_that_is_not_there_is_an_error_that_names_the_file(
    web, tmp_path, content, settings
):
    file = tmp_path / "id_token"
    if content is ...:
        file.mkdir()
    elif content is not None:
        file.write_bytes(content)
    with pytest.raises(IoTDAConfigError, match="id_token_file"):
        authenticator_for(settings("federation", id_token_file=str(file))).prepare()
    assert web.call_count == 0


SECRET_FILE = b"[database]\nsql_alchemy_conn = postgresql://airflow:a-password@db/airflow\n"


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (SECRET_FILE, "three parts of base64url"),
        (b"a-password", "three parts of base64url"),
        (b"a-password.b", "three parts of base64url"),
        (b"a-password.b.c.d", "three parts of base64url"),
        (b"a-password..c", "three parts of base64url"),
        (b"a-password.b.c d", "three parts of base64url"),
        (b"a-password.b.c" * 1_200, "it has 16,800 bytes; at most 16,384 are allowed"),
    ],
)
def test_only_an_id_token_leaves_the_worker(web, tmp_path, settings, content, says):
    """Whoever edits the connection may name any file of the worker, and any host as IAM."""
    file = tmp_path / "airflow.cfg"
    file.write_bytes(content)
    with pytest.raises(IoTDAConfigError, match=says) as error:
        authenticator_for(settings("federation", id_token_file=str(file))).prepare()
    assert web.call_count == 0
    # The locals of this test hold it, too.
    inside = error.value.with_traceback(error.value.__traceback__.tb_next)
    shown = "".join(TracebackException.from_exception(inside, capture_locals=True).format())
    assert "a-password" not in shown


@pytest.mark.parametrize("kind", ["FIFO", "device", "socket", "directory", "link to a device"])
def test_only_a_regular_file_is_read_and_none_is_waited_for(
    web, tmp_path, settings, kind, monkeypatch
):
    file = tmp_path / "id_token"
    server = None
    if kind == "FIFO":
        os.mkfifo(file)
    elif kind == "device":
        file = Path("/dev/zero")
    elif kind == "socket":
        server = socket.socket(socket.AF_UNIX)
        monkeypatch.chdir(tmp_path)  # such a path has at most about 100 characters
        server.bind("id_token")
    elif kind == "directory":
        file.mkdir()
    else:
        file.symlink_to("/dev/zero")
    with pytest.raises(IoTDAConfigError, match="id_token_file"):
        authenticator_for(settings("federation", id_token_file=str(file))).prepare()
    assert web.call_count == 0
    if server is not None:
        server.close()
