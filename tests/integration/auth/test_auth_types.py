"""Every auth_type over real HTTP, through both hooks: the cells of the documentation's table."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from iotda_provider.emulator import Emulator
from iotda_provider.exceptions import IoTDAAuthError

TASK = "0123456789abcdef01234567"


def statuses(emulator: Emulator) -> list[int]:
    """How the API's own calls ended, in order."""
    return [entry["status"] for entry in emulator.journal("show_batch_task")]


def refusal(hooks) -> IoTDAAuthError:
    with pytest.raises(IoTDAAuthError) as caught:
        hooks.read()
    return caught.value


@pytest.fixture
def in_time(monkeypatch):
    """Lets credentials come close to their end, by this process's clock."""

    def pass_by(lifetime: float) -> None:
        ahead = SimpleNamespace(time=lambda: time.time() + lifetime - 100)
        monkeypatch.setattr("iotda_provider.auth.renewal.time", ahead)

    return pass_by


def lacks_permission(hooks, emulator: Emulator) -> None:
    """403, once, and the error names the action."""
    error = refusal(hooks)
    assert error.status_code == 403
    assert "iotda:batchtasks:query" in str(error)
    assert statuses(emulator) == [403], "a second try would change nothing"


# --- aksk ---------------------------------------------------------------------------------------


def test_aksk_permanent(start, connect, hooks):
    emulator = start()
    connect(emulator, "aksk")

    assert hooks.read() == TASK
    assert emulator.journal("show_batch_task")[0]["key"] == "emulator-ak"


def test_aksk_temporary(start, connect, hooks):
    emulator = start(security_token="the-security-token")
    connect(emulator, "aksk")
    assert hooks.read() == TASK

    connect(emulator, "aksk", security_token=None)
    assert "security token" in str(refusal(hooks))


def test_aksk_wrong_secret(start, connect, hooks):
    emulator = start()
    connect(emulator, "aksk", password="not-the-secret-key")
    error = refusal(hooks)

    assert (error.status_code, error.error_code) == (401, "APIGW.0301")
    assert "check the connection's access key, secret key" in str(error)
    assert "not-the-secret-key" not in str(error)
    assert statuses(emulator) == [401], "a second try would change nothing"


def test_aksk_no_permission(start, connect, hooks):
    emulator = start(iam={"denied": ["iotda:batchtasks:query"]})
    connect(emulator, "aksk")
    lacks_permission(hooks, emulator)


def test_aksk_expired(start, connect, hooks):
    emulator = start(iam={"metadata_token": False})
    key = emulator.instance.iam.key_for_agency(None).key
    temporary = {
        "login": key.access,
        "password": key.secret,
        "security_token": key.security_token,
    }
    connect(emulator, "aksk", **temporary)
    assert hooks.read() == TASK

    emulator.instance.iam.expire_everything()
    error = refusal(hooks)
    assert error.status_code == 401
    assert "expired" in str(error)
    assert statuses(emulator) == [200, 401], "the connection holds no newer one"


# --- token --------------------------------------------------------------------------------------


def test_token_temporary(start, connect, hooks):
    emulator = start()
    connect(emulator, "token")

    for _ in range(3):
        assert hooks.read() == TASK
    assert emulator.instance.iam.given["token"] == 1, "all hooks of a process share it"


def test_token_refresh(start, connect, hooks, in_time):
    emulator = start(iam={"token_lifetime": 24 * 3600})
    connect(emulator, "token")
    hooks.read()
    in_time(24 * 3600)
    hooks.read()

    assert emulator.instance.iam.given["token"] == 2
    assert statuses(emulator) == [200, 200], "it was renewed before it expired"


def test_token_wrong_secret(start, connect, hooks):
    emulator = start()
    connect(emulator, "token", password="not-the-password")
    error = refusal(hooks)

    assert "Could not obtain a token from IAM: HTTP 401" in str(error)
    assert "domain_name" in str(error)
    assert "not-the-password" not in str(error)
    assert statuses(emulator) == [], "without a token nothing is sent"


