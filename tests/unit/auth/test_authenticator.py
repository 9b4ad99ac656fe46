"""Every auth_type: what is asked of whom, what is kept, what is sent, and when it is renewed."""

from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone

import pytest
import requests
import requests_mock

from iotda_provider.api import Outgoing
from iotda_provider.auth import authenticator as module
from iotda_provider.auth.authenticator import authenticator_for
from iotda_provider.exceptions import (
    IoTDAApiError,
    IoTDAAuthError,
    IoTDAConfigError,
    IoTDAThrottledError,
    IoTDATransportError,
)
from iotda_provider.settings import ConnectionSettings

IAM = "https://iam.cn-north-4.myhuaweicloud.com"
METADATA = "http://169.254.169.254"


@pytest.fixture(autouse=True)
def _nothing_is_shared_between_tests(monkeypatch):
    monkeypatch.setattr(module, "_shared", type(module._shared)())


@pytest.fixture
def web():
    with requests_mock.Mocker() as mocker:
        yield mocker


def settings(auth_type: str, **more) -> ConnectionSettings:
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


def outgoing(**headers: str) -> Outgoing:
    host = "iotda.cn-north-4.myhuaweicloud.com"
    return Outgoing("GET", host, "/v5/iot/project-1/batchtasks", (), {"Host": host, **headers})


def in_seconds(seconds: float) -> str:
    return f"{datetime.now(timezone.utc) + timedelta(seconds=seconds):%Y-%m-%dT%H:%M:%S.%fZ}"


def issue_tokens(web, *, lifetime=86_400, project="project-1"):
    """IAM gives out token-1, token-2, ..."""
    numbers = iter(range(1, 100))

    def answer(request, context):
        context.status_code = 201
        context.headers["X-Subject-Token"] = f"token-{next(numbers)}"
        token = {"expires_at": in_seconds(lifetime), "issued_at": in_seconds(0)}
        return {"token": token | {"project": {"id": project, "name": "cn-north-4"}}}

    return web.post(f"{IAM}/v3/auth/tokens", json=answer)


def key(number: int, lifetime: float = 6 * 3600) -> dict:
    return {
        "credential": {
            "access": f"ACCESS{number}",
            "secret": f"secret-{number}",
            "securitytoken": f"security-token-{number}",
            "expires_at": in_seconds(lifetime),
        }
    }


def issue_agency_keys(web, lifetime=6 * 3600):
    numbers = iter(range(1, 100))
    web.put(f"{METADATA}/meta-data/latest/api/token", text="metadata-token")
    return web.get(
        f"{METADATA}/openstack/latest/securitykey",
        json=lambda request, context: key(next(numbers), lifetime),
    )


# --- aksk ---------------------------------------------------------------------------------------


def test_key_of_the_connection_is_never_asked_for_nor_renewed(web):
    authenticator = authenticator_for(settings("aksk"))

    authenticator.prepare()
    assert authenticator.is_ready()
    headers = authenticator.authenticate(outgoing())
    assert headers["Authorization"].startswith("SDK-HMAC-SHA256 Access=somebody, ")
    assert "X-Security-Token" not in headers
    assert not authenticator.rejected(headers)
    assert web.call_count == 0


def test_temporary_key_of_the_connection_sends_and_signs_its_security_token():
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
def test_signature_is_of_the_kind_that_the_host_takes(host, derived_auth, kind):
    chosen = settings("aksk", base_url=f"https://{host}", derived_auth=derived_auth)
    headers = authenticator_for(chosen).authenticate(outgoing())

    assert headers["Authorization"].startswith(f"{kind} ")


def test_derived_signature_without_a_region_is_an_error_before_anything_is_sent():
    with pytest.raises(IoTDAConfigError, match="set region in Extra"):
        authenticator_for(settings("aksk", base_url="https://10.0.0.8", region=None))


def test_missing_project_is_looked_up_once(web):
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


@pytest.mark.parametrize("found", [[], [{"id": "a-1"}, {"id": "a-2"}], [{"id": "../x"}]])
def test_project_that_is_not_one_is_an_error_that_says_so(web, found):
    web.get(f"{IAM}/v3/projects", json={"projects": found})
    authenticator = authenticator_for(settings("aksk", project_id=None, iam_endpoint=IAM))

    with pytest.raises(IoTDAConfigError, match=rf"lists {len(found)} projects .* Set project_id"):
        authenticator.prepare()


def test_project_is_not_looked_up_at_an_iam_that_nobody_named(web):
    authenticator = authenticator_for(settings("aksk", project_id=None))

    authenticator.prepare()
    assert authenticator.is_ready()
    with pytest.raises(IoTDAConfigError, match="No project id"):
        _ = authenticator.project_id
    assert web.call_count == 0


