"""Addresses of hosts and of proxies, checked before anything is sent there."""

from __future__ import annotations

import base64
import ipaddress
import re
from urllib.parse import quote, unquote, urlsplit

from iotda_provider.exceptions import IoTDAConfigError

_LABEL = r"[A-Za-z0-9_-]{1,63}"
_HOST = re.compile(rf"{_LABEL}(\.{_LABEL})*\.?|\[[0-9A-Fa-f:.]+\]")
_PROXY_KEY = re.compile(rf"(https?|all)(://{_LABEL}(\.{_LABEL})*)?")
# Characters that yarl (aiohttp) does not encode in a user name.
_SAFE_IN_USER = "!$'()*,+&=;"


def is_loopback(host: str) -> bool:
    """Whether a host name or address is this machine; without a DNS lookup."""
    name = host.strip("[]").lower()
    if name == "localhost":
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def is_ipv6(host: str) -> bool:
    """Whether it is an IPv6 address without brackets."""
    try:
        ipaddress.IPv6Address(host)
    except ValueError:
        return False
    return True


def check_url(url: str, what: str, *, allow_http: bool) -> str:
    """A URL reduced to scheme, host and port, checked before credentials are sent there.

    :param url: a URL with scheme; a path of ``/`` is dropped
    :param what: its name in errors
    :param allow_http: whether plain http may go to another machine
    :raises IoTDAConfigError: it is malformed, has a path, or is plain http to another machine
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:  # its text would quote a part of the address
        raise IoTDAConfigError(f"{what} is not a valid address: is its port a number?") from None
    if parts.username is not None or parts.password is not None:
        raise IoTDAConfigError(f"{what} must not hold a user name or password.")
    host = parts.netloc.rsplit(":", 1)[0] if port is not None else parts.netloc.rstrip(":")
    if parts.scheme not in ("http", "https"):
        raise IoTDAConfigError(f"{what} must start with https:// or be a bare host.")
    # Text after the host, or instead of it, may be a secret: no error quotes it.
    if (
        len(host) > 253
        or not _HOST.fullmatch(host)
        or parts.path not in ("", "/")
        or parts.query
        or parts.fragment
    ):
        raise IoTDAConfigError(
            f"{what} must be a host, optionally with scheme and port, and nothing behind it."
        )
    if parts.scheme == "http" and not allow_http and not is_loopback(host):
        raise IoTDAConfigError(
            f"{what} is plain http to {host}: requests and tokens would travel unencrypted. Use "
            "https, or set allow_http to true in the connection's Extra for a test set-up."
        )
    return f"{parts.scheme}://{host.lower()}" + (f":{port}" if port is not None else "")


def check_proxy(address: str, what: str) -> str:
    """Check a proxy's address for both transports; returns it with its scheme.

    :param address: such as ``http://user:password@proxy.example:3128``; without a scheme: http
    :param what: its name in errors, which quote nothing of the address
    :raises IoTDAConfigError: it is not valid
    """
    url = address.strip()
    url = url if "://" in url else f"http://{url}"
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise _no_proxy(what) from None
    if parts.scheme not in ("http", "https"):
        raise IoTDAConfigError(
            f"{what} must be reached by http:// or https://; SOCKS and others are not supported."
        )
    user, _, place = parts.netloc.rpartition("@")
    host = place.rsplit(":", 1)[0] if port is not None else place.rstrip(":")
    if (
        not url.isprintable()  # urlsplit drops line breaks
        or " " in url
        or not _HOST.fullmatch(host)
        or len(host) > 253
        or parts.path not in ("", "/")
        or "?" in url
        or "#" in url
        or not _fits_latin_1(unquote(user))
    ):
        raise _no_proxy(what)
    return parts.scheme + url[len(parts.scheme) :]  # in lower case


def _no_proxy(what: str) -> IoTDAConfigError:
    return IoTDAConfigError(
        f"{what} must be http:// or https://, a host and a port up to 65535, and nothing after "
        "it; in user name and password, all but letters and digits must be percent-encoded."
    )


def _fits_latin_1(text: str) -> bool:
    """Whether a header for the proxy can hold the text."""
    try:
        text.encode("latin-1")
    except UnicodeEncodeError:
        return False
    return True


def is_proxy_key(key: str) -> bool:
    """Whether ``requests`` looks up this key: ``https``, ``all``, ``https://a.host``."""
    if _PROXY_KEY.fullmatch(key):
        return key == key.lower()
    scheme, _, host = key.partition("://")
    return scheme in ("http", "https", "all") and is_ipv6(host)


def proxy_secrets(address: str) -> tuple[str, ...]:
    """The password in a proxy's address, in every form in which it is sent or quoted.

    The address need not be valid.
    """
    user, found, _ = address.split("://", 1)[-1].rpartition("@")
    name, _, password = user.partition(":")
    if not found or not password:
        return ()
    plain = unquote(password)
    pair = f"{unquote(name)}:{plain}"
    spellings = [password, plain, quote(plain, safe=""), quote(plain, safe=_SAFE_IN_USER)]
    for encoding in ("latin-1", "utf-8"):
        header = pair.encode(encoding, "replace")
        spellings.append(base64.b64encode(header).decode())
    return tuple(dict.fromkeys(spellings))
