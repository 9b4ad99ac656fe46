"""Marked secrets in connections of every kind, and the places where they must not turn up."""

from __future__ import annotations

import base64
import inspect
import json
import os
import re
import sys
import threading
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from iotda_provider.emulator import Emulator


def task_id(number: int) -> str:
    return f"{number:024x}"


# --- where secrets come from --------------------------------------------------------------------


@dataclass
class Secrets:
    """The marked secrets of one test, and whatever else became secret while it ran."""

    mark: str = field(default_factory=lambda: uuid.uuid4().hex)
    signatures: set[str] = field(default_factory=set)
    emulator: Emulator | None = None

    def __getattr__(self, name: str) -> str:
        if name.startswith("_"):
            raise AttributeError(name)
        mark = f"CANARY-{name}-{self.mark}"
        return f"e30.{mark}.e30" if name == "id_token" else mark  # nothing else is sent as one

    def all(self) -> set[str]:
        known = {
            getattr(self, name)
            for name in ("key", "security_token", "password", "id_token", "wrong_key", "proxy")
        }
        assert self.emulator is not None
        return known | self.signatures | self.emulator.instance.iam.given_secrets()


class Echo(BaseHTTPRequestHandler):
    """Refuses every request, and says all that it was sent."""

    def answer(self) -> None:
        sent = "; ".join(f"{name}: {value}" for name, value in self.headers.items())
        Echo.seen.add(re.sub(r".*Signature=", "", self.headers.get("Authorization", "")))
        body = json.dumps({"error_code": "APIGW.0301", "error_msg": f"refused: {sent}"}).encode()
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.send_response(403)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("X-Request-Id", self.headers.get("X-Security-Token", "none"))
        self.end_headers()
        self.wfile.write(body)

    seen: set[str] = set()
    do_GET = do_POST = do_DELETE = do_PUT = answer

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def echo() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Echo)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def secrets(monkeypatch: pytest.MonkeyPatch, echo: str, tmp_path: Path) -> Iterator[Secrets]:
    """One connection of each kind, good and bad, with marked secrets."""
    secrets = Secrets()
    scenario = {
        "devices": 5,
        "failure_rate": 0.5,
        "success_after": 30,
        "failure_after": 30,
        "batch_tasks": [{"task_id": task_id(number)} for number in range(100)],
        "iam": {
            "password": secrets.password,
            "id_token": secrets.id_token,
            "denied": ["iotda:otapackages:delete"],
        },
    }
    with Emulator(
        scenario, sk=secrets.key, security_token=secrets.security_token, speed=600, seed=1
    ) as emulator:
        secrets.emulator = emulator
        record_signatures(emulator, secrets)
        for name, connection in connections(emulator, secrets, echo, tmp_path).items():
            monkeypatch.setenv(f"AIRFLOW_CONN_{name.upper()}", json.dumps(connection))
        yield secrets


def record_signatures(emulator: Emulator, secrets: Secrets) -> None:
    iam = emulator.instance.iam
    real = iam.verify

    def verify(request, now):
        for name, value in request.headers:
            if name == b"authorization":
                secrets.signatures |= set(re.findall(r"Signature=(\w+)", value.decode()))
        return real(request, now)

    iam.verify = verify  # type: ignore[method-assign]


def connections(
    emulator: Emulator, secrets: Secrets, echo: str, folder: Path
) -> dict[str, dict[str, Any]]:
    own = emulator.airflow_connection
    extra = own["extra"] | {"max_attempts": 1}
    iam = emulator.instance.iam.settings
    id_token_file = folder / "id_token"
    id_token_file.write_text(secrets.id_token)
    no_token = {name: value for name, value in extra.items() if name != "security_token"}
    no_key = {"conn_type": "iotda", "host": emulator.url}
    proxy = {"https": f"http://user:{secrets.proxy}@127.0.0.1:9"}
    return {
        "aksk": own | {"extra": extra | {"proxies": proxy}},
        "token": no_key
        | {"login": iam.user, "password": secrets.password}
        | {
            "extra": no_token
            | {"auth_type": "token", "domain_name": iam.domain, "iam_endpoint": emulator.url}
        },
        "agency": no_key
        | {"extra": no_token | {"auth_type": "agency", "metadata_endpoint": emulator.url}},
        "federation": no_key
        | {
            "extra": no_token
            | {
                "auth_type": "federation",
                "idp_id": iam.idp_id,
                "id_token_file": str(id_token_file),
                "iam_endpoint": emulator.url,
            }
        },
        "wrong": own | {"password": secrets.wrong_key, "extra": extra},
        "forbidden": own | {"extra": extra | {"project_id": "another-project"}},
        "echoing": own | {"host": echo, "extra": extra},
        "down": own | {"host": "http://127.0.0.1:9", "extra": extra},
    }


@pytest.fixture
def without_masker(monkeypatch: pytest.MonkeyPatch) -> None:
    """Airflow's masker forgets what it is told, so that only what we do keeps secrets in."""
    from iotda_provider.masking import airflow_masker

    assert airflow_masker.mask_all  # it is loaded
    maskers = {
        vars(module)["SecretsMasker"]
        for module in list(sys.modules.values())
        if inspect.isclass(getattr(module, "__dict__", {}).get("SecretsMasker"))
    }
    assert maskers
    for masker in maskers:
        monkeypatch.setattr(masker, "add_mask", lambda self, secret, name=None: None)


# --- where secrets must not be ------------------------------------------------------------------


def spellings(secret: str) -> set[bytes]:
    raw = secret.encode()
    both = base64.b64encode(b"emulator-ak:" + raw)
    return {raw, quote(secret, safe="").encode(), base64.b64encode(raw), both}


@pytest.fixture
def assert_absent(secrets: Secrets) -> Callable[[dict[str, bytes]], None]:
    """Fails where one of the secrets is in one of these places."""
    return lambda places: _assert_absent(secrets, places)


def _assert_absent(secrets: Secrets, places: dict[str, bytes]) -> None:
    secrets.signatures |= Echo.seen - {""}
    found = {
        f"{place}: {secret[:40]}"
        for secret in secrets.all()
        for spelling in spellings(secret)
        for place, content in places.items()
        if secret and spelling in content
    }
    assert not found


@pytest.fixture
def everything_kept(airflow_database: Path) -> Callable[[Any], dict[str, bytes]]:
    """All that a run left behind: deleted rows are still in the database's file."""
    return lambda run: _everything_kept(airflow_database, run)


def _everything_kept(database: Path, run: Any) -> dict[str, bytes]:
    home = Path(os.environ["AIRFLOW_HOME"])
    files = [*home.glob("logs/**/*"), *database.parent.glob(f"{database.name}*")]
    places = {str(file.relative_to(home)): file.read_bytes() for file in files if file.is_file()}
    return places | {"the log": run.log.encode(), "the outcome": repr(run).encode()}
