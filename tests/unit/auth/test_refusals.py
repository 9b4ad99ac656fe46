"""Whoever issues credentials refuses, is silent or talks nonsense; and no secret gets out."""

from __future__ import annotations

import shutil
import socket
import threading
from contextlib import ExitStack, suppress

import certifi
import pytest
import requests
import requests_mock

from iotda_provider.auth import authenticator as module
from iotda_provider.auth.authenticator import authenticator_for
from iotda_provider.exceptions import (
    IoTDAApiError,
    IoTDAAuthError,
    IoTDAThrottledError,
    IoTDATransportError,
)

IAM = "https://iam.cn-north-4.myhuaweicloud.com"
METADATA = "http://169.254.169.254"


WRONG_PASSWORD = {"error": {"code": 401, "message": "The username or password is wrong."}}


def test_refused_user_is_told_what_to_check(web, settings):
    web.post(f"{IAM}/v3/auth/tokens", status_code=401, json=WRONG_PASSWORD)
    with pytest.raises(IoTDAAuthError) as caught:
        authenticator_for(settings("token")).prepare()

    assert str(caught.value) == (
        "Could not obtain a token from IAM: HTTP 401: 401 The username or password is wrong. Check "
        "the connection's Login (an IAM user, not the account), Password, domain_name (the "
        "account's name) and project_id (or region), and whether the user may use programmatic "
        "access"
    )


@pytest.mark.parametrize(
    ("auth_type", "method", "url"),
    [
        ("token", "POST", f"{IAM}/v3/auth/tokens"),
        ("agency", "PUT", f"{METADATA}/meta-data/latest/api/token"),
    ],
)
def test_an_error_is_a_refusal_whatever_the_status_says(web, settings, auth_type, method, url):
    body = {"error_code": "IAM.0011", "error_msg": "no"}
    web.register_uri(method, url, json=body, headers={"X-Subject-Token": "t"})
    with pytest.raises(IoTDAApiError, match=r"HTTP 200: IAM\.0011 no\. (Check|Bind)"):
        authenticator_for(settings(auth_type)).prepare()
    assert web.call_count == 1


def test_wrong_clock_is_named_beside_what_else_may_be_wrong(web, settings):
    date = {"Date": "Tue, 01 Jan 2030 00:00:00 GMT"}
    web.post(f"{IAM}/v3/auth/tokens", status_code=401, json=WRONG_PASSWORD, headers=date)
    with pytest.raises(IoTDAAuthError, match=r"Check the .* This machine's clock is \d+ days"):
        authenticator_for(settings("token")).prepare()


def test_trouble_of_iam_leaves_the_callers_request_unsent(web, settings):
    web.post(f"{IAM}/v3/auth/tokens", status_code=503)
    with pytest.raises(IoTDATransportError, match="503") as caught:
        authenticator_for(settings("token")).prepare()
    assert not caught.value.sent


def test_silence_of_iam_leaves_the_callers_request_unsent(web, settings):
    web.post(f"{IAM}/v3/auth/tokens", exc=requests.exceptions.ConnectTimeout("pass-word-1 late"))
    with pytest.raises(
        IoTDATransportError, match=r"connecting timed out \(\*\*\* late\)"
    ) as caught:
        authenticator_for(settings("token")).prepare()
    assert not caught.value.sent


def test_throttling_by_iam_says_when_to_come_back(web, settings):
    web.post(f"{IAM}/v3/auth/tokens", status_code=429, headers={"Retry-After": "7"})
    with pytest.raises(IoTDAThrottledError) as caught:
        authenticator_for(settings("token")).prepare()
    assert caught.value.retry_after == 7


# More levels than the stack has room for.
NESTED: list = []
for _ in range(900):
    NESTED = [NESTED]


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        ({}, {"token": {}}),
        ({"X-Subject-Token": "token\xe9-1"}, {"token": {}}),
        ({"X-Subject-Token": "two words"}, {"token": {}}),
        ({"X-Subject-Token": "token-1"}, []),
        ({"X-Subject-Token": "token-1"}, {"token": {"expires_at": "tomorrow"}}),
        ({"X-Subject-Token": "token-1"}, {"token": {"expires_at": 5}}),
        ({"X-Subject-Token": "token-1"}, NESTED),
    ],
)
def test_answer_without_a_usable_token_is_named_and_not_quoted(web, headers, body, settings):
    web.post(f"{IAM}/v3/auth/tokens", status_code=201, headers=headers, json=body)
    with pytest.raises(IoTDATransportError, match="should hold a token makes no sense") as caught:
        authenticator_for(settings("token")).prepare()
    assert not caught.value.sent
    assert "token-1" not in str(caught.value)


