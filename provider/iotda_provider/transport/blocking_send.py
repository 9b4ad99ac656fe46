"""One blocking request by ``requests``: to IoTDA, to IAM or to the metadata service."""

from __future__ import annotations

import http.cookiejar
import time
from collections.abc import Mapping

import requests
from urllib3.exceptions import ClosedPoolError

from iotda_provider.connection.proxies_and_tls import proxy_for, verify_for
from iotda_provider.connection.settings import ConnectionSettings
from iotda_provider.masking.sealed import Sealed
from iotda_provider.transport.failures import TOO_LARGE, Fault
from iotda_provider.transport.headers import UNSIGNED_HEADERS
from iotda_provider.transport.retrying import CONNECT_SECONDS
from iotda_provider.transport.total_timeout import (
    SessionWithoutRedirects,
    TotalTimeoutAdapter,
    timed_out_within,
    total_timeout,
)


def open_session(
    settings: ConnectionSettings, url: str, *, direct: bool = False, connections: int = 1
) -> requests.Session:
    """A session for one host, with the connection's proxy and certificates.

    :param direct: use no proxy, not even those of the environment
    :param connections: how many connections are kept open for later requests
    :raises IoTDAConfigError: the CA bundle can't be read, or the proxy can't be used
    """
    verify, proxy = verify_for(settings, url), None if direct else proxy_for(settings, url)
    session = SessionWithoutRedirects()
    session.verify = verify
    session.proxies = {} if proxy is None else {"http": proxy, "https": proxy}
    session.trust_env = False  # proxy_for and verify_for have read the environment; no .netrc
    session.headers.update(UNSIGNED_HEADERS)
    # The API sets no cookies; a proxy that sets one gets none back.
    session.cookies.set_policy(http.cookiejar.DefaultCookiePolicy(allowed_domains=[]))
    adapter = TotalTimeoutAdapter(
        idle=60, count=5, interval=15, pool_connections=2, pool_maxsize=connections
    )
    session.mount("https://", adapter)
    session.mount("http://", adapter)
    return session


def send(
    session: requests.Session,
    method: str,
    url: str,
    headers: Sealed[Mapping[str, str]],
    body: Sealed[bytes],
    *,
    seconds: float,
    most_bytes: int,
) -> requests.Response:
    """Send a request and read its answer within the time; redirects are not followed.

    :param most_bytes: a longer answer is an error
    :raises requests.RequestException: no whole answer came; see :func:`fault_of`
    :raises ValueError: the same, for an answer that the libraries do not expect
    :raises OSError: there is no file at the CA bundle's path
    """
    deadline = time.monotonic() + seconds
    response = session.send(
        session.prepare_request(
            requests.Request(
                method,
                url,
                headers=dict(headers.reveal()),
                data=body.reveal() or None,
                auth=_keep_headers,
            )
        ),
        timeout=total_timeout(seconds, CONNECT_SECONDS),
        allow_redirects=False,
        stream=True,
        verify=session.verify,
        proxies=session.proxies,
    )
    _read_body(response, deadline, most_bytes)
    return response


def _keep_headers(request: requests.PreparedRequest) -> requests.PreparedRequest:
    """Keep the signed headers: without this, a ``.netrc`` could replace them."""
    return request


def _read_body(response: requests.Response, deadline: float, most_bytes: int) -> None:
    """Read the body into the response within the deadline; requests' own timeout is per read."""
    parts: list[bytes] = []
    size = 0
    for part in response.iter_content(65_536):
        parts.append(part)
        size += len(part)
        if size > most_bytes:
            response.close()
            raise requests.exceptions.ContentDecodingError(TOO_LARGE)
        if time.monotonic() > deadline:
            response.close()
            raise requests.exceptions.ReadTimeout("the answer comes too slowly")
    length = response.headers.get("Content-Length", "")
    if size == 0 and length.strip("0") and not length.strip("0123456789"):
        raise requests.exceptions.ChunkedEncodingError("the answer was cut off")
    response._content = b"".join(parts)
    response._content_consumed = True  # type: ignore[attr-defined]


def fault_of(error: requests.RequestException | ValueError) -> Fault:
    """The kind of failure for an error of ``requests``."""
    if error.args == (TOO_LARGE,):
        return Fault.TOO_LARGE
    if isinstance(error, requests.exceptions.SSLError):
        # TLS may also break after the request was sent.
        return Fault.CERTIFICATE if "certificate" in str(error).lower() else Fault.TLS
    if isinstance(error, requests.exceptions.ProxyError):
        return Fault.PROXY
    if isinstance(error, requests.exceptions.ConnectTimeout):
        return Fault.CONNECT_TIMEOUT
    if isinstance(error, requests.exceptions.Timeout) or timed_out_within(error):
        return Fault.TIMEOUT
    if any(isinstance(cause, ClosedPoolError) for cause in error.args):
        return Fault.CLOSED
    text = str(error)
    if "NewConnectionError" in text or "NameResolutionError" in text:
        return Fault.UNREACHABLE
    return Fault.BROKEN
