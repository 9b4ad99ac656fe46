"""The official SDK's client, as a black box, and our code sign and send any request alike."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import quote

import pytest
from huaweicloudsdkcore.auth.credentials import BasicCredentials
from huaweicloudsdkcore.region.region import Region
from huaweicloudsdkiotda.v5 import IoTDAClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from iotda_provider.api import Outgoing
from iotda_provider.auth.signing import AccessKey, Scope, sign

#: Of both algorithms, each with and without a security token.
EXAMPLES = 1_000
REGION = "cn-north-4"
RESERVED = "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~ \t\n€é中文\U0001f600\u0301%2F%252F+"

text = st.text(st.one_of(st.sampled_from(RESERVED), st.characters(exclude_categories=["Cs"])))
# "." and ".." are no names in a path: clients take them out before they send.
names = text.filter(lambda name: name not in ("", ".", ".."))
queries = st.lists(
    st.tuples(st.one_of(st.sampled_from(["limit", "marker", "a", ""]), text), text), max_size=6
)
bodies = st.one_of(
    st.none(),
    st.just(""),
    text,
    st.builds(lambda part, times: part * times, text, st.sampled_from([1_000, 20_000])),
)


@dataclass(frozen=True)
class Sent:
    """One request as it came over the wire."""

    method: str
    target: str
    headers: list[tuple[str, str]]
    body: bytes

    def header(self, name: str) -> str:
        (value,) = (value for key, value in self.headers if key.lower() == name.lower())
        return value


class Recorder(ThreadingHTTPServer):
    """Answers everything with 200, and keeps the last request."""

    daemon_threads = True
    last: Sent

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Recording)

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.server_port}"


class Recording(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.server.last = Sent(self.command, self.path, self.headers.items(), body)
        self.send_response(200)
        self.send_header("Content-Length", "4")
        self.end_headers()
        self.wfile.write(b"null")

    do_GET = do_POST = do_PUT = do_DELETE = do

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture(scope="module")
def recorder() -> Iterator[Recorder]:
    with Recorder() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.mark.timeout(600)
@pytest.mark.parametrize("token", [None, "the-security-token"])
@pytest.mark.parametrize("derived", [False, True], ids=["SDK-HMAC-SHA256", "V11-HMAC-SHA256"])
def test_any_request_is_signed_and_sent_as_by_the_sdk(recorder, derived, token):
    credentials = BasicCredentials("THE-ACCESS-KEY", "the-secret-key", "the-project")
    credentials.with_derived_predicate(lambda request: derived)
    if token:
        credentials.with_security_token(token)
    region = Region(REGION, f"http://{recorder.host}")
    sdk = IoTDAClient.new_builder().with_credentials(credentials).with_region(region).build()
    key = AccessKey("THE-ACCESS-KEY", "the-secret-key", token)
    scope = Scope(derived, REGION if derived else None)
    seen = set()

    @settings(
        max_examples=EXAMPLES // 4,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(
        method=st.sampled_from(["GET", "POST", "PUT", "DELETE"]),
        parts=st.lists(names, max_size=3),
        query=queries,
        body=bodies,
        instance=st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1),
    )
    def compare(method, parts, query, body, instance):
        path = "/v5/iot/{project_id}/" + "/".join(f"{{p{i}}}" for i in range(len(parts)))
        sdk.do_http_request(
            method,
            path,
            path_params={f"p{i}": part for i, part in enumerate(parts)},
            query_params=list(query),
            header_params={"Instance-Id": instance, "Content-Type": "application/json"},
            body=body,
        )
        theirs = recorder.last
        signed = re.search(r"SignedHeaders=([^,]+)", theirs.header("Authorization"))[1].split(";")

        ours = Outgoing(
            method,
            recorder.host,
            "/v5/iot/the-project/" + "/".join(quote(part, safe="") for part in parts),
            tuple(query),
            {name: theirs.header(name) for name in signed if name != "x-security-token"},
            (body or "").encode(),
        )
        headers = sign(ours, key, scope)

        assert headers["Authorization"] == theirs.header("Authorization")
        assert (ours.method, ours.uri, ours.body) == (theirs.method, theirs.target, theirs.body)
        seen.add(theirs.header("Authorization"))

    compare()

    assert len(seen) > EXAMPLES // 8, "so many different requests were compared"
