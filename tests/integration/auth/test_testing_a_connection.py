"""What "Test" on a connection says, whatever is wrong with it."""

from __future__ import annotations

import os
import re
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from pathlib import Path

import certifi
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


class Empty(BaseHTTPRequestHandler):
    """Answers as an IoTDA without batch tasks."""

    status = 200
    body = b'{"batchtasks": [], "page": {"count": 0}}'

    def do_GET(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.send_response(self.status)
        self.send_header("Content-Length", str(len(self.body)))
        self.end_headers()
        self.wfile.write(self.body)

    do_POST = do_GET

    def log_message(self, *args: object) -> None:
        pass


@contextmanager
def serving(handler: type[BaseHTTPRequestHandler], tls: ssl.SSLContext | None = None):
    """A server on a free port of this machine; answers its address."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    # A client that refuses the certificate is no error of the server's.
    server.handle_error = lambda request, client: None
    server.daemon_threads = True
    if tls is not None:
        server.socket = tls.wrap_socket(
            server.socket, server_side=True, do_handshake_on_connect=False
        )
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield f"http{'' if tls is None else 's'}://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def outcome(hooks) -> tuple[bool, str]:
    works, text = hooks.call("test_connection")
    assert "\n" not in text
    return works, text


def failure(hooks) -> str:
    works, text = outcome(hooks)
    assert not works, text
    return text


@pytest.mark.parametrize("auth_type", ["aksk", "token", "agency", "federation"])
def test_good_connection_says_where_it_leads(start, connect, hooks, auth_type):
    emulator = start()
    connect(emulator, auth_type)

    assert outcome(hooks) == (
        True,
        f"Connected to {emulator.url}, project emulator-project, by {auth_type}.",
    )
    (entry,) = emulator.journal("*")
    # One cheap call, with the type that the platform asks for.
    assert entry["call"] == "list_batch_tasks"
    assert entry["query"] == {"limit": "1", "task_type": "firmwareUpgrade"}


def test_unreachable_host(start, connect, hooks):
    # Taken, and so nobody else's, and nobody listens.
    with socket.socket() as mute:
        mute.bind(("127.0.0.1", 0))
        port = mute.getsockname()[1]
        connect(start(), "aksk", host=f"http://127.0.0.1:{port}")
        text = failure(hooks)

    assert f"http://127.0.0.1:{port}" in text
    assert "nothing answers there" in text
    assert "Check the connection's Host" in text


def test_unknown_host(start, connect, hooks, monkeypatch):
    def unknown(*args: object, **kwargs: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    connect(start(), "aksk", host="https://no-such-host.example")

    assert "nothing answers there" in failure(hooks)


def test_wrong_secret_key(start, connect, hooks):
    connect(start(), "aksk", password="not-the-secret-key")
    text = failure(hooks)

    assert text.startswith("The platform does not know the caller: ")
    assert "secret key" in text
    assert "not-the-secret-key" not in text


def test_unknown_access_key(start, connect, hooks):
    connect(start(), "aksk", login="unknown")
    assert "check the connection's access key" in failure(hooks)


def test_right_key_without_permission_names_the_iam_action(start, connect, hooks):
    connect(start(iam={"denied": ["iotda:batchtasks:queryList"]}), "aksk")
    text = failure(hooks)

    assert text.startswith("The platform refuses the caller: ")
    assert "needs the IAM action iotda:batchtasks:queryList in this project" in text


def test_wrong_project(start, connect, hooks):
    connect(start(), "aksk", project_id="another-project")
    text = failure(hooks)

    assert "the project is not theirs: check project_id" in text


def test_wrong_project_of_a_token(start, connect, hooks):
    connect(start(), "token", project_id="another-project")
    text = failure(hooks)

    assert "Could not obtain a token from IAM" in text
    assert "project_id" in text


@pytest.mark.parametrize("instance_id", [None, "another-instance"])
def test_wrong_instance(start, connect, hooks, instance_id):
    emulator = start(switches={"instance_id": "the-instance"})
    connect(emulator, "aksk")
    assert "instance the-instance" in outcome(hooks)[1]

    connect(emulator, "aksk", instance_id=instance_id)
    assert "check instance_id (required for professional editions)" in failure(hooks)


def test_wrong_user(start, connect, hooks):
    connect(start(), "token", password="not-the-password")
    text = failure(hooks)

    assert text.startswith("The platform does not know the caller: Could not obtain a token")
    assert "not-the-password" not in text


@pytest.mark.parametrize(
    ("ahead", "says"),
    [
        (timedelta(hours=2, minutes=5.5), "clock is 2 hours 5 minutes ahead of the server's"),
        (timedelta(minutes=-20.5), r"clock is 20 minutes \d+ seconds behind the server's"),
        (timedelta(seconds=-50), "check the connection's access key, secret key"),
    ],
)
def test_clock_that_is_wrong(start, connect, hooks, ahead, says):
    class Refusing(Empty):
        status = 401
        body = b'{"error_code": "APIGW.0301", "error_msg": "verify aksk signature fail"}'

        def date_time_string(self, timestamp: float | None = None) -> str:
            return format_datetime(datetime.now(timezone.utc) - ahead, usegmt=True)

    with serving(Refusing) as url:
        connect(start(), "aksk", host=url)
        assert re.search(says, failure(hooks))


def test_connection_that_is_not_complete(start, connect, hooks):
    connect(start(), "aksk", password="")
    text = failure(hooks)

    assert text.startswith("The connection is not complete: ")
    assert "Password (the secret key) must be set" in text


def test_connection_that_does_not_exist(hooks, monkeypatch):
    monkeypatch.delenv("AIRFLOW_CONN_IOTDA_DEFAULT", raising=False)
    monkeypatch.setenv("AIRFLOW__CORE__UNIT_TEST_MODE", "True")

    assert "iotda_default" in failure(hooks)


def test_host_that_is_something_else(start, connect, hooks):
    emulator = start()
    emulator.add_fault("html", status=200)
    connect(emulator, "aksk")

    assert "not JSON" in failure(hooks)


def test_host_that_redirects(start, connect, hooks):
    emulator = start()
    emulator.add_fault("status", status=301, headers={"Location": "https://elsewhere.example/"})
    connect(emulator, "aksk")
    text = failure(hooks)

    assert "redirects to https://elsewhere.example/" in text
    assert "redirects are not followed" in text


# --- TLS ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Tls:
    """A server with a certificate of a private CA, whose bundle is at ``ca``."""

    url: str
    ca: Path
    context: ssl.SSLContext


@contextmanager
def serving_tls(folder: Path, name: str = "127.0.0.1") -> Iterator[Tls]:
    ca = folder / "ca.pem"
    key, certificate = _certificate(name, ca)
    chain = folder / "server.pem"
    chain.write_bytes(certificate + key)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(chain)
    with serving(Empty, context) as url:
        yield Tls(url, ca, context)


def _certificate(name: str, ca_file: Path) -> tuple[bytes, bytes]:
    def build(subject: str, issuer: str, public, signer, *extensions) -> x509.Certificate:
        now = datetime.now(timezone.utc)
        builder = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject)]))
            .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)]))
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=1))
            .not_valid_after(now + timedelta(days=1))
        )
        for extension, critical in extensions:
            builder = builder.add_extension(extension, critical)
        return builder.sign(signer, hashes.SHA256())

    ca_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    ca = build(
        "a private CA",
        "a private CA",
        ca_key.public_key(),
        ca_key,
        (x509.BasicConstraints(ca=True, path_length=0), True),
        (x509.SubjectKeyIdentifier.from_public_key(ca_key.public_key()), False),
    )
    try:
        alternative = x509.IPAddress(ip_address(name))
    except ValueError:
        alternative = x509.DNSName(name)
    own = build(
        name,
        "a private CA",
        key.public_key(),
        ca_key,
        (x509.SubjectAlternativeName([alternative]), False),
        (x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()), False),
    )
    pem = serialization.Encoding.PEM
    ca_file.write_bytes(ca.public_bytes(pem))
    private = key.private_bytes(
        pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return private, own.public_bytes(pem)


@pytest.fixture
def tls(tmp_path: Path) -> Iterator[Tls]:
    with serving_tls(tmp_path) as server:
        yield server


def test_certificate_of_an_unknown_ca_is_refused(start, connect, hooks, tls):
    connect(start(), "aksk", host=tls.url)
    text = failure(hooks)

    assert "TLS certificate was not accepted" in text
    assert "set verify in the connection's Extra to the CA bundle's path" in text


def test_certificate_of_a_private_ca_is_accepted_by_its_path(start, connect, hooks, tls):
    connect(start(), "aksk", host=tls.url, verify=str(tls.ca))

    assert outcome(hooks)[0]


def test_certificate_is_not_looked_at_where_verify_is_false(start, connect, hooks, tls):
    connect(start(), "aksk", host=tls.url, verify=False)

    assert outcome(hooks)[0]


def test_certificate_of_another_host_is_refused(start, connect, hooks, tmp_path):
    with serving_tls(tmp_path, name="iotda.example.com") as server:
        connect(start(), "aksk", host=server.url, verify=str(server.ca))
        assert "TLS certificate was not accepted" in failure(hooks)


@pytest.mark.parametrize("holds", [None, b"", b"\xff\x00 no certificate"])
@pytest.mark.parametrize("way", ["verify", "environment"])
@pytest.mark.parametrize("auth_type", ["aksk", "token"])
def test_bundle_that_is_none_is_named(
    start, connect, hooks, tls, tmp_path, monkeypatch, auth_type, way, holds
):
    """To IAM alone, where that is asked first."""
    file = tmp_path / "bundle.pem"
    if holds is not None:
        file.write_bytes(holds)
    emulator, more = start(), {"iam_endpoint": tls.url}
    if auth_type == "aksk":
        more["host"] = tls.url
    if way == "verify":
        more["verify"] = str(file)
    else:
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(file))
    connect(emulator, auth_type, **more)
    text = failure(hooks)

    assert text.startswith("The connection is not complete: ")
    assert f"the CA bundle {str(file)!r} can't be read" in text


@pytest.mark.parametrize("kind", ["FIFO", "device", "directory", "made up by the kernel"])
@pytest.mark.parametrize("auth_type", ["aksk", "token"])
def test_bundle_is_a_file_and_nothing_that_is_waited_for(
    start, connect, hooks, tls, tmp_path, auth_type, kind
):
    bundle, says = tmp_path / "bundle.pem", "it is no regular file"
    if kind == "FIFO":
        os.mkfifo(bundle)
    elif kind == "directory":
        bundle.mkdir()
    elif kind == "device":
        bundle = Path("/dev/zero")
    else:  # such as /proc/self/pagemap, which is 256 GB long
        bundle, says = Path("/proc/self/environ"), "it is empty"
    connect(start(), auth_type, host=tls.url, iam_endpoint=tls.url, verify=str(bundle))
    text = failure(hooks)

    assert text.startswith("The connection is not complete: ")
    assert f"the CA bundle {str(bundle)!r} can't be read: {says}" in text


@pytest.mark.parametrize("auth_type", ["aksk", "token"])
def test_tls_that_fails_for_another_reason_is_no_matter_of_certificates(
    start, connect, hooks, tmp_path, auth_type
):
    with serving_tls(tmp_path) as server:
        server.context.maximum_version = ssl.TLSVersion.TLSv1_1
        connect(start(), auth_type, host=server.url, iam_endpoint=server.url)
        text = failure(hooks)

    assert "the TLS connection failed" in text
    assert "certificate" not in text


def test_iams_certificate_is_checked_too(start, connect, hooks, tls):
    connect(start(), "token", iam_endpoint=tls.url)
    text = failure(hooks)

    assert "IAM" in text
    assert "TLS certificate was not accepted" in text
    assert "set verify" in text


def test_environments_bundle_does_not_replace_the_connections(
    start, connect, hooks, tls, tmp_path, monkeypatch
):
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", certifi.where())
    emulator = start()
    connect(emulator, "aksk", host=tls.url, verify=str(tls.ca))
    assert outcome(hooks)[0]

    connect(emulator, "token", iam_endpoint=tls.url, verify=str(tls.ca))
    assert "should hold a token makes no sense" in failure(hooks), "IAM was reached"
