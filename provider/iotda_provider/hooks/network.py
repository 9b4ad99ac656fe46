"""Which proxy and which certificates a connection uses, decided once for both transports.

What the connection says wins over the environment's ``HTTPS_PROXY``, ``NO_PROXY`` and
``REQUESTS_CA_BUNDLE``. The rules are those of ``requests``, which users know.
"""

from __future__ import annotations

import os
import ssl
from pathlib import Path
from urllib.parse import urlsplit

from certifi import where
from requests.utils import get_environ_proxies, select_proxy

from iotda_provider.exceptions import IoTDAConfigError
from iotda_provider.settings import ConnectionSettings, is_loopback


def proxy_for(settings: ConnectionSettings) -> str | None:
    """The URL of the proxy that leads to the connection's host; None where none is needed.

    To this machine none leads, and plain http is for nobody else to see.
    """
    url = settings.base_url
    if is_loopback(urlsplit(url).hostname or ""):
        return None
    proxy = select_proxy(url, {**get_environ_proxies(url), **settings.proxies})
    return proxy if proxy is None or "://" in proxy else f"http://{proxy}"


def verify_for(settings: ConnectionSettings) -> bool | str:
    """Whether the server's certificate is checked, or against which bundle."""
    if settings.verify is True:
        bundle = os.environ.get("REQUESTS_CA_BUNDLE") or os.environ.get("CURL_CA_BUNDLE")
        return bundle or True
    return settings.verify


def ssl_context_for(settings: ConnectionSettings) -> ssl.SSLContext | bool:
    """The same for a transport that takes a context; reads files, so not for an event loop.

    :raises IoTDAConfigError: the bundle can't be read
    """
    verify = verify_for(settings)
    if not settings.base_url.startswith("https") or verify is False:
        return False
    bundle = where() if verify is True else str(verify)
    try:
        if Path(bundle).is_dir():
            return ssl.create_default_context(capath=bundle)
        return ssl.create_default_context(cafile=bundle)
    except OSError as error:  # an ssl.SSLError is one
        raise IoTDAConfigError(
            f"Connection {settings.conn_id!r}: the CA bundle {bundle!r} can't be read: {error}."
        ) from None
