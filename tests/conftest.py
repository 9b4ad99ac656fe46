"""Every test runs in a throw-away Airflow home, and reaches no machine but this one.

What is set here is set before anything imports Airflow, which reads its configuration at import.
"""

from __future__ import annotations

import atexit
import gc
import ipaddress
import os
import shutil
import socket
import sys
import tempfile
from pathlib import Path
from typing import Any

import hypothesis
import pytest

ROOT = Path(__file__).resolve().parent.parent
CACHE = ROOT / ".cache"
# A developer's own Airflow, cloud account, proxy or certificates (140 of them take a fifth of a
# second to load, for every hook) must not reach into the tests.
FOREIGN = ("AIRFLOW", "_AIRFLOW", "HUAWEICLOUD_", "CLOUD_SDK_")


def prepare_environment() -> Path:
    """Point Airflow and everything else that keeps files at a new folder, removed at exit."""
    if "airflow" in sys.modules:
        raise pytest.UsageError("Something imported Airflow before tests/conftest.py: a plugin?")

    for name in list(os.environ):
        if name.upper().startswith(FOREIGN) or name.upper().endswith(("_PROXY", "_CA_BUNDLE")):
            del os.environ[name]

    temporary = CACHE / "tmp"
    temporary.mkdir(parents=True, exist_ok=True)
    home = Path(tempfile.mkdtemp(prefix="airflow-", dir=temporary))
    atexit.register(remove, home, by=os.getpid())
    (home / "dags").mkdir()

    os.environ.update(
        {
            "HOME": str(home),  # the Huawei Cloud SDK keeps a file there
            "PYTEST_DEBUG_TEMPROOT": str(temporary),
            "AIRFLOW_HOME": str(home),
            "AIRFLOW__CORE__DAGS_FOLDER": str(home / "dags"),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__CORE__TEST_CONNECTION": "Enabled",
            "AIRFLOW__IOTDA__INSTALLATION_ID": "tests",
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "True",
            "AIRFLOW__API__HOST": "127.0.0.1",
            "AIRFLOW__API_AUTH__JWT_SECRET": "as long as Airflow wants it, and secret to nobody "
            * 2,
            # Empty but for system tests, whose conftest.py puts the tables there.
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{home / 'airflow.db'}",
            "AIRFLOW__DATABASE__LOAD_DEFAULT_CONNECTIONS": "False",
            "AIRFLOW__LOGGING__COLORED_CONSOLE_LOG": "False",
            "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
        }
    )
    return home


def remove(home: Path, *, by: int) -> None:
    if os.getpid() == by:  # and not in a forked child
        shutil.rmtree(home, ignore_errors=True)


AIRFLOW_HOME = prepare_environment()

# Airflow makes many objects that stay. Looking through them as often as Python does otherwise takes
# a tenth of the time of system tests.
gc.set_threshold(50_000, 20, 100)

# A machine that is busy with something else proves nothing about our code.
hypothesis.settings.register_profile("unhurried", hypothesis.settings.default, deadline=None)
hypothesis.settings.load_profile("unhurried")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes longest begins first, so that no process works alone at the end."""
    longest_first = ("tests/system/release/", "tests/system/", "tests/unit/test_wrong_types.py")

    def place(item: pytest.Item) -> int:
        starts = (item.nodeid.startswith(folder) for folder in longest_first)
        return next((n for n, found in enumerate(starts) if found), len(longest_first))

    items.sort(key=place)


def pytest_collection_finish() -> None:
    """Airflow and thousands of tests stay until the end: collections need not look at them."""
    gc.collect()
    gc.freeze()


class NetworkBlockedError(RuntimeError):
    """A test tried to reach another machine."""


def _check_host(host: Any) -> None:
    if isinstance(host, bytes):
        host = host.decode()
    if not isinstance(host, str) or host in ("", "localhost", socket.gethostname()):
        return
    try:
        is_local = ipaddress.ip_address(host.partition("%")[0]).is_loopback
    except ValueError:
        is_local = False
    if not is_local:
        raise NetworkBlockedError(
            f"A test tried to reach {host!r}. Tests talk to this machine only: "
            "use the emulator, or requests_mock."
        )


@pytest.fixture(scope="session", autouse=True)
def _only_loopback() -> Any:
    """Names and addresses of other machines are refused before a packet leaves."""
    real_connect, real_connect_ex = socket.socket.connect, socket.socket.connect_ex
    real_getaddrinfo = socket.getaddrinfo

    def connect(self: socket.socket, address: Any) -> None:
        if self.family in (socket.AF_INET, socket.AF_INET6):
            _check_host(address[0])
        return real_connect(self, address)

    def connect_ex(self: socket.socket, address: Any) -> int:
        if self.family in (socket.AF_INET, socket.AF_INET6):
            _check_host(address[0])
        return real_connect_ex(self, address)

    def getaddrinfo(host: Any, *args: Any, **kwargs: Any) -> Any:
        _check_host(host)
        return real_getaddrinfo(host, *args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", connect)
        patch.setattr(socket.socket, "connect_ex", connect_ex)
        patch.setattr(socket, "getaddrinfo", getaddrinfo)
        yield


@pytest.fixture(autouse=True)
def _no_credentials_of_an_earlier_test(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server may get the port of one that is gone, and knows none of the other's tokens."""
    from iotda_provider.auth import authenticator

    monkeypatch.setattr(authenticator, "_shared", type(authenticator._shared)())


@pytest.fixture(autouse=True)
def _no_secrets_of_an_earlier_test() -> None:
    """Airflow's masker compiles all secrets that it knows anew at each further one.

    After a thousand tests of one process that would take longer than they do.
    """
    for name in (  # a process of Airflow 3 has up to two of them
        "airflow.sdk._shared.secrets_masker",
        "airflow._shared.secrets_masker",
        "airflow.utils.log.secrets_masker",  # Airflow 2
    ):
        masker = getattr(sys.modules.get(name), "_secrets_masker", lambda: None)()
        if masker is not None:
            masker.patterns, masker.replacer = set(), None
