"""A release that could not be stopped does not begin."""

from __future__ import annotations

from typing import Any

import pytest
from tests.integration.release.conftest import PACKAGE

from iotda_provider.exceptions import StopNotAllowedError
from iotda_provider.hooks.iotda import IoTDAHook


def test_the_stop_is_rehearsed_before_the_first_confirmation_only(rollout: Any) -> None:
    run = rollout(success_after=100)
    run.plan("50%, 100%")
    run.confirm(1, rehearse_stop=True)
    run.watch(1)
    run.confirm(2, rehearse_stop=True)
    calls = [entry["call"] for entry in run.emulator.journal()]
    assert calls.count("stop_batch_task") == 1
    assert calls.index("stop_batch_task") < calls.index("confirm_batch_task")
    assert len(run.confirmed) == 400


def test_a_release_that_may_not_be_stopped_lets_nobody_start(rollout: Any) -> None:
    run = rollout()
    run.plan("50%, 100%")
    run.emulator.add_fault("status", call="stop_batch_task", status=403, body={})
    with pytest.raises(StopNotAllowedError, match="no device was confirmed"):
        run.confirm(1, rehearse_stop=True)
    assert not run.confirmed
    assert run.xcoms["confirm_1", "alert"]["kind"] == "may_not_stop"


@pytest.mark.parametrize("status", [404, 503])
def test_a_platform_that_does_not_say_so_keeps_nobody_back(rollout: Any, status: int) -> None:
    run = rollout()
    run.plan("50%, 100%")
    run.emulator.add_fault("status", call="stop_batch_task", status=status, body={})
    assert run.confirm(1, rehearse_stop=True)["verdict"] == "confirmed"


@pytest.mark.parametrize("answer", [200, 403])
def test_the_guard_asks_again_until_the_platform_says_so(rollout: Any, answer: int) -> None:
    run = rollout(success_after=150)
    run.plan("50%, 100%")
    run.emulator.add_fault("status", call="stop_batch_task", status=503, body={})
    confirmed = run.confirm(1, rehearse_stop=True)
    assert (confirmed["verdict"], confirmed["rehearse_stop"]) == ("confirmed", True)
    run.emulator.clear_faults()
    if answer == 403:
        run.emulator.add_fault("status", call="stop_batch_task", status=403, body={})
    before = len(run.emulator.journal("stop_batch_task"))

    watched = run.watch(1, wave_timeout=1000)
    run.confirm(2, rehearse_stop=True)

    assert watched["verdict"] == "passed"
    assert "rehearse_stop" not in watched
    assert len(run.emulator.journal("stop_batch_task")) - before == 1
    told = run.xcoms.get(("watch_1", "alert"))
    assert (told and told["kind"]) == (None if answer == 200 else "may_not_stop")


def _installs(run: Any, devices: list[str]) -> None:
    """Somebody else gives devices the release's package."""
    with IoTDAHook() as hook:
        hook.create_batch_task(
            task_name="by_hand",
            task_type="firmwareUpgrade",
            targets=devices,
            document={"package_ids": [PACKAGE]},
        )
    run.emulator.advance(120)


def test_the_stop_is_rehearsed_by_the_first_wave_that_has_a_device(rollout: Any) -> None:
    run = rollout(fw_version="1.0.0")
    run.plan("1, 2, 100%")
    _installs(run, run.wave(1) + run.wave(2))
    run.emulator.add_fault("status", call="stop_batch_task", status=403, body={})
    for wave in (1, 2):
        assert run.create(wave, from_version="1.0.0")["devices"] == 0
        run.confirm(wave, rehearse_stop=True)
        run.watch(wave)
    run.create(3, from_version="1.0.0")
    with pytest.raises(StopNotAllowedError, match="no device was confirmed"):
        run.confirm(3, rehearse_stop=True)
    assert not run.confirmed
    run.emulator.clear_faults()
    assert run.confirm(3, rehearse_stop=True)["verdict"] == "confirmed"
