"""TLS that breaks after the request was sent: whether the platform acted is not known then."""

from __future__ import annotations

import json
import socket
import ssl
import threading
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from iotda_provider.exceptions import IoTDATransportError
from iotda_provider.hooks.iotda import IoTDAHook

TASK = "0123456789abcdef01234567"


def server_context(folder: Path) -> ssl.SSLContext:
    """A server's side of TLS, with a certificate that nobody vouches for."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "iotda.test")])
    now = datetime.now(timezone.utc)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    plain = (serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    chain = folder / "server.pem"
    chain.write_bytes(certificate.public_bytes(pem) + key.private_bytes(pem, *plain))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(chain)
    return context


class Breaking:
    """Reads a request over TLS, then speaks nonsense instead of TLS."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self.requests: list[str] = []
        self._context = context
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"https://127.0.0.1:{self._listener.getsockname()[1]}"
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with connection, self._context.wrap_socket(connection, server_side=True) as secure:
                request = b""
                end = b"\r\n\r\n"
                while not request.endswith(b"}" if request.startswith(b"POST") else end):
                    part = secure.recv(65_536)
                    if not part:
                        break
                    request += part
                self.requests.append(request.split(b" HTTP", 1)[0].decode())
                with socket.socket(fileno=secure.detach()) as plain:
                    plain.sendall(b"this is no TLS record" * 10)

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()


@pytest.fixture
def breaking(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Breaking]:
    """A server that breaks, and the connection to it."""
    server = Breaking(server_context(tmp_path))
    extra = {"region": "cn-north-4", "project_id": "p", "verify": False, "max_attempts": 3}
    connection: dict[str, Any] = {"conn_type": "iotda", "login": "ak", "password": "secret"}
    connection |= {"host": server.url, "extra": extra}
    monkeypatch.setenv("AIRFLOW_CONN_IOTDA_DEFAULT", json.dumps(connection))
    yield server
    server.close()


@pytest.mark.filterwarnings("ignore:Unverified HTTPS request")
def test_a_creation_is_not_repeated_where_it_may_have_arrived(breaking):
    with IoTDAHook() as hook, pytest.raises(IoTDATransportError, match="TLS connection") as error:
        hook.create_batch_task(task_name="a", task_type="firmwareUpgrade", targets=["a"])

    assert error.value.sent
    assert breaking.requests == ["POST /v5/iot/p/batchtasks"]


@pytest.mark.filterwarnings("ignore:Unverified HTTPS request")
def test_a_read_is_repeated(breaking):
    with IoTDAHook() as hook, pytest.raises(IoTDATransportError, match="TLS connection"):
        hook.get_batch_task(TASK)

    assert len(breaking.requests) == 3
