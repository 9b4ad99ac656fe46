"""What the tests of the emulator over real HTTP share: emulators, the official SDK, raw calls."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any
from urllib.parse import urlencode

import pytest
import requests
from huaweicloudsdkcore.auth.credentials import BasicCredentials
from huaweicloudsdkcore.region.region import Region
from huaweicloudsdkcore.sdk_request import SdkRequest
from huaweicloudsdkcore.signer.signer import DerivationAKSKSigner, Signer
from huaweicloudsdkiotda import v5

from iotda_provider.emulator import Emulator

TASK = "0123456789abcdef01234567"


@pytest.fixture
def start() -> Iterator[Callable[..., Emulator]]:
    """Starts emulators whose time moves by ``advance`` only; all end with the test."""
    with ExitStack() as stack:

        def make(scenario: dict[str, Any] | None = None, **options: Any) -> Emulator:
            return stack.enter_context(Emulator(scenario, **{"speed": 0, **options}))

        yield make


@pytest.fixture(params=[False, True], ids=["SDK-HMAC-SHA256", "V11-HMAC-SHA256"])
def derived(request: pytest.FixtureRequest) -> bool:
    """Either kind of signature."""
    return bool(request.param)


@pytest.fixture
def sdk() -> Callable[..., v5.IoTDAClient]:
    """The official SDK's client for an emulator."""

    def make(
        emulator: Emulator,
        derived: bool = False,
        ak: str | None = None,
        sk: str | None = None,
        token: str | None = None,
    ) -> v5.IoTDAClient:
        settings = emulator.instance.settings
        credentials = BasicCredentials(ak or settings.ak, sk or settings.sk, settings.project_id)
        if token is not None:
            credentials = credentials.with_security_token(token)
        return (
            v5.IoTDAClient.new_builder()
            .with_credentials(credentials.with_derived_predicate(lambda request: derived))
            .with_region(Region("cn-north-4", emulator.url))
            .build()
        )

    return make


@pytest.fixture
def call() -> Iterator[Callable[..., requests.Response]]:
    """Makes one call, signed by the SDK's signer, and answers it as it came over the wire."""
    with requests.Session() as session:

        def send(
            emulator: Emulator,
            method: str,
            path: str,
            body: object = None,
            query: dict[str, str] | None = None,
            headers: dict[str, str] | None = None,
            derived: bool = False,
            project: str | None = None,
            timeout: float = 30,
        ) -> requests.Response:
            settings = emulator.instance.settings
            path = f"/v5/iot/{project or settings.project_id}{path}"
            raw = b"" if body is None else body if isinstance(body, bytes) else json.dumps(body)
            request = SdkRequest(
                method=method,
                schema="http",
                host=emulator.url.removeprefix("http://"),
                resource_path=path,
                query_params=list((query or {}).items()),
                header_params={"Content-Type": "application/json", **(headers or {})},
                body=raw,
            )
            credentials = BasicCredentials(settings.ak, settings.sk, settings.project_id)
            if derived:
                DerivationAKSKSigner(credentials).sign(request, "iotdm", "cn-north-4")
            else:
                Signer(credentials).sign(request)
            url = emulator.url + path + (f"?{urlencode(query)}" if query else "")
            return session.request(
                method, url, data=request.body, headers=request.header_params, timeout=timeout
            )

        yield send


@pytest.fixture
def nothing_lost() -> Callable[[Any], None]:
    """Asserts that the SDK's model of a response holds every field of the JSON it came from."""

    def check(response: Any) -> None:
        _same(json.loads(response.raw_content), response.to_dict(), type(response).__name__)

    return check


def _same(sent: object, parsed: object, where: str) -> None:
    if isinstance(sent, dict):
        assert isinstance(parsed, dict), where
        for name, value in sent.items():
            assert name in parsed, f"{where}.{name} is lost"
            _same(value, parsed[name], f"{where}.{name}")
    elif isinstance(sent, list):
        assert isinstance(parsed, list), where
        assert len(sent) == len(parsed), where
        for place, (one, other) in enumerate(zip(sent, parsed, strict=True)):
            _same(one, other, f"{where}[{place}]")
    else:
        assert sent == parsed, where
