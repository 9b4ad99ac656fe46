"""The whole release pipeline in real Airflow: four ways with 10,000 devices, two with 2,000."""

from __future__ import annotations

from typing import Any

import pytest
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_0_PLUS, AIRFLOW_V_3_1_PLUS
from tests.system.asset_events import events
from tests.system.pipeline import BAD, VERSION, WEAK
from tests.system.virtual_time import after_each, share_time


def assert_over(run: Any, platform: Any, verdict: str, exposed: set[str]) -> dict[str, Any]:
    """Who was confirmed, retried and quarantined, and that nothing was announced."""
    assert run.state == "failed", run.log[-4000:]
    assert run.states["announce"] != "success"
    outcome, found = run.xcom("rollout.outcome"), run.xcom("reconcile")
    assert outcome["verdict"] == verdict
    confirmed = platform.confirmed
    assert len(confirmed) == len(set(confirmed))
    assert set(confirmed) == exposed
    assert found["exposed"] == outcome["exposed"] == len(exposed)
    # A batch task for each wave that began, and no other device in any of them.
    begun = outcome["wave"]
    assert len(outcome["batch_task_ids"]) == begun
    rows = platform.rows(*outcome["batch_task_ids"])
    planned = [set(run.xcom("rollout.plan", f"wave_{n + 1}")) for n in range(outcome["waves"])]
    assert set(rows) == set().union(*planned[:begun])
    assert set(run.xcom("reconcile", "wave_not_begun")) == set().union(*planned[begun:])
    never = set(rows) - exposed
    assert all(rows[device][0] == "Stopped" for device in never)
    failed = {device: code for device, (status, code) in rows.items() if status == "Fail"}
    weak = {device for device, code in failed.items() if code == WEAK.split("|")[0]}
    bad = {device for device, code in failed.items() if code == BAD.split("|")[0]}
    if verdict == "breached" and bad:  # stopped for the firmware's fault
        assert run.states["try_again"] == "skipped"
    elif weak:
        # Tried again: a task of their own, in which everybody waits for a person.
        again = platform.rows(run.xcom("try_again", "batch_task_id"))
        assert set(again) == weak
        assert {status for status, _ in again.values()} == {"Waitting"}
    assert platform.group(f"quarantine_{VERSION}") == bad
    counts: dict[str, Any] = found["counts"]
    assert (counts["firmware"], counts["environment"]) == (len(bad), len(weak))
    assert counts["never_started"] == len(never)
    return counts


def test_a_healthy_release_reaches_everybody_and_is_announced(
    release: Any, fleet: Any, hurried: Any
) -> None:
    platform = fleet(failure_rate=0.002, already_current=0.01)
    run = release(hurried())
    assert run.state == "success", run.log[-4000:]
    about, outcome = run.xcom("check"), run.xcom("rollout.outcome")
    current = about["already_current"]
    assert current > 50
    assert about["devices"] + current == 10_000
    assert (outcome["verdict"], outcome["exposed"]) == ("released", about["devices"])
    confirmed = platform.confirmed
    assert len(confirmed) == len(set(confirmed)) == about["devices"]
    assert not platform.asked("stop")
    found = run.xcom("reconcile")
    assert found["running"] == sum(v == VERSION for v in platform.versions().values()) - current
    assert run.states["announce"] == "success"
    assert run.states["try_again"] == run.states["quarantine"] == "skipped"
    assert run.states["rollout.wave_6_confirm"] == "skipped"
    names = [task["task_name"] for task in run.xcom("rollout.wave_2_create")["parts"]]
    assert [name.split("_afr")[0] for name in names] == ["release_wave_2_of_4_part_1"]


def test_bad_from_the_first_wave_stops_within_it(release: Any, fleet: Any) -> None:
    platform = fleet(failure_rate=0.3, failure_mix={BAD: 3, WEAK: 1})
    run = release()
    first = set(run.xcom("rollout.plan", "wave_1"))
    assert len(first) == 100
    assert len(platform.asked("stop")) == 1
    assert_over(run, platform, "breached", first)
    assert run.states["announce_breach"] == "success"
    rows = run.xcom("collect")
    reasons = {(row["failure_class"], row["error_msg"]) for row in rows}
    assert ("firmware", "installation failed") in reasons
    assert reasons <= {("firmware", "installation failed"), ("environment", "device offline")}
    bad = [row for row in rows if row["failure_class"] == "firmware"]
    assert f"{len(bad)} device(s) are in the group quarantine_{VERSION}" in run.log
    if AIRFLOW_V_3_0_PLUS:  # dag.test() of Airflow 2 keeps no events
        (event,) = events(run)
        assert event["batch_task_ids"] == run.xcom("rollout.outcome")["batch_task_ids"]
        assert event["summary"] == run.xcom("rollout.outcome")["summary"]


