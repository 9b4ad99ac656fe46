"""Which proxy and which certificates a connection uses, for IoTDA and for issuers of credentials.

The connection's fields take precedence over the environment's ``HTTPS_PROXY``, ``NO_PROXY`` and
``REQUESTS_CA_BUNDLE``. The rules are those of ``requests``.
"""

from __future__ import annotations

import os
import ssl
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import getproxies

from certifi import where
from requests.utils import get_environ_proxies, select_proxy

from iotda_provider.connection import regular_files
from iotda_provider.connection.addresses import check_proxy, is_loopback, proxy_secrets
from iotda_provider.connection.settings import ConnectionSettings
from iotda_provider.exceptions import IoTDAConfigError
from iotda_provider.masking.sealed import without_frames

# Four times the size of all certificates that browsers trust.
_LARGEST_BUNDLE = 1024 * 1024


def proxy_for(settings: ConnectionSettings, url: str | None = None) -> str | None:
    """The URL of the proxy for a host; None: no proxy, as always for this machine.

    :param url: the host's; None: the connection's
    :raises IoTDAConfigError: the environment's proxy has no valid address, or the proxy's
        certificate would not be verified
    """
    with without_frames():  # frames hold the proxy's password
        return _proxy_for(settings, url or settings.base_url)


def _proxy_for(settings: ConnectionSettings, url: str) -> str | None:
    parts = urlsplit(url)
    if is_loopback(parts.hostname or ""):
        return None
    proxy = select_proxy(url, dict(settings.proxies))
    if proxy is None:
        proxy = select_proxy(url, get_environ_proxies(url))
        if not proxy:
            return None
        proxy = check_proxy(proxy, f"The proxy that the environment names for {parts.scheme}")
    proxy = proxy if "://" in proxy else f"http://{proxy}"
    if parts.scheme == "http" and proxy.startswith("https"):
        # Neither requests nor aiohttp verifies it.
        raise IoTDAConfigError(
            f"Connection {settings.conn_id!r}: the certificate of an https proxy is not verified "
            f"on the way to plain http ({url}). Use https for the host, or http for the proxy."
        )
    return proxy


def secrets_of_proxies(settings: ConnectionSettings | None = None) -> tuple[str, ...]:
    """The secrets in the proxies of the connection and of the environment.

    Unused proxies and invalid addresses count, too.
    """
    own = settings.proxies.values() if settings is not None else ()
    found = (proxy_secrets(address) for address in (*own, *getproxies().values()))
    return tuple(dict.fromkeys(secret for secrets in found for secret in secrets))


def verify_for(settings: ConnectionSettings, url: str | None = None) -> bool | str:
    """Whether a server's certificate is verified, or the path of the CA bundle to use.

    It reads the bundle, so do not call it on an event loop. Without reading, a broken bundle would
    show only after connecting, as an error of the server's certificate.

    :param url: the server's; None: the connection's
    :raises IoTDAConfigError: the bundle can't be read
    """
    verify = _verify(settings)
    if isinstance(verify, str) and (url or settings.base_url).startswith("https"):
        _load(verify, settings)
    return verify


def ssl_context_for(settings: ConnectionSettings) -> ssl.SSLContext | bool:
    """The same as an SSL context; it reads files, so do not call it on an event loop.

    :raises IoTDAConfigError: the bundle can't be read
    """
    verify = _verify(settings)
    if not settings.base_url.startswith("https") or verify is False:
        return False
    return _load(where() if verify is True else str(verify), settings)


def _verify(settings: ConnectionSettings) -> bool | str:
    if settings.verify is True:
        bundle = os.environ.get("REQUESTS_CA_BUNDLE") or os.environ.get("CURL_CA_BUNDLE")
        return bundle or True
    return settings.verify


def _load(bundle: str, settings: ConnectionSettings) -> ssl.SSLContext:
    try:
        # Only the environment may name a directory: a connection's could hold any files.
        if not isinstance(settings.verify, str) and Path(bundle).is_dir():
            return ssl.create_default_context(capath=bundle)
        with regular_files.opened(bundle, _LARGEST_BUNDLE) as file:
            # The opened file, even if its path now leads to another one.
            return ssl.create_default_context(cafile=f"/dev/fd/{file}")
    except (OSError, ValueError) as error:  # also an ssl.SSLError, or a NUL in the path
        raise bundle_error(settings, bundle, error) from None


def bundle_error(
    settings: ConnectionSettings, bundle: object, error: Exception
) -> IoTDAConfigError:
    """The error for a CA bundle that can't be read."""
    return IoTDAConfigError(
        f"Connection {settings.conn_id!r}: the CA bundle {bundle!r} can't be read: {error}."
    )