# --- token --------------------------------------------------------------------------------------


def test_token_is_asked_for_once_and_sent_instead_of_a_signature(web):
    iam = issue_tokens(web)
    authenticator = authenticator_for(settings("token"))
    assert not authenticator.is_ready()

    authenticator.prepare()
    authenticator.prepare()
    headers = authenticator.authenticate(outgoing(Accept="x"))

    assert headers["X-Auth-Token"] == "token-1"
    assert headers["Accept"] == "x"
    assert "Authorization" not in headers
    assert iam.call_count == 1
    assert json.loads(iam.last_request.body)["auth"] == {
        "identity": {
            "methods": ["password"],
            "password": {
                "user": {
                    "name": "somebody",
                    "password": "pass-word-1",
                    "domain": {"name": "the account"},
                }
            },
        },
        "scope": {"project": {"id": "project-1"}},
    }


def test_token_without_a_project_is_for_the_regions_and_says_which_that_is(web):
    iam = issue_tokens(web, project="the-regions")
    authenticator = authenticator_for(settings("token", project_id=None))
    authenticator.prepare()

    assert authenticator.project_id == "the-regions"
    scope = json.loads(iam.last_request.body)["auth"]["scope"]
    assert scope == {"project": {"name": "cn-north-4"}}


def test_token_is_shared_by_all_that_use_the_connection(web):
    iam = issue_tokens(web)
    for _ in range(5):
        authenticator = authenticator_for(settings("token"))
        if not authenticator.is_ready():
            authenticator.prepare()

    assert iam.call_count == 1


@pytest.mark.parametrize(
    "other",
    [
        {"password": "pass-word-2"},
        {"login": "another"},
        {"domain_name": "another"},
        {"project_id": "project-2"},
        {"iam_endpoint": "https://iam.example.com"},
        {"base_url": "https://iotda.example.com"},
    ],
)
def test_token_is_not_shared_with_another_connection(other):
    assert authenticator_for(settings("token")) is not authenticator_for(settings("token", **other))


def test_token_is_renewed_before_it_expires(web):
    issue_tokens(web, lifetime=1)
    authenticator = authenticator_for(settings("token"))
    clock = authenticator._token
    authenticator.prepare()
    assert authenticator.is_ready()

    now = clock._now()
    clock._now = lambda: now + 0.95
    assert not authenticator.is_ready()
    authenticator.prepare()

    assert authenticator.authenticate(outgoing())["X-Auth-Token"] == "token-2"


def test_tokens_life_is_told_by_iams_clock_alone(web):
    """A clock that is a day wrong neither wears out IAM nor sends expired tokens."""
    for offset in (-86_400, 86_400):
        facts = {"issued_at": in_seconds(offset), "expires_at": in_seconds(offset + 3600)}
        web.post(
            f"{IAM}/v3/auth/tokens",
            status_code=201,
            headers={"X-Subject-Token": "token-1"},
            json={"token": facts},
        )
        authenticator = authenticator_for(settings("token", domain_name=str(offset)))
        authenticator.prepare()

        assert authenticator.is_ready()
        now = authenticator._token._now()
        authenticator._token._now = lambda now=now: now + 3400
        assert not authenticator.is_ready()


def test_rejected_token_is_renewed_once_by_however_many_saw_it_rejected(web):
    iam = issue_tokens(web)
    authenticator = authenticator_for(settings("token"))
    authenticator.prepare()
    first = authenticator.authenticate(outgoing())

    assert authenticator.rejected(first)
    assert not authenticator.is_ready()
    authenticator.prepare()
    assert authenticator.rejected(first), "the second to see it gets the new one"
    assert authenticator.is_ready(), "which is not thrown away for it"
    assert authenticator.authenticate(outgoing())["X-Auth-Token"] == "token-2"
    assert iam.call_count == 2


def test_rejection_is_recognised_in_the_headers_as_they_were_sent(web):
    issue_tokens(web)
    authenticator = authenticator_for(settings("token"))
    authenticator.prepare()
    sent = requests.structures.CaseInsensitiveDict(authenticator.authenticate(outgoing()))
    assert authenticator.rejected({name.lower(): text for name, text in sent.items()})
    assert not authenticator.is_ready()


# --- agency and federation ----------------------------------------------------------------------


def test_agencys_key_comes_from_the_metadata_service_with_its_token(web):
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
def test_metadata_service_without_tokens_is_asked_without_one(web, status):
    issue_agency_keys(web)
    web.put(f"{METADATA}/meta-data/latest/api/token", status_code=status)
    authenticator_for(settings("agency")).prepare()

    assert "X-Metadata-Token" not in web.last_request.headers


