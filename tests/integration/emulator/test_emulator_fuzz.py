"""Whatever is sent, signed or not: an answer in the platform's words, and the next one as ever."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from functools import cache
from typing import Any
from urllib.parse import quote, urlsplit

import pytest
from huaweicloudsdkcore.auth.credentials import BasicCredentials
from huaweicloudsdkcore.sdk_request import SdkRequest
from huaweicloudsdkcore.signer.signer import Signer
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from iotda_provider.emulator import Emulator

TASK = "0123456789abcdef01234567"
GROUP = "11111111-2222-3333-4444-555555555555"
PATHS = (
    "/batchtasks",
    f"/batchtasks/{TASK}",
    f"/batchtasks/{TASK}/stop",
    f"/batchtasks/{TASK}/retry",
    f"/batchtasks/{TASK}/confirm",
    "/devices",
    "/devices/device-00001",
    "/devices/device-00001/list-device-group",
    "/search/query-devices",
    "/device-group",
    f"/device-group/{GROUP}",
    f"/device-group/{GROUP}/devices",
    f"/device-group/{GROUP}/action",
    "/ota-upgrades/packages",
    "/ota-upgrades/packages/abc-1",
)
UNSIGNED = (
    "/v3/auth/tokens",
    "/v3/projects",
    "/v3.0/OS-AUTH/id-token/tokens",
    "/v3.0/OS-CREDENTIAL/securitytokens",
    "/meta-data/latest/api/token",
    "/openstack/latest/securitykey",
    "/_emulator/clock",
    "/_emulator/clock/advance",
    "/_emulator/journal",
    "/_emulator/faults",
    "/_emulator/faults/x",
    "/v5/iot/emulator-project/batchtasks",
)
# What reads numbers, times, words and texts, so that a fuzzer gets past the names.
NAMES = st.sampled_from(
    [
        *("limit", "offset", "marker", "app_id", "task_type", "status", "task_detail_status"),
        *("target", "product_id", "gateway_id", "node_id", "device_name", "start_time", "end_time"),
        *("last_modified_time", "group_type", "name", "package_type", "version", "action_id"),
        *("device_id", "is_cascade_query", "after", "call", "task_name", "targets", "document"),
        *("task_policy", "retry_count", "retry_interval", "schedule_time", "group_ids", "sql"),
        *("targets_filter", "package_ids", "task_ext_info", "need_confirm", "description"),
        *("super_group_id", "dynamic_group_rule", "file_location", "obs_location", "sign"),
        *("seconds", "kind", "count", "probability", "headers", "body", "auth", "identity"),
        *("token", "id", "duration_seconds", "password", "user", "scope", "project", "shadow"),
    ]
)
WORDS = st.sampled_from(
    [
        *("firmwareUpgrade", "updateDeviceShadows", "createDevices", "sendEmails", "Success"),
        *("Rejected", "STATIC", "DYNAMIC", "firmwarePackage", "addDevice", "device-00001", GROUP),
        *("20260101T000000Z", "00010101T000000Z", "99991231T235959Z", "f" * 24, "status", "html"),
        *("select * from device where fw_version = '1' limit 5,9", "select count(*) from device"),
        *("fw_version = '1.0.0'", "²", "٣", "9" * 5000, "-1", "1e999", "NaN", "\x00", "\ud800"),
    ]
)
TEXTS = WORDS | st.text(max_size=30)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXTS | st.just(10**400),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(NAMES | st.text(max_size=5), inner, max_size=6)
    ),
    max_leaves=20,
)
BODIES = st.one_of(
    st.dictionaries(NAMES, VALUES, max_size=8).map(json.dumps).map(str.encode),
    VALUES.map(json.dumps).map(str.encode),
    st.binary(max_size=50),
)
HEADERS = st.dictionaries(
    st.sampled_from(
        [
            *("Authorization", "X-Sdk-Date", "X-Auth-Token", "X-Security-Token", "Origin"),
            *("X-Emulator-Key", "X-Metadata-Token", "X-Metadata-Token-Ttl-Seconds", "X-Idp-Id"),
            *("X-Sdk-Content-Sha256", "Instance-Id", "Cookie", "Range", "Accept", "Expect"),
        ]
    ),
    st.sampled_from(
        [
            "SDK-HMAC-SHA256 Access=emulator-ak, SignedHeaders=host;x-sdk-date, Signature=00",
            "V11-HMAC-SHA256 Credential=emulator-ak/20260101/x/iotdm, SignedHeaders=;, Signature=0",
            *(
                "20260101T000000Z",
                "2026010T000000Z",
                "²",
                "9" * 5000,
                "",
                "100-continue",
                "bytes=0-",
            ),
        ]
    )
    | st.text(st.characters(min_codepoint=32, max_codepoint=255, exclude_characters="\x7f")),
    max_size=5,
)
METHODS = st.sampled_from(["GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "HEAD"])
LEISURELY = settings(
    max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@pytest.fixture(scope="module")
def emulator() -> Iterator[Emulator]:
    scenario = {
        "devices": 20,
        "batch_tasks": [{"task_id": TASK}],
        "groups": [{"name": "canaries", "group_id": GROUP, "count": 5}],
        "packages": [{"package_id": "abc-1", "version": "2.0.0"}],
        "switches": {"search_per_second": None},
    }
    with Emulator(scenario, speed=0, control=True) as running:
        yield running


def ask(
    emulator: Emulator, method: str, path: str, body: bytes, headers: dict[str, str]
) -> tuple[int, bytes]:
    """One request as it stands, on a connection of its own."""
    connection = http.client.HTTPConnection(urlsplit(emulator.url).netloc, timeout=60)
    try:
        raw = {name: value.encode("latin-1") for name, value in headers.items()}
        connection.request(method, path, body, raw)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def signed(
    emulator: Emulator, method: str, path: str, body: bytes = b"", query: Any = ()
) -> tuple[int, bytes]:
    """One request, signed as the official SDK signs."""
    uri, headers = signature(emulator.url, method, path, body, tuple(query))
    return ask(emulator, method, uri, body, headers)


@cache
def signature(
    url: str, method: str, path: str, body: bytes, query: tuple[Any, ...]
) -> tuple[str, dict[str, str]]:
    """The target and the headers of a request; they are good for a quarter of an hour."""
    path = f"/v5/iot/emulator-project{path}"
    request = SdkRequest(
        method=method,
        schema="http",
        host=urlsplit(url).netloc,
        resource_path=path,
        query_params=list(query),
        header_params={"Content-Type": "application/json"},
        body=body,
    )
    Signer(BasicCredentials("emulator-ak", "emulator-sk", "emulator-project")).sign(request)
    return request.uri, request.header_params


def no_number(text: str) -> None:
    raise AssertionError(f"{text} is not JSON")


def all_is_well(emulator: Emulator) -> None:
    """What others ask for is answered, and it is JSON."""
    everything = [
        signed(emulator, "GET", "/batchtasks", query=[("task_type", "firmwareUpgrade")]),
        signed(emulator, "GET", f"/batchtasks/{TASK}"),
        signed(emulator, "GET", "/device-group"),
        signed(
            emulator, "GET", "/ota-upgrades/packages", query=[("package_type", "firmwarePackage")]
        ),
        ask(
            emulator,
            "GET",
            "/_emulator/journal",
            b"",
            {"X-Emulator-Key": str(emulator.control_key)},
        ),
    ]
    for status, body in everything:
        assert status == 200, body[:300]
        json.loads(body, parse_constant=no_number)
    emulator.clear_journal()


@given(
    method=METHODS,
    path=st.sampled_from(PATHS)
    | st.text(max_size=40).map(lambda text: f"/{quote(text, errors='replace')}"),
    query=st.lists(
        st.tuples(NAMES, TEXTS.map(lambda text: text.replace("\ud800", ""))), max_size=4
    ),
    body=BODIES,
)
@LEISURELY
def test_a_signed_request_is_answered_or_refused(
    emulator: Emulator, method: str, path: str, query: list[tuple[str, str]], body: bytes
) -> None:
    if (method, path) in [("DELETE", f"/batchtasks/{TASK}"), ("DELETE", f"/device-group/{GROUP}")]:
        return  # they are asked for below
    status, answer = signed(emulator, method, path, body, query)
    assert status < 500, answer
    if status >= 400 and method != "HEAD":
        assert set(json.loads(answer)) == {"error_code", "error_msg"}
    all_is_well(emulator)


@given(
    method=METHODS,
    path=st.sampled_from(UNSIGNED),
    query=st.lists(st.tuples(NAMES, TEXTS), max_size=3),
    body=BODIES,
    headers=HEADERS,
    has_key=st.booleans(),
)
@LEISURELY
def test_a_request_that_nobody_signed_is_answered_or_refused(
    emulator: Emulator,
    method: str,
    path: str,
    query: list[tuple[str, str]],
    body: bytes,
    headers: dict[str, str],
    has_key: bool,
) -> None:
    if has_key:
        headers = {**headers, "X-Emulator-Key": str(emulator.control_key)}
    text = "&".join(f"{name}={quote(value, errors='replace')}" for name, value in query)
    status, answer = ask(emulator, method, f"{path}?{text}" if text else path, body, headers)
    assert status < 500, answer
    emulator.clear_faults()
    all_is_well(emulator)