def test_token_no_permission(start, connect, hooks):
    emulator = start(iam={"denied": ["iotda:batchtasks:query"]})
    connect(emulator, "token")
    lacks_permission(hooks, emulator)


def test_token_expired(start, connect, hooks):
    emulator = start()
    connect(emulator, "token")
    assert hooks.read() == TASK

    emulator.instance.iam.expire_everything()
    assert hooks.read() == TASK
    assert statuses(emulator) == [200, 401, 200], "renewed once after a 401 nobody expected"
    assert emulator.instance.iam.given["token"] == 2


# --- agency -------------------------------------------------------------------------------------


def test_agency_temporary(start, connect, hooks):
    emulator = start()
    connect(emulator, "agency")

    for _ in range(3):
        assert hooks.read() == TASK
    assert emulator.instance.iam.given["agency_key"] == 1
    assert emulator.journal("show_batch_task")[0]["key"].startswith("HST")


def test_agency_refresh(start, connect, hooks, in_time):
    emulator = start(iam={"key_lifetime": 6 * 3600})
    connect(emulator, "agency")
    hooks.read()
    in_time(6 * 3600)
    hooks.read()

    assert emulator.instance.iam.given["agency_key"] == 2
    assert statuses(emulator) == [200, 200], "it was renewed before it expired"


def test_agency_wrong_secret(start, connect, hooks):
    """There is no secret to be wrong: the instance has no agency, or it is no ECS instance."""
    emulator = start(iam={"agency": False})
    connect(emulator, "agency")
    error = refusal(hooks)

    assert "Please configure Cloud Service Agency first" in str(error)
    assert "Bind an agency" in str(error)


def test_agency_no_permission(start, connect, hooks):
    emulator = start(iam={"denied": ["iotda:batchtasks:query"]})
    connect(emulator, "agency")
    lacks_permission(hooks, emulator)


def test_agency_expired(start, connect, hooks):
    emulator = start()
    connect(emulator, "agency")
    assert hooks.read() == TASK

    emulator.instance.iam.expire_everything()
    assert hooks.read() == TASK
    assert statuses(emulator) == [200, 401, 200]
    assert emulator.instance.iam.given["agency_key"] == 2


# --- federation ---------------------------------------------------------------------------------


def test_federation_temporary(start, connect, hooks):
    emulator = start()
    connect(emulator, "federation")

    for _ in range(3):
        assert hooks.read() == TASK
    assert emulator.instance.iam.given["federated_key"] == 1


def test_federation_refresh(start, connect, hooks, in_time):
    emulator = start(iam={"key_lifetime": 6 * 3600})
    connect(emulator, "federation")
    hooks.read()
    in_time(6 * 3600)
    hooks.read()

    assert emulator.instance.iam.given["federated_key"] == 2
    assert statuses(emulator) == [200, 200], "it was renewed before it expired"


def test_federation_wrong_secret(start, connect, hooks):
    emulator = start()
    connect(emulator, "federation")
    extra = json.loads(os.environ["AIRFLOW_CONN_IOTDA_DEFAULT"])["extra"]
    Path(extra["id_token_file"]).write_text("not.the.token")
    error = refusal(hooks)

    assert "The id token is invalid or has expired." in str(error)
    assert "Check idp_id, and that id_token_file holds a token" in str(error)
    assert "not.the.token" not in str(error)


def test_federation_no_permission(start, connect, hooks):
    emulator = start(iam={"denied": ["iotda:batchtasks:query"]})
    connect(emulator, "federation")
    lacks_permission(hooks, emulator)


def test_federation_expired(start, connect, hooks):
    emulator = start()
    connect(emulator, "federation")
    assert hooks.read() == TASK

    emulator.instance.iam.expire_everything()
    assert hooks.read() == TASK
    assert statuses(emulator) == [200, 401, 200]
    assert emulator.instance.iam.given["federated_key"] == 2