def test_metadata_service_is_never_asked_through_a_proxy(web, monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", "http://proxy.example:3128")
    issue_agency_keys(web)
    authenticator_for(settings("agency", proxies={"http": "http://proxy.example:3128"})).prepare()

    assert [request.proxies for request in web.request_history] == [{}, {}]


def test_agencys_key_is_renewed_before_it_expires_and_after_a_rejection(web):
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


def test_instance_without_an_agency_is_told_to_bind_one(web):
    web.put(f"{METADATA}/meta-data/latest/api/token", status_code=404)
    web.get(
        f"{METADATA}/openstack/latest/securitykey",
        status_code=401,
        text="Please configure Cloud Service Agency first",
    )
    with pytest.raises(IoTDAAuthError, match="Bind an agency"):
        authenticator_for(settings("agency")).prepare()


def exchange_id_tokens(web):
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
        json=lambda request, context: key(next(numbers)),
    )
    return unscoped, keys


def test_id_token_is_exchanged_for_a_key_and_read_anew_each_time(web, tmp_path):
    unscoped, keys = exchange_id_tokens(web)
    file = tmp_path / "id_token"
    file.write_text("id-token-1\n")
    authenticator = authenticator_for(settings("federation", id_token_file=str(file)))
    authenticator.prepare()
    headers = authenticator.authenticate(outgoing())

    assert headers["X-Security-Token"] == "security-token-1"
    assert unscoped.last_request.headers["X-Idp-Id"] == "idp-1"
    assert unscoped.last_request.json() == {"auth": {"id_token": {"id": "id-token-1"}}}
    assert keys.last_request.json()["auth"]["identity"]["token"]["id"] == "unscoped-1"

    file.write_text("id-token-2")
    assert authenticator.rejected(headers)
    authenticator.prepare()
    assert unscoped.last_request.json() == {"auth": {"id_token": {"id": "id-token-2"}}}


@pytest.mark.parametrize("content", [None, b"", b"\xff\xfe\xfa", ...])
def test_id_token_that_is_not_there_is_an_error_that_names_the_file(web, tmp_path, content):
    file = tmp_path / "id_token"
    if content is ...:
        file.mkdir()
    elif content is not None:
        file.write_bytes(content)
    with pytest.raises(IoTDAConfigError, match="id_token_file"):
        authenticator_for(settings("federation", id_token_file=str(file))).prepare()
    assert web.call_count == 0


# --- refusals, silence, nonsense ----------------------------------------------------------------

WRONG_PASSWORD = {"error": {"code": 401, "message": "The username or password is wrong."}}


def test_refused_user_is_told_what_to_check(web):
    web.post(f"{IAM}/v3/auth/tokens", status_code=401, json=WRONG_PASSWORD)
    with pytest.raises(IoTDAAuthError) as caught:
        authenticator_for(settings("token")).prepare()

    assert str(caught.value) == (
        "Could not obtain a token from IAM: HTTP 401: 401 The username or password is wrong. Check "
        "the connection's Login (an IAM user, not the account), Password, domain_name (the "
        "account's name) and project_id (or region), and whether the user may use programmatic "
        "access"
    )


def test_wrong_clock_is_named_beside_what_else_may_be_wrong(web):
    date = {"Date": "Tue, 01 Jan 2030 00:00:00 GMT"}
    web.post(f"{IAM}/v3/auth/tokens", status_code=401, json=WRONG_PASSWORD, headers=date)
    with pytest.raises(IoTDAAuthError, match=r"Check the .* This machine's clock is \d+ days"):
        authenticator_for(settings("token")).prepare()


def test_trouble_of_iam_leaves_the_callers_request_unsent(web):
    web.post(f"{IAM}/v3/auth/tokens", status_code=503)
    with pytest.raises(IoTDATransportError, match="503") as caught:
        authenticator_for(settings("token")).prepare()
    assert not caught.value.sent


def test_silence_of_iam_leaves_the_callers_request_unsent(web):
    web.post(f"{IAM}/v3/auth/tokens", exc=requests.exceptions.ConnectTimeout("pass-word-1 late"))
    with pytest.raises(
        IoTDATransportError, match=r"connecting timed out \(\*\*\* late\)"
    ) as caught:
        authenticator_for(settings("token")).prepare()
    assert not caught.value.sent


