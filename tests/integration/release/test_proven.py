"""When a version may be announced: only what somebody has seen, or said yes to, counts."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from iotda_provider.exceptions import IoTDANotFoundError
from iotda_provider.hooks.iotda import IoTDAHook

VERSION = "2.0.0"


@pytest.fixture
def deferrable() -> bool:
    """Reading versions back waits for nothing."""
    return False


@pytest.fixture
def released(rollout: Any) -> Any:
    """Two waves of devices that have all succeeded."""
    run = rollout(speed=600)
    run.plan("5%, 100%", gate=0.05)
    for wave in (1, 2):
        run.confirm(wave)
    assert run.watch(2, gate=0.5)["verdict"] == "passed"
    return run


@pytest.fixture
def versions(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Has one device in so many run something else."""
    real = IoTDAHook.list_devices

    def install(every: int, version: str | None) -> None:
        def read(self: Any, **wanted: Any) -> Any:
            for device in real(self, **wanted):
                is_other = int(device.device_id[-5:]) % every == 0
                yield replace(device, fw_version=version) if is_other else device

        monkeypatch.setattr(IoTDAHook, "list_devices", read)

    return install


def reconciled(run: Any, *approved: int, tolerated_rate: float = 0.02, gate: float = 0.05) -> Any:
    outcome = {"verdict": "released", "wave": 2, "waves": 2, "approved_by_person": list(approved)}
    return run.reconcile(outcome, version=VERSION, gate=gate, tolerated_rate=tolerated_rate)


def watched_until_success(run: Any) -> None:
    run.emulator.advance(3600)


def test_a_release_that_every_device_runs_is_proven(released: Any) -> None:
    watched_until_success(released)
    found = reconciled(released)
    assert (found["proven"], found["unproven_because"]) == (True, None)
    assert (found["status"], found["running"]) == ("Success", 400)
    assert "proven" not in found["summary"].lower()


def test_only_a_yes_to_the_last_wave_stands_for_the_final_gate(
    released: Any, versions: Any
) -> None:
    watched_until_success(released)
    versions(20, "1.0.0")  # 5 % run another version: tolerated here, but no proof of below 5 %
    assert not reconciled(released, tolerated_rate=0.06)["proven"]
    first = reconciled(released, 1, tolerated_rate=0.06)
    assert not first["proven"]
    assert "no person has said yes to the last wave" in first["unproven_because"]
    assert first["unproven_because"] in first["summary"]
    assert reconciled(released, 2, tolerated_rate=0.06)["proven"]
    assert reconciled(released, 1, 2, tolerated_rate=0.06)["proven"]


def test_a_version_that_nobody_can_read_proves_nothing(released: Any, versions: Any) -> None:
    watched_until_success(released)
    versions(1, None)
    for approved in ((), (2,)):
        found = reconciled(released, *approved)
        assert not found["proven"]
        assert (found["running"], found["counts"]["unread"], found["counts"]["updated"]) == (
            0,
            400,
            0,
        )
        assert "400 unread" in found["summary"]
        assert "400 could not be read" in found["unproven_because"]
    assert len(released.xcoms["reconcile", "unread"]) == 400


def test_a_few_unread_versions_are_tolerated_as_false_ones_are(
    released: Any, versions: Any
) -> None:
    watched_until_success(released)
    versions(100, "")  # 1 %
    found = reconciled(released)
    assert (found["proven"], found["counts"]["unread"], found["running"]) == (True, 4, 396)
    assert "4 unread" in found["summary"]
    versions(20, None)  # 5 %
    assert not reconciled(released, 2)["proven"]


@pytest.mark.parametrize("approved", [(), (1, 2)])
def test_a_batch_task_that_is_stopped_is_not_announced(
    rollout: Any, approved: tuple[int, ...]
) -> None:
    """Somebody stops it in the console after its devices have succeeded, or a person said yes."""
    run = rollout(
        speed=0,
        segments=[{"name": "slow", "count": 1, "success_after": 10**6}],
    )
    run.plan("5%, 100%", gate=0.05)
    for wave in (1, 2):
        run.confirm(wave)
    run.emulator.advance(3600)
    with IoTDAHook() as hook:
        slow = next(
            task for task in run.task_ids if not hook.get_batch_task(task).status.is_terminal
        )
        hook.stop_batch_task(slow)
        run.emulator.advance(600)
        assert sum(hook.get_batch_task(task).progress.success for task in run.task_ids) == 399
    found = reconciled(run, *approved)
    assert not found["proven"]
    assert set(found["status"].split(", ")) in ({"Success", "Stopped"}, {"Success", "Stopping"})
    assert found["unproven_because"] == f"of its batch tasks some are {found['status']}"
    assert "NOT proven: of its batch tasks" in found["summary"]


def test_a_batch_task_is_gone_only_if_the_platform_says_so(released: Any) -> None:
    watched_until_success(released)
    with IoTDAHook() as hook:
        hook.delete_batch_task(released.task_ids[0])
    released.emulator.add_fault("html", status=404, call="show_batch_task", count=1)
    with pytest.raises(IoTDANotFoundError, match="a proxy or load balancer"):
        reconciled(released)
    found = reconciled(released)
    assert (found["proven"], found["status"]) == (False, "gone, Success")
    assert found["running"] == 400