def test_bad_in_one_segment_stops_in_its_wave(release: Any, fleet: Any) -> None:
    north, south = "0000000b-0000", "0000000c-0000"
    platform = fleet(
        groups=[
            {"name": "north", "group_id": north, "count": 1000},
            {"name": "south", "group_id": south, "count": 1000},
            {"name": "rest", "group_id": "0000000d-0000", "count": 8000},
        ],
        segments=[{"name": "cold", "group": "south", "failure_rate": 0.4}],
        failure_mix={BAD: 1},
    )
    run = release(
        group_ids=[north, south, "0000000d-0000"],
        waves=f"group:{north}, group:{south}, rest",
    )
    exposed = set(platform.confirmed)
    in_north, in_south = platform.group("north"), platform.group("south")
    # The guard looks between the calls, so it need not have come to all of the bad segment.
    assert in_north < exposed <= in_north | in_south
    counts = assert_over(run, platform, "breached", exposed)
    assert counts["updated"] >= 1000
    assert not platform.group("rest") & exposed
    versions = platform.versions()
    assert {versions[device] for device in in_north} == {VERSION}


@pytest.mark.skipif(not AIRFLOW_V_3_1_PLUS, reason="asking a person needs Airflow 3.1")
def test_a_persons_no_stops_it(release: Any, fleet: Any, answer: Any) -> None:
    platform = fleet()
    answer("rollout.wave_1_ask", "Stop the release")
    run = release(approval="before every wave")
    assert run.xcom("rollout.wave_1_ask", "answer")["option"] == "Stop the release"
    counts = assert_over(run, platform, "refused", set(run.xcom("rollout.plan", "wave_1")))
    assert counts["updated"] == 100
    assert len(platform.asked("stop")) == 1


def test_an_image_that_bricks_every_tenth_device_opens_no_wave(
    release: Any, fleet: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    platform = fleet(devices=2_000, hang_rate=0.1)
    share_time(platform.emulator, monkeypatch)
    run = release(waves="5%, 100%", report_within_minutes=2, wave_hours=15 / 60)
    first = set(run.xcom("rollout.plan", "wave_1"))
    counts = assert_over(run, platform, run.xcom("rollout.outcome")["verdict"], first)
    assert run.xcom("rollout.outcome")["verdict"] in ("breached", "unproven")
    assert counts["interrupted"] + counts["unfinished"] > 0


def test_a_stop_at_the_console_in_the_middle_of_a_wave_opens_no_wave(
    release: Any, fleet: Any
) -> None:
    platform = fleet(devices=2_000, success_after=600)
    calls = 0

    def console(entry: Any) -> None:
        """Stops the release once the second wave is half confirmed."""
        nonlocal calls
        calls += 1
        if calls == 3:
            task_id = entry["path"].split("/")[-2]
            platform.emulator.instance.run("stop", task_id=task_id)

    after_each(platform.emulator, "confirm_batch_task", console)
    run = release(waves="5%, 50%, 100%")
    first, second = (set(run.xcom("rollout.plan", f"wave_{n}")) for n in (1, 2))
    exposed = set(platform.confirmed)
    assert first < exposed
    assert exposed <= first | second
    outcome = run.xcom("rollout.outcome")
    assert (outcome["verdict"], outcome["wave"]) == ("stopped_elsewhere", 2)
    assert run.state == "failed"
    assert run.states["announce"] != "success"
    assert not platform.asked("stop")
    assert "rollout.wave_3_create" not in {task_id for task_id, _, _ in run.xcoms}
    assert set(platform.rows(*outcome["batch_task_ids"])) == first | second
    assert len(run.xcom("reconcile", "wave_not_begun")) == 2_000 - len(first | second)
    assert run.states["try_again"] == "skipped", "nobody has failed by their environment"
