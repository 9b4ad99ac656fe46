"""A way back waits neither for devices that are offline nor for those that it has silenced."""

from __future__ import annotations

from typing import Any

import pytest
from airflow.providers.common.compat.sdk import DAG
from jinja2 import Template
from tests.integration.release.conftest import DOCUMENT, PACKAGE
from tests.integration.release.test_find_way_back import find
from tests.unit.operators.test_forms import DAGS, filled, loaded

from iotda_provider.exceptions import BatchTaskTimeoutError
from iotda_provider.hooks.iotda import IoTDAHook
from iotda_provider.operators.release.way_back import GATE, roll_back
from iotda_provider.release.gate import as_gate
from iotda_provider.release.way_back import late_of, way_back_waves

BAD, OLD = "2.0.0", "1.0.0"
LOOKS = {"poll_interval": 30.0}


@pytest.fixture
def deferrable() -> bool:
    """As the shipped DAG."""
    return True


@pytest.mark.parametrize("offline", [20, 55])
def test_whoever_is_online_goes_back_whatever_the_others_do(rollout: Any, offline: int) -> None:
    run = rollout(
        speed=1,
        devices=60,
        fw_version=BAD,
        packages=[{"package_id": PACKAGE, "version": OLD}],
        segments=[{"name": "asleep", "count": offline, "offline_share": 1}],
    )
    asleep = set(run.devices[:offline])
    late = late_of(run.devices, asleep, as_gate(GATE))
    assert set(late) == (asleep if offline == 20 else set(run.devices)), "else nothing is shown"
    waves, at_a_time = way_back_waves(60, as_gate(GATE), len(late))
    assert at_a_time == 6
    plan = run.plan(waves, gate=GATE, late=late, max_waves=3)
    for wave in range(1, len(plan["waves"]) + 1):
        run.create(wave, from_version=BAD, **LOOKS)
        run.confirm(wave, max_in_flight=at_a_time, **LOOKS)
        run.watch(wave, gate=GATE, wave_timeout=600, **LOOKS)
    assert sorted(run.confirmed) == run.devices, "each of them once"
    with IoTDAHook() as hook:
        now = {one.device_id: one.fw_version for one in hook.list_devices()}
    assert {now[one] for one in run.devices if one not in asleep} == {OLD}
    assert {now[one] for one in asleep} == {BAD}


def test_among_the_others_they_would_hold_every_place(rollout: Any) -> None:
    run = rollout(
        speed=1,
        devices=60,
        fw_version=BAD,
        packages=[{"package_id": PACKAGE, "version": OLD}],
        segments=[{"name": "asleep", "count": 20, "offline_share": 1}],
    )
    run.plan("100%", gate=GATE)
    run.create(1, from_version=BAD, **LOOKS)
    with pytest.raises(BatchTaskTimeoutError, match=r"6 device\(s\) are under way"):
        run.confirm(1, max_in_flight=6, timeout=3600, **LOOKS)
    assert len(run.confirmed) < 60


def test_who_is_offline_is_found_with_those_that_go_back(rollout: Any) -> None:
    released = {"package_id": PACKAGE, "version": BAD, "takes_offline": 0.3}
    run = rollout(
        speed=600,
        packages=[{**released, "takes_offline_after": 5}, {"package_id": "01d", "version": OLD}],
        devices=200,
    )
    run.plan("95%, 100%", versions={OLD: run.devices})
    run.confirm()
    run.emulator.advance(3600)
    found = find(run)
    with IoTDAHook() as hook:
        offline = {one.device_id for one in hook.list_devices() if one.status == "OFFLINE"}
    targets = run.xcoms["find", "targets"]
    assert 20 < len(offline & set(targets)) < 100
    assert set(run.xcoms["find", "late"]) == offline & set(targets)
    others = len(targets) - len(offline & set(targets))
    first = as_gate(GATE).smallest_passing_sample()
    assert found["waves"] == ([str(first), "100%"] if others >= 2 * first else ["100%"])


def rules_of(where: str) -> Any:
    """The guard's rules of a way back, as its tasks get them."""
    if where == "shipped":
        dag = loaded("roll_back_release", DAGS / "roll_back_release.py")
        text = dag.get_task("way_back.wave_1_confirm").rules
        return Template(text).render(params=filled("roll_back_release"))
    with DAG("back"):
        made = roll_back(devices=["a"], document=DOCUMENT)
    return made.group.children["roll_back.wave_1_confirm"].rules


@pytest.mark.parametrize("where", ["shipped", "of ones own"])
def test_an_old_package_after_which_no_device_says_anything_is_stopped(
    rollout: Any, where: str
) -> None:
    packages = [{"package_id": PACKAGE, "version": OLD}]
    run = rollout(speed=1, devices=60, fw_version=BAD, packages=packages, hang_rate=1)
    rules = rules_of(where)
    run.plan("100%", gate=GATE)
    run.create(1, from_version=BAD, rules=rules)
    given = {"rules": rules, "max_in_flight": 6, "poll_interval": 600, "timeout": 20 * 3600}
    result = run.confirm(1, **given)
    assert (result["verdict"], run.stops, len(run.confirmed)) == ("breached", 1, 6)