@pytest.mark.parametrize(
    "change",
    [
        {"access": "A\r\nX-Evil: 1"},
        {"secret": None},
        {"securitytoken": "a b"},
        {"expires_at": None},
        {"expires_at": "soon"},
    ],
)
def test_answer_without_a_usable_key_is_named_and_not_quoted(
    web, change, settings, key, issue_agency_keys
):
    issue_agency_keys(web)
    answer = {"credential": key(1)["credential"] | change}
    web.get(f"{METADATA}/openstack/latest/securitykey", json=answer)
    with pytest.raises(IoTDATransportError, match="makes no sense") as caught:
        authenticator_for(settings("agency")).prepare()
    assert "secret-1" not in str(caught.value)


@pytest.mark.parametrize(
    "body", [b"\xff\xfe{", b'{"credential": null}', b"5", b"{}", b"[" * 100_000]
)
@pytest.mark.parametrize("auth_type", ["agency", "federation"])
def test_answer_that_holds_no_key_is_no_fault_of_the_id_tokens_file(
    web, tmp_path, auth_type, body, settings, issue_agency_keys, exchange_id_tokens
):
    issue_agency_keys(web)
    exchange_id_tokens(web)
    file = tmp_path / "id_token"
    file.write_text("id.token.1")
    web.get(f"{METADATA}/openstack/latest/securitykey", content=body)
    web.post(f"{IAM}/v3.0/OS-CREDENTIAL/securitytokens", content=body)

    with pytest.raises(IoTDATransportError, match="temporary key makes no sense") as caught:
        authenticator_for(settings(auth_type, id_token_file=str(file))).prepare()
    assert not caught.value.sent


def test_issuer_that_answers_a_byte_at_a_time_has_no_longer_than_the_timeout(settings):
    with socket.create_server(("127.0.0.1", 0)) as listener, ExitStack() as stack:
        done = threading.Event()
        stack.callback(done.set)

        def drip() -> None:
            connection, _ = listener.accept()
            with connection, suppress(OSError):
                connection.sendall(b"HTTP/1.1 201 Created\r\nContent-Length: 100000\r\n\r\n")
                while not done.wait(0.05):  # all of it would take more than an hour
                    connection.sendall(b" ")

        threading.Thread(target=drip, daemon=True).start()
        here = f"http://127.0.0.1:{listener.getsockname()[1]}"
        with pytest.raises(IoTDATransportError, match="no whole answer in time") as caught:
            authenticator_for(settings("token", iam_endpoint=here, timeout=0.3)).prepare()

        assert not caught.value.sent


def test_what_is_cut_off_an_error_is_no_half_of_a_secret(web, settings):
    echo = "x" * 190 + "a-pass-word-of-many-characters"
    web.post(f"{IAM}/v3/auth/tokens", exc=requests.exceptions.ChunkedEncodingError(echo))
    with pytest.raises(IoTDATransportError, match=r"xx\*\*\*") as caught:
        authenticator_for(settings("token", password="a-pass-word-of-many-characters")).prepare()
    assert "a-pass" not in str(caught.value)


@pytest.mark.parametrize("auth_type", ["token", "agency", "federation"])
def test_redirects_are_not_followed_with_credentials(web, tmp_path, auth_type, settings):
    file = tmp_path / "id_token"
    file.write_text("id.token.1")
    elsewhere = web.register_uri(requests_mock.ANY, "https://evil.example/x", text="thanks")
    away = {"status_code": 307, "headers": {"Location": "https://evil.example/x"}}
    web.post(f"{IAM}/v3/auth/tokens", **away)
    web.post(f"{IAM}/v3.0/OS-AUTH/id-token/tokens", **away)
    web.put(f"{METADATA}/meta-data/latest/api/token", **away)

    with pytest.raises(IoTDAApiError, match="redirects are not followed") as caught:
        authenticator_for(settings(auth_type, id_token_file=str(file))).prepare()
    field = "metadata_endpoint" if auth_type == "agency" else "iam_endpoint"
    assert f"Set the connection's {field} to the address of " in str(caught.value)
    assert "Host" not in str(caught.value)
    assert elsewhere.call_count == 0


