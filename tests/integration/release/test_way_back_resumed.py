"""Ways back of one stopped release to their ends: killed, failing, and one after another."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from tests.integration.release.conftest import PACKAGE
from tests.integration.release.test_two_releases import Named, side_by_side

from iotda_provider.hooks.iotda import IoTDAHook
from iotda_provider.operators.release.find_way_back import FindDevicesToRollBackOperator
from iotda_provider.operators.release.way_back import GATE

BAD = "2.0.0"
#: Packages: the old version, one that fails on every device, and the old one by a higher number.
OLD, WORSE, REBUILD = "01d", "02d", "03d"
VERSIONS = {PACKAGE: BAD, OLD: "1.0.0", WORSE: "1.0.1", REBUILD: "2.0.1"}
ALL = [f"device-{n:05}" for n in range(120)]
#: What is particular about some devices of the release; the others do well.
SLOW, WEAK, OLDER, NEW = ALL[:6], ALL[6:24], ALL[24:34], ALL[34:38]
FIRMWARE, SOFTWARE = "firmwareUpgrade", "softwareUpgrade"
KINDS = {FIRMWARE: ("firmwarePackage", "fw_version"), SOFTWARE: ("softwarePackage", "sw_version")}


class World:
    """A platform with a release that was stopped, and what it has left."""

    def __init__(
        self, make: Callable[[str], Named], release: Named, task_type: str, updated: set[str]
    ) -> None:
        self.make, self.release, self.task_type = make, release, task_type
        #: Exactly those that get the old package.
        self.updated = updated

    def versions(self) -> dict[str, str]:
        """What each device runs now."""
        return versions(self.task_type)

    def find(self, dag_id: str, package_id: str = OLD) -> tuple[Named, dict[str, Any]]:
        """The way back of a DAG run of its own, and whom it has found."""
        back = self.make(dag_id)
        found = back.run(
            FindDevicesToRollBackOperator(
                task_id="find",
                release_dag_id="release",
                release_run_id="run",
                plan_task_id="plan",
                keeper_task_id="outcome",
                package_id=package_id,
            )
        )
        return back, found

    def confirm(self, back: Named, found: dict[str, Any], wave: int) -> Any:
        """Confirm a wave, whose batch tasks are created before."""
        if (f"create_{wave}", "return_value") not in back.xcoms:
            about = self.about(found)
            back.create(wave, from_version=found["version"], is_way_back=True, **about)
        return back.confirm(wave, max_in_flight=found["at_a_time"])

    def about(self, found: dict[str, Any]) -> dict[str, Any]:
        return {
            "task_type": found["task_type"],
            "document": {"package_ids": [found["package_id"]]},
        }

    def go_back(
        self, back: Named, found: dict[str, Any], killed: bool = False
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Go through all of its waves; how it has ended, and what its devices run."""
        back.devices = back.xcoms["find", "targets"]
        late = back.xcoms["find", "late"]
        plan = back.plan(found["waves"], GATE, late=late, max_waves=3, **self.about(found))
        for wave in range(1, len(plan["waves"]) + 1):
            if killed and wave == 1:
                with pytest.raises(BaseException) as death:
                    self.confirm(back, found, wave)
                assert type(death.value).__name__ == "KilledError"
                assert 0 < len(set(back.exposed)) < len(back.wave(1)), "in the middle of it"
            self.confirm(back, found, wave)
            if back.watch(wave, gate=GATE, wave_timeout=3600)["verdict"] != "passed":
                break
        outcome = back.outcome(wave)
        ended = back.reconcile(
            outcome,
            version=found["old_version"],
            from_version=found["version"],
            kind=found["kind"],
        )
        return outcome, ended

    def given(self, package_id: str) -> set[str]:
        """Every device of a batch task with a package."""
        bodies = [e["body"] for e in self.release.emulator.journal("create_batch_task")]
        own = [b for b in bodies if b["document"]["package_ids"] == [package_id]]
        return {device for body in own for device in body["targets"]}


def versions(task_type: str) -> dict[str, str]:
    """What each device runs now."""
    with IoTDAHook() as hook:
        devices = list(hook.list_devices())
    return {device.device_id: getattr(device, KINDS[task_type][1]) for device in devices}


