"""A way back whose worker and whose Airflow are killed -9 gives each device the old package once.

The release starts it itself, as in production. The platform's time stands still but for what the
test lets pass.
"""

from __future__ import annotations

from typing import Any

import pytest
from tests.system.pipeline import PACKAGE, hurried_release, hurried_way_back
from tests.system.release.test_way_back import DAG, FLEET, OLD
from tests.system.restarts.parts import PARTS, Airflow

from iotda_provider.hooks.iotda import IoTDAHook

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3000)]

RELEASE = "firmware_release"
CREATE, CONFIRM, WATCH = (f"way_back.wave_{step}" for step in ("1_create", "1_confirm", "2_watch"))
#: Real seconds for which an answer is held, so that its caller can be killed before it has it.
HELD = 25


@pytest.fixture(scope="module")
def scenario() -> dict[str, Any]:
    group = {"name": "all", "group_id": "0000000a-0000", "count": FLEET["devices"]}
    return {**FLEET, "groups": [group]}


def versions() -> dict[str, str | None]:
    with IoTDAHook() as hook:
        return {device.device_id: device.fw_version for device in hook.list_devices()}


def test_each_device_gets_the_old_package_once(airflow: Airflow, emulator: Any) -> None:
    way_back = hurried_way_back(looks=0.5, grace=5, retries=1, deferrable=True)
    (airflow.dags / f"{DAG}.py").write_text(way_back)
    release = hurried_release(looks=0.5, grace=5, retries=1)
    (airflow.dags / f"{RELEASE}.py").write_text(release)

    def pass_time_until(what: str, happened: Any) -> None:
        def look() -> bool:
            if happened():
                return True
            emulator.advance(2)
            return False

        airflow.wait_for(what, look)

    def go_through(dag_id: str, *tasks: str) -> None:
        """Each within a time of its own: a busy machine takes minutes for all of them."""
        for task in tasks:
            pass_time_until(
                f"{dag_id} {task}",
                lambda task=task: airflow.states(dag_id).get(task) == "success",
            )

    before = versions()
    airflow.wait_for(DAG, lambda: airflow.query("select 1 from serialized_dag where dag_id=?", DAG))
    conf = {"package_id": PACKAGE, "group_ids": ["0000000a-0000"], "waves": "60%, 100%"}
    conf |= {"gate_rate": 0.1, "bake_minutes": 0, "wave_hours": 1, "approval": "never"}
    airflow.run(RELEASE, {**conf, "rollback": "at once", "rollback_package_id": OLD})
    waves = [f"rollout.wave_1_{step}" for step in ("create", "confirm", "watch")]
    go_through(RELEASE, "check", "rollout.plan", *waves, "rollout.outcome", "at_rest")
    emulator.advance(600)  # whoever was installing at the stop is done
    now = versions()
    released = {d for e in emulator.journal("confirm_batch_task") for d in e["body"]["targets"]}
    updated = {d for d in released if now[d] == "2.0.0" != before[d]}
    assert 14 < len(updated) < len(released)

    held = {"call": "confirm_batch_task", "seconds": HELD, "acted": True, "count": 1}
    fault = emulator.add_fault("latency", **held)
    go_through(RELEASE, "reconcile", "way_back")
    go_through(DAG, "find", "find_again", "way_back.plan", CREATE)
    airflow.wait_for("the first confirmation of the way back", lambda: emulator.fired(fault))
    airflow.kill_worker_of(DAG, CONFIRM)
    emulator.remove_fault(fault)
    go_through(DAG, CONFIRM, "way_back.wave_1_watch", "way_back.wave_2_create")
    # No time passes: on a busy machine the wave would be over before anything waits for it.
    waits = {f"way_back.wave_2_{step}" for step in ("confirm", "watch")}
    airflow.wait_for(
        "a wait", lambda: {airflow.states(DAG).get(task) for task in waits} & {"deferred"}
    )
    airflow.kill_all()
    for part in PARTS:
        airflow.start(part)
    over = "select state from dag_run where dag_id = ? and state in ('success', 'failed')"
    go_through(DAG, WATCH, "way_back.outcome", "reconcile")
    pass_time_until("the end", lambda: airflow.query(over, DAG))

    assert airflow.query(over, DAG) == [("success",)]
    tries = dict(airflow.query("select task_id, try_number from task_instance where dag_id=?", DAG))
    assert tries[CONFIRM] > 1
    report = airflow.xcom(DAG, "report")
    assert (report["done"], report["running"]) == (True, len(updated))
    assert versions() == now | dict.fromkeys(updated, "1.0.0"), "nobody else has changed"
    created = {
        tuple(sorted(e["body"]["targets"]))
        for e in emulator.journal("create_batch_task")
        if e["body"]["document"]["package_ids"] == [OLD] and e["status"] < 300
    }
    emulator.kill()
    let_start = [d for c in emulator.commands("confirm") for d in c["targets"]][len(released) :]
    assert sorted(let_start) == sorted(updated), "each of them once"
    assert {d for targets in created for d in targets} == updated
