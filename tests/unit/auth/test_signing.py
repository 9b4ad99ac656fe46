"""Our signatures are those of the vendor's own signers, byte for byte."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any
from urllib.parse import quote

import pytest
from huaweicloudsdkcore.sdk_request import SdkRequest
from huaweicloudsdkcore.signer.signer import DerivationAKSKSigner, Signer
from hypothesis import given
from hypothesis import strategies as st

from iotda_provider.api import Outgoing
from iotda_provider.auth.signing import DERIVED_SERVICE, AccessKey, Scope, sign

PLAIN = Scope(derived=False)
DERIVED = Scope(derived=True, region="cn-north-4")


def signed_by_the_vendor(outgoing: Outgoing, key: AccessKey, scope: Scope) -> dict[str, Any]:
    headers = dict(outgoing.headers)
    if key.security_token:
        headers["X-Security-Token"] = key.security_token
    request = SdkRequest(
        method=outgoing.method,
        schema="https",
        host=outgoing.host,
        resource_path=outgoing.path,
        query_params=list(outgoing.query),
        header_params=headers,
        body=outgoing.body,
    )
    credentials = SimpleNamespace(ak=key.access_key, sk=key.secret_key)
    if scope.derived:
        DerivationAKSKSigner(credentials).sign(request, DERIVED_SERVICE, scope.region)
    else:
        Signer(credentials).sign(request)
    assert request.uri == outgoing.uri
    return headers


words = st.text(st.characters(codec="utf-8", exclude_characters="\r\n\0"), max_size=12)
names = st.text("abcXYZ-_", min_size=1, max_size=8).map(lambda name: f"X-T{name}")
requests = st.builds(
    Outgoing,
    method=st.sampled_from(["GET", "POST", "DELETE"]),
    host=st.sampled_from(["iotda.cn-north-4.myhuaweicloud.com", "127.0.0.1:8765"]),
    path=st.lists(words.map(lambda word: quote(word, safe="~")), min_size=1, max_size=4).map(
        lambda parts: "/v5/" + "/".join(parts)
    ),
    query=st.lists(st.tuples(words, words), max_size=4).map(tuple),
    headers=st.dictionaries(names, words, max_size=3).map(
        lambda more: {
            "X-Sdk-Date": "20260102T030405Z",
            "Content-Type": "application/json",
            **{name.lower(): value for name, value in more.items()},
        }
    ),
    body=st.binary(max_size=20),
)
keys = st.builds(
    AccessKey,
    st.text("ABC123", min_size=1, max_size=20),
    st.text("abc+/=", min_size=1, max_size=40),
    st.sampled_from([None, "a-session-token"]),
)


@pytest.mark.parametrize("scope", [PLAIN, DERIVED], ids=["SDK", "V11"])
@given(outgoing=requests, key=keys)
def test_any_request(scope: Scope, outgoing: Outgoing, key: AccessKey) -> None:
    assert sign(outgoing, key, scope) == signed_by_the_vendor(outgoing, key, scope)


@pytest.mark.parametrize("scope", [PLAIN, DERIVED], ids=["SDK", "V11"])
@pytest.mark.parametrize(
    "headers",
    [
        {"X-Sdk-Date": "20260102T030405Z", "Content-Type": "application/octet-stream"},
        {"x-sdk-date": "20260102T030405Z", "host": "elsewhere", "Content-Type": "application/bson"},
        {"X-Sdk-Date": "20260102T030405Z", "X-Name": " ünï ", "X_Unsigned": "1"},
    ],
    ids=["no json", "lower case", "spaces"],
)
def test_unusual_headers(scope: Scope, headers: dict[str, str]) -> None:
    outgoing = Outgoing("POST", "iotda.example", "/v5/a b/%7E", (("z", "1"),), headers, b"{}")
    key = AccessKey("AK", "SK")

    assert sign(outgoing, key, scope) == signed_by_the_vendor(outgoing, key, scope)


def test_an_authorization_from_elsewhere_is_replaced() -> None:
    key, date = AccessKey("AK", "SK"), {"X-Sdk-Date": "20260102T030405Z"}
    bare = Outgoing("GET", "iotda.example", "/v5", headers=date)
    other = Outgoing("GET", "iotda.example", "/v5", headers={**date, "Authorization": "Basic x"})

    assert sign(other, key, DERIVED) == sign(bare, key, DERIVED)


def test_the_time_is_now_where_the_request_names_none() -> None:
    outgoing = Outgoing("GET", "iotda.example", "/v5")
    key = AccessKey("AK", "SK")

    headers = sign(outgoing, key, DERIVED)
    again = Outgoing("GET", "iotda.example", "/v5", headers={"X-Sdk-Date": headers["X-Sdk-Date"]})

    assert headers["Host"] == "iotda.example"
    assert headers["Authorization"] == sign(again, key, DERIVED)["Authorization"]