def test_throttling_by_iam_says_when_to_come_back(web):
    web.post(f"{IAM}/v3/auth/tokens", status_code=429, headers={"Retry-After": "7"})
    with pytest.raises(IoTDAThrottledError) as caught:
        authenticator_for(settings("token")).prepare()
    assert caught.value.retry_after == 7


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        ({}, {"token": {}}),
        ({"X-Subject-Token": "token\xe9-1"}, {"token": {}}),
        ({"X-Subject-Token": "two words"}, {"token": {}}),
        ({"X-Subject-Token": "token-1"}, []),
        ({"X-Subject-Token": "token-1"}, {"token": {"expires_at": "tomorrow"}}),
        ({"X-Subject-Token": "token-1"}, {"token": {"expires_at": 5}}),
    ],
)
def test_answer_without_a_usable_token_is_named_and_not_quoted(web, headers, body):
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
def test_answer_without_a_usable_key_is_named_and_not_quoted(web, change):
    issue_agency_keys(web)
    answer = {"credential": key(1)["credential"] | change}
    web.get(f"{METADATA}/openstack/latest/securitykey", json=answer)
    with pytest.raises(IoTDATransportError, match="makes no sense") as caught:
        authenticator_for(settings("agency")).prepare()
    assert "secret-1" not in str(caught.value)


@pytest.mark.parametrize("auth_type", ["token", "agency", "federation"])
def test_redirects_are_not_followed_with_credentials(web, tmp_path, auth_type):
    file = tmp_path / "id_token"
    file.write_text("id-token-1")
    elsewhere = web.register_uri(requests_mock.ANY, "https://evil.example/x", text="thanks")
    away = {"status_code": 307, "headers": {"Location": "https://evil.example/x"}}
    web.post(f"{IAM}/v3/auth/tokens", **away)
    web.post(f"{IAM}/v3.0/OS-AUTH/id-token/tokens", **away)
    web.put(f"{METADATA}/meta-data/latest/api/token", **away)

    with pytest.raises(IoTDAApiError, match="redirects are not followed"):
        authenticator_for(settings(auth_type, id_token_file=str(file))).prepare()
    assert elsewhere.call_count == 0


def test_connections_proxy_and_bundle_win_over_the_environments(web, monkeypatch):
    monkeypatch.setenv("HTTPS_PROXY", "http://environment.example:1")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/environment.pem")
    iam = issue_tokens(web)
    authenticator_for(settings("token")).prepare()
    assert iam.last_request.proxies["https"] == "http://environment.example:1"
    assert iam.last_request.verify == "/environment.pem"

    own = {"proxies": {"https": "http://own.example:1"}, "verify": "/own.pem"}
    authenticator_for(settings("token", **own)).prepare()
    assert iam.last_request.proxies["https"] == "http://own.example:1"
    assert iam.last_request.verify == "/own.pem"


def test_netrc_adds_nothing_to_a_request_for_a_token(web, tmp_path, monkeypatch):
    netrc = tmp_path / "netrc"
    netrc.write_text("machine iam.cn-north-4.myhuaweicloud.com login a password b\n")
    monkeypatch.setenv("NETRC", str(netrc))
    iam = issue_tokens(web)
    authenticator_for(settings("token")).prepare()

    assert "Authorization" not in iam.last_request.headers


@pytest.mark.parametrize("status", [400, 401, 403, 500])
def test_secret_that_iam_echoes_is_not_in_the_error(web, status):
    web.post(
        f"{IAM}/v3/auth/tokens",
        status_code=status,
        json={"error": {"message": "bad: pass-word-1", "code": status}},
    )
    with pytest.raises((IoTDAApiError, IoTDATransportError), match=r"bad: \*\*\*"):
        authenticator_for(settings("token")).prepare()


def test_secrets_are_known_to_the_masker_as_soon_as_they_are_known(web, tmp_path, monkeypatch):
    masked = set()
    monkeypatch.setattr("iotda_provider.masking.mask_secret", masked.add)
    issue_tokens(web)
    issue_agency_keys(web)
    exchange_id_tokens(web)
    file = tmp_path / "id_token"
    file.write_text("id-token-1")

    authenticator_for(settings("token")).prepare()
    assert masked == {"token-1"}
    masked.clear()
    authenticator_for(settings("agency")).prepare()
    assert masked == {"metadata-token", "ACCESS1", "secret-1", "security-token-1"}
    masked.clear()
    authenticator_for(settings("federation", id_token_file=str(file))).prepare()
    assert masked == {"id-token-1", "unscoped-1", "ACCESS1", "secret-1", "security-token-1"}
    masked.clear()
    refused = {"status_code": 401, "json": {"error_msg": "no"}}
    web.post(f"{IAM}/v3.0/OS-AUTH/id-token/tokens", **refused)
    with pytest.raises(IoTDAAuthError):
        authenticator_for(settings("federation", id_token_file=str(file), idp_id="2")).prepare()
    assert masked == {"id-token-1"}, "even where the exchange fails"


def test_reprs_show_no_secret(web):
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