def test_connections_proxy_and_bundle_win_over_the_environments(
    web, monkeypatch, tmp_path, settings, issue_tokens
):
    bundles = [str(tmp_path / name) for name in ("environment.pem", "own.pem")]
    for bundle in bundles:
        shutil.copy(certifi.where(), bundle)
    monkeypatch.setenv("HTTPS_PROXY", "http://environment.example:1")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", bundles[0])
    iam = issue_tokens(web)
    authenticator_for(settings("token")).prepare()
    assert iam.last_request.proxies["https"] == "http://environment.example:1"
    assert iam.last_request.verify == bundles[0]

    own = {"proxies": {"https": "http://own.example:1"}, "verify": bundles[1]}
    authenticator_for(settings("token", **own)).prepare()
    assert iam.last_request.proxies["https"] == "http://own.example:1"
    assert iam.last_request.verify == bundles[1]


def test_a_password_for_iam_on_this_machine_is_shown_to_no_proxy(web, monkeypatch, settings):
    monkeypatch.setenv("HTTP_PROXY", "http://environment.example:1")
    local = "http://localhost:8765"
    iam = web.post(f"{local}/v3/auth/tokens", status_code=401, json=WRONG_PASSWORD)

    for more in ({}, {"proxies": {"http": "http://own.example:1"}}):
        with pytest.raises(IoTDAAuthError):
            authenticator_for(settings("token", iam_endpoint=local, **more)).prepare()

    assert [request.proxies for request in iam.request_history] == [{}, {}]


def test_netrc_adds_nothing_to_a_request_for_a_token(
    web, tmp_path, monkeypatch, settings, issue_tokens
):
    netrc = tmp_path / "netrc"
    netrc.write_text("machine iam.cn-north-4.myhuaweicloud.com login a password b\n")
    monkeypatch.setenv("NETRC", str(netrc))
    iam = issue_tokens(web)
    authenticator_for(settings("token")).prepare()

    assert "Authorization" not in iam.last_request.headers


@pytest.mark.parametrize("status", [400, 401, 403, 500])
def test_secret_that_iam_echoes_is_not_in_the_error(web, status, settings):
    web.post(
        f"{IAM}/v3/auth/tokens",
        status_code=status,
        json={"error": {"message": "bad: pass-word-1", "code": status}},
    )
    with pytest.raises((IoTDAApiError, IoTDATransportError), match=r"bad: \*\*\*"):
        authenticator_for(settings("token")).prepare()


def test_secrets_are_known_to_the_masker_as_soon_as_they_are_known(
    web, tmp_path, monkeypatch, settings, issue_tokens, issue_agency_keys, exchange_id_tokens
):
    masked = set()
    monkeypatch.setattr("iotda_provider.masking.airflow_masker.mask_secret", masked.add)
    issue_tokens(web)
    issue_agency_keys(web)
    exchange_id_tokens(web)
    file = tmp_path / "id_token"
    file.write_text("id.token.1")

    authenticator_for(settings("token")).prepare()
    assert masked == {"token-1"}
    masked.clear()
    authenticator_for(settings("agency")).prepare()
    assert masked == {"metadata-token", "ACCESS1", "secret-1", "security-token-1"}
    masked.clear()
    authenticator_for(settings("federation", id_token_file=str(file))).prepare()
    assert masked == {"id.token.1", "unscoped-1", "ACCESS1", "secret-1", "security-token-1"}
    masked.clear()
    refused = {"status_code": 401, "json": {"error_msg": "no"}}
    web.post(f"{IAM}/v3.0/OS-AUTH/id-token/tokens", **refused)
    with pytest.raises(IoTDAAuthError):
        authenticator_for(settings("federation", id_token_file=str(file), idp_id="2")).prepare()
    assert masked == {"id.token.1"}, "even where the exchange fails"


def test_reprs_show_no_secret(web, settings, issue_tokens):
    issue_tokens(web)
    secrets = ("pass-word-1", "security-token-0", "token-1", "proxy-pass")
    own = settings(
        "token", security_token="security-token-0", proxies={"https": "http://u:proxy-pass@p:1"}
    )
    authenticator = authenticator_for(own)
    authenticator.prepare()

    for thing in (own, authenticator, authenticator._token.value, module._shared):
        for text in (repr(thing), str(thing)):
            assert not [secret for secret in secrets if secret in text]
