"""Callers can add headers, and neither replace ours nor smuggle in others; nor can a connection."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from requests_mock import ANY

from iotda_provider.connection.settings import ConnectionSettings
from iotda_provider.exceptions import IoTDAConfigError
from iotda_provider.hooks.iotda import IoTDAHook
from iotda_provider.transport.headers import checked_headers, signed_headers

OURS = [
    "Authorization",
    "HOST",
    "Content-Length",
    "content-type",
    "Transfer-Encoding",
    "Instance-Id",
    "X-Sdk-Date",
    "X-Sdk-Content-Sha256",
    "X-Project-Id",
    "X-Security-Token",
    "x-auth-token",
    "Connection",
    "Expect",
    "UPGRADE",
    "te",
    "Trailer",
    "Keep-Alive",
    "Content-Encoding",
    "Proxy-Authorization",
    "proxy-connection",
    "Cookie",
    "X-Forwarded-For",
    "Forwarded",
    "X-HTTP-Method-Override",
]


@pytest.mark.parametrize("name", OURS)
def test_headers_of_the_authentication_and_of_the_transport_are_ours(name):
    with pytest.raises(IoTDAConfigError, match="can't be set by a caller"):
        checked_headers({name: "x"})


@pytest.mark.parametrize(
    "name",
    [
        "",
        "A B",
        "A:B",
        "A\r\nB",
        "A\nB",
        "A_B",
        "é",
        "A" * 101,
        "A\x00",
        5,
        None,
        b"A",
        "A\t",
        "()",
    ],
)
def test_name_that_is_none_is_refused(name):
    with pytest.raises(IoTDAConfigError):
        checked_headers({name: "x"})


@pytest.mark.parametrize("value", ["a\r\nB: c", "a\nb", "a\rb", "a\x00", "é", "a\tb", "\u2028"])
def test_value_that_could_end_the_header_is_refused(value):
    with pytest.raises(IoTDAConfigError, match="characters that no header may hold"):
        checked_headers({"X-Mine": value})


@given(st.dictionaries(st.text(max_size=12), st.text(max_size=30), max_size=4))
def test_whatever_passes_is_one_line_each_and_no_header_of_ours(headers):
    try:
        checked = checked_headers(headers)
    except IoTDAConfigError:
        return
    for name, value in checked.items():
        assert f"{name}: {value}".isprintable()
        assert f"{name}: {value}".isascii()
        assert name.lower() not in {known.lower() for known in OURS}


def test_signed_headers_name_the_host_project_and_instance():
    settings = ConnectionSettings(
        conn_id="c", base_url="https://h.example:8443", instance_id="i-1", project_id="p-1"
    )

    assert signed_headers(settings, "p-1") == {
        "Host": "h.example:8443",
        "Content-Type": "application/json",
        "X-Project-Id": "p-1",
        "Instance-Id": "i-1",
    }


def test_nothing_in_extra_becomes_a_header(monkeypatch, requests_mock):
    extra = {
        "region": "cn-north-4",
        "project_id": "p-1",
        "domain_name": "a-domain",
        "idp_id": "an-idp",
        "verify": False,
        "timeout": 5,
        "proxies": {"https": "http://user:a-proxy-password@proxy.example:3128"},
    }
    known = {"conn_type": "iotda", "login": "AK", "password": "s3cret", "extra": extra}
    monkeypatch.setenv("AIRFLOW_CONN_IOTDA_DEFAULT", json.dumps(known))
    sent = requests_mock.get("https://iotda.cn-north-4.myhuaweicloud.com/v5/iot/p-1/x", json={})
    IoTDAHook().run("x")

    headers = sent.last_request.headers
    assert set(headers) == {
        "Accept",
        "Accept-Encoding",
        "Authorization",
        "Connection",
        "Content-Type",
        "Host",
        "User-Agent",
        "X-Project-Id",
        "X-Sdk-Date",
    }
    text = str(headers)
    for value in ("a-domain", "an-idp", "a-proxy-password", "s3cret"):
        assert value not in text


@pytest.fixture
def hook(monkeypatch) -> IoTDAHook:
    known = {
        "conn_type": "iotda",
        "login": "AK",
        "password": "s3cret",
        "extra": {"region": "cn-north-4", "project_id": "p-1"},
    }
    monkeypatch.setenv("AIRFLOW_CONN_IOTDA_DEFAULT", json.dumps(known))
    return IoTDAHook()


@pytest.mark.parametrize("name", OURS)
def test_run_sends_nothing_with_a_header_of_ours(hook, requests_mock, name):
    with pytest.raises(IoTDAConfigError, match="can't be set by a caller"):
        hook.run("devices", headers={"X-Mine": "a", name: "x"})
    assert requests_mock.call_count == 0


ELSEWHERE = [
    "https://evil.example/v5/iot/p/devices",
    "//evil.example/v5/iot/p/devices",
    "/\\evil.example/x",
    "http:evil.example",
    "@evil.example/x",
    "https:/evil.example/x",
    "/v5/../../x",
    "/v5/iot/%2e%2e/x",
    "devices/%2fetc",
    "devices/a%2Fb",
    "devices?x=1",
    "devices#x",
    "devices\r\nX-Evil: 1",
    "devices /x",
    "devices//x",
    "devices/./x",
    "devices/..",
    "..",
    "",
    "/",
    None,
    5,
]


@pytest.mark.parametrize("endpoint", ELSEWHERE)
def test_run_leads_nowhere_else(hook, requests_mock, endpoint):
    anything = requests_mock.register_uri("GET", ANY, json={})
    try:
        hook.run(endpoint)
    except IoTDAConfigError:
        assert anything.call_count == 0
    else:
        # What is a name with odd characters stays one, on the connection's own host.
        assert anything.last_request.netloc == "iotda.cn-north-4.myhuaweicloud.com"
        assert anything.last_request.path.startswith("/v5/iot/p-1/")


@pytest.mark.parametrize(
    "task_id",
    ["../x", "a/b", "a%2fb", "a?b", "a#b", "a\nb", "", " ", "A" * 24, "a" * 25, "..", None],
)
def test_task_id_cannot_leave_its_place(hook, requests_mock, task_id):
    for act in (hook.get_batch_task, hook.stop_batch_task, hook.delete_batch_task):
        with pytest.raises(IoTDAConfigError, match="batch_task_id"):
            act(task_id)
    assert requests_mock.call_count == 0