@pytest.fixture
def stopped(rollout: Any, monkeypatch: pytest.MonkeyPatch) -> Callable[..., World]:
    """A release that was stopped while devices were installing, some of which update afterwards."""

    def start(task_type: str = FIRMWARE) -> World:
        package_type, column = KINDS[task_type]
        failing = {WORSE: {"failure_rate": 1}, OLD: {"failure_rate": 0}}
        first = rollout(
            speed=600,
            devices=len(ALL),
            success_after={"distribution": "uniform", "min": 20, "max": 120},
            switches={"initializing": 0, "stop_after": 0, "stop_installing": "detach"},
            packages=[
                {
                    "package_id": package_id,
                    "package_type": package_type,
                    "version": version,
                    "support_source_versions": [BAD] if package_id == OLD else [],
                    **failing.get(package_id, {}),
                }
                for package_id, version in VERSIONS.items()
            ],
            segments=[
                {"name": "slow", "count": len(SLOW), "success_after": 864_000},
                {"name": "weak", "count": len(WEAK), "failure_rate": 1, "failure_after": 5},
                {"name": "older", "count": len(OLDER), column: "0.9.0"},
                {"name": "new", "count": len(NEW), column: BAD},
            ],
        )
        make = side_by_side(first, monkeypatch)
        release = make("release")
        release.devices = ALL
        before = versions(task_type)
        known = {v: [d for d in ALL if before[d] == v] for v in set(before.values())}
        about = {"task_type": task_type, "document": {"package_ids": [PACKAGE]}}
        release.plan("80%, 100%", versions=known, **about)
        release.create(1, **about)
        release.confirm(1)
        release.emulator.advance(60)
        with IoTDAHook() as hook:
            hook.stop_batch_task(release.task_of())
            release.said("breached")
            release.outcome()
            at_stop = versions(task_type)
            release.emulator.advance(3600)
            now = versions(task_type)
            rows = {row.target: str(row.status) for row in hook.iter_subtasks(release.task_of())}
        wave = set(release.wave(1))
        updated = {d for d in wave if now[d] == BAD != before[d]}
        assert {rows[d] for d in updated} == {"Success", "Stopped"}
        assert any(at_stop[d] != BAD for d in updated), "some update after the stop"
        assert updated < wave - set(SLOW) - set(WEAK) - set(NEW), "some are interrupted"
        assert all(wave & set(some) for some in (SLOW, WEAK, NEW))
        assert updated & set(OLDER)
        return World(make, release, task_type, updated)

    return start


@pytest.mark.parametrize(
    ("task_type", "package_id", "sent"),
    [(FIRMWARE, OLD, True), (SOFTWARE, REBUILD, False)],
    ids=["firmware", "software by a higher number"],
)
def test_killed_in_the_middle_it_gives_each_device_the_old_package_once(
    stopped: Callable[..., World], kill: Any, task_type: str, package_id: str, sent: bool
) -> None:
    world = stopped(task_type)
    before = world.versions()
    back, found = world.find("back", package_id)
    assert (found["task_type"], found["devices"]) == (task_type, len(world.updated))
    assert set(back.xcoms["find", "targets"]) == world.updated
    from_another = set(OLDER) if package_id == OLD else set(ALL)
    assert set(back.xcoms["find", "from_another"]) == world.updated & from_another
    kill(3, sent=sent)
    outcome, ended = world.go_back(back, found, killed=True)

    assert (outcome["verdict"], ended["running"]) == ("released", len(world.updated))
    assert Counter(back.exposed) == Counter(world.updated), "each of them once"
    assert world.given(package_id) == world.updated, "nobody else is in a batch task with it"
    gone_back = dict.fromkeys(world.updated, VERSIONS[package_id])
    assert world.versions() == before | gone_back, "nobody else has changed"


def test_after_one_that_was_stopped_another_package_can_be_given_and_then_nobody_is_left(
    stopped: Callable[..., World], deferrable: bool
) -> None:
    world = stopped()
    before = world.versions()
    first, found = world.find("first", WORSE)
    outcome, ended = world.go_back(first, found)
    assert (outcome["verdict"], ended["running"]) == ("breached", 0)
    assert 0 < len(set(first.exposed)) == len(first.exposed) < len(world.updated) / 2
    assert set(first.exposed) <= world.given(WORSE) < world.updated
    assert world.versions() == before

    second, found = world.find("second")
    outcome, ended = world.go_back(second, found)
    assert (outcome["verdict"], ended["running"]) == ("released", len(world.updated))
    assert Counter(second.exposed) == Counter(world.updated)
    assert world.versions() == before | dict.fromkeys(world.updated, "1.0.0")

    _, found = world.find("third")
    assert found["devices"] == 0


def test_of_two_at_a_time_no_device_is_in_both(stopped: Callable[..., World]) -> None:
    world = stopped()
    first, found = world.find("first")
    second, also_found = world.find("second")
    assert found == also_found
    for back in (first, second):
        back.devices = back.xcoms["find", "targets"]
        back.plan(found["waves"], GATE, max_waves=3, **world.about(found))
    world.confirm(first, found, 1)
    world.confirm(second, found, 1)
    assert first.watch(1, gate=GATE)["verdict"] == "passed"
    assert not set(first.exposed) & set(second.exposed)
    confirmed = [*first.exposed, *second.exposed]
    assert len(confirmed) == len(set(confirmed)) > 0
