"""Since when devices are offline: what is asked for it, and that it is read as the platform's."""

from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone
from functools import partial
from typing import Any

import pytest
from huaweicloudsdkcore.auth.credentials import BasicCredentials
from huaweicloudsdkcore.region.region import Region
from huaweicloudsdkiotda import v5

from iotda_provider.exceptions import IoTDAAuthError, IoTDANotFoundError
from iotda_provider.hooks.iotda import IoTDAHook
from iotda_provider.operators.release import fleet
from iotda_provider.operators.release.check import CheckReleaseOperator
from iotda_provider.release.planning import was_online_lately
from iotda_provider.transport import rate_limit

PACKAGE, GROUP = "a1b2c3d4e5f60718293a4b5c", "0000000a-0000"
HOUR = 3600.0
WORLD: dict[str, Any] = {
    "devices": 100,
    "packages": [{"package_id": PACKAGE, "version": "2.0.0"}],
    "groups": [{"name": "all", "group_id": GROUP, "count": 100}],
    "batch_tasks": [],
    "segments": [{"name": "away", "count": 40, "offline_share": 1, "offline_for": 5 * HOUR}],
    "start_time": f"{datetime.now(timezone.utc):%Y%m%dT%H%M%SZ}",
}


@pytest.fixture
def deferrable() -> bool:
    """A check waits for nothing."""
    return False


def late(run: Any, **given: Any) -> int:
    check = CheckReleaseOperator(task_id="check", package_id=PACKAGE, group_ids=[GROUP], **given)
    return int(run.run(check)["late"])


def asked(run: Any) -> list[str]:
    """The devices whose details were asked for."""
    return [entry["path"].rsplit("/", 1)[1] for entry in run.emulator.journal("show_device")]


def test_devices_that_went_offline_lately_do_not_come_last(rollout: Any) -> None:
    run = rollout(**WORLD)
    assert late(run, online_within=6) == 0
    assert sorted(asked(run)) == [f"device-{n:05d}" for n in range(40)], "the offline, each once"
    assert late(run, online_within=4) == 40
    assert late(run, online_within="6.0") == 0
    assert late(run, online_within=1e10) == 0


@pytest.mark.parametrize("online_within", [0, "0", None, "None", ""])
def test_offline_now_is_late_without_a_call_where_that_is_wanted(
    rollout: Any, online_within: Any
) -> None:
    run = rollout(**WORLD)
    assert late(run, online_within=online_within) == 40
    assert asked(run) == []


def test_the_official_sdk_reads_the_same(rollout: Any) -> None:
    run = rollout(**WORLD)
    settings = run.emulator.instance.settings
    credentials = BasicCredentials(settings.ak, settings.sk, settings.project_id)
    client = (
        v5.IoTDAClient.new_builder()
        .with_credentials(credentials.with_derived_predicate(lambda request: False))
        .with_region(Region("cn-north-4", run.emulator.url))
        .build()
    )
    shown = client.show_device(v5.ShowDeviceRequest(device_id="device-00000"))
    assert "connection_status_update_time" not in v5.QueryDeviceSimplify.attribute_map
    with IoTDAHook() as hook:
        device = hook.get_device("device-00000")
        listed = next(d for d in hook.list_devices() if d.device_id == "device-00000")
    assert (shown.status, listed.status_changed) == ("OFFLINE", None)
    assert shown.connection_status_update_time == device.status_changed
    since = datetime.strptime(f"{device.status_changed}+0000", "%Y-%m-%dT%H:%M:%S.%fZ%z")
    for seconds, lately in ((1, True), (-1, False)):
        within = timedelta(hours=3)
        now = since + within - timedelta(seconds=seconds)
        assert was_online_lately(device, now, within) is lately


def test_the_log_says_how_long_it_takes_and_the_connections_limit_holds(
    rollout: Any, monkeypatch: pytest.MonkeyPatch, logged: Any
) -> None:
    run = rollout(**WORLD)
    connection = dict(run.emulator.airflow_connection)
    connection["extra"] = {**connection["extra"], "max_requests_per_second": 40}
    monkeypatch.setenv("AIRFLOW_CONN_IOTDA_DEFAULT", json.dumps(connection))
    monkeypatch.setattr(rate_limit, "_limits", {})
    limit = partial(rate_limit.RateLimit, clock=run.time.monotonic)
    monkeypatch.setattr(rate_limit, "RateLimit", limit)
    monkeypatch.setattr(fleet, "_BLOCK", 16)
    monkeypatch.setattr(fleet, "_SECONDS_BETWEEN_LINES", 0.0)
    began = run.time.monotonic()
    late(run, online_within=6)
    assert run.time.monotonic() - began > 40 / 40
    lines = logged()
    assert "40 device(s) are offline now" in lines
    assert "at 40 a second about 1 s" in lines
    assert "Read 16 of 40; about " in lines


def test_a_device_that_cannot_be_read_comes_last_and_the_others_are_read(
    rollout: Any, logged: Any
) -> None:
    run = rollout(**WORLD)
    run.emulator.add_fault("status", call="show_device", status=404, body={}, count=1)
    assert late(run, online_within=6) == 1
    assert "1 device(s) can't be read, and so come last" in logged()


@pytest.mark.parametrize(
    ("fault", "error", "says"),
    [
        (
            {"kind": "status", "status": 403, "body": {}},
            IoTDAAuthError,
            r"iotda:devices:query|403",
        ),
        ({"kind": "html", "status": 404}, IoTDANotFoundError, "a proxy or load balancer"),
    ],
)
def test_where_no_device_can_be_read_nobody_is_guessed_about(
    rollout: Any, fault: dict[str, Any], error: type[Exception], says: str
) -> None:
    run = rollout(**WORLD)
    run.emulator.add_fault(call="show_device", **fault)
    with pytest.raises(error, match=says):
        late(run, online_within=6)
    assert late(run, online_within=0) == 40


def test_devices_that_are_all_gone_come_last(rollout: Any) -> None:
    run = rollout(**WORLD)
    body = {"error_code": "IOTDA.014000"}
    run.emulator.add_fault("status", call="show_device", status=404, body=body)
    assert late(run, online_within=6) == 40
