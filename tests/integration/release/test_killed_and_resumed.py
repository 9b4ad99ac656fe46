"""A rollout that is killed in the middle of a wave and started again ends as if it never was."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from tests.integration.release.conftest import KilledError

from iotda_provider.guards import MaxFailures
from iotda_provider.release.release_guard import ReleaseGuard
from iotda_provider.release.triggerer import TriggererReleaseIO
from iotda_provider.release.worker import WorkerReleaseIO

WAVES = (1, 2, 3, 4)


def finish(run: Any, wave: int) -> list[tuple[str, int]]:
    """Go through the waves from this one on; what each came to."""
    found = []
    for number in WAVES[wave - 1 :]:
        chunk = {"chunk": 15} if number == wave else {}
        assert run.confirm(number, **chunk)["verdict"] == "confirmed"
        result = run.watch(number)
        found.append((result["verdict"], result["progress"]["success"]))
    return found


@pytest.mark.parametrize("sent", [False, True], ids=["before the call", "after the call"])
@pytest.mark.parametrize("wave", [WAVES[0], WAVES[2], WAVES[-1]])
def test_no_device_is_confirmed_twice_or_forgotten(
    rollout: Any, kill: Any, wave: int, sent: bool
) -> None:
    run = rollout()
    plan = run.plan()
    for number in WAVES[: wave - 1]:
        run.confirm(number)
        run.watch(number)
    kill(2, sent=sent)
    with pytest.raises(BaseException) as death:
        run.confirm(wave, chunk=15)
    assert type(death.value).__name__ == "KilledError"
    before = set(run.confirmed)
    assert 0 < len(set(run.wave(wave)) - before) < len(run.wave(wave))
    results = finish(run, wave)
    assert [verdict for verdict, _ in results] == ["passed"] * len(results)
    assert Counter(run.confirmed) == Counter(
        device for number in WAVES for device in run.wave(number)
    )
    assert len(run.confirmed) == plan["waves"][-1]["cumulative"] == 400
    assert not run.stops


def test_a_run_that_is_cleared_as_a_whole_does_nothing_twice(rollout: Any) -> None:
    run = rollout()
    first = run.plan()
    finish(run, 1)
    calls = len(run.confirmations)
    again = run.plan()
    assert again == first
    # The batch tasks have ended: there is nobody left to confirm.
    run.create(1)
    assert run.confirm(1)["verdict"] == "completed"
    assert run.watch(1)["verdict"] == "passed"
    assert len(run.confirmations) == calls


def test_a_cleared_watch_knows_of_its_own_stop_and_others_see_one(rollout: Any) -> None:
    run = rollout(failure_rate=0.5)
    run.plan()
    run.confirm(1)
    assert run.watch(1)["verdict"] == "breached"
    # Cleared, it finds the release stopped as it had decided, and opens nothing.
    assert run.watch(1)["verdict"] == "breached"
    assert run.create(2)["verdict"] == "stopped_elsewhere"
    assert len(run.emulator.journal("create_batch_task")) == 1


def test_who_never_started_is_known_to_whoever_sees_a_dead_ones_stop_come_true(
    rollout: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    quick = {"initializing": 0, "stop_after": 0}
    run = rollout(failure_rate=0.5, failure_after=1, switches=quick)
    run.plan("25%, 100%")
    run.confirm(1, rules=MaxFailures(1000))
    run.create(2, rules=MaxFailures(1000))
    poll, deaths = ReleaseGuard.poll, iter([KilledError()])

    async def dies_once(self: ReleaseGuard, io: Any) -> Any:
        # A triggerer looks before it knows what its worker has done.
        if (self.is_stopping or self.awaits_memory) and (death := next(deaths, None)):
            raise death
        return await poll(self, io)

    monkeypatch.setattr(ReleaseGuard, "poll", dies_once)
    given = {"chunk": 50, "max_in_flight": 150}
    with pytest.raises(KilledError):
        run.confirm(2, **given)
    assert run.stops > 0  # of the first wave's batch task, and of the second's
    if run.deferrals:  # another triggerer begins the same trigger anew
        act = run.resumption(run.deferrals[-1], run.contexts["confirm_2"])
        result = act(run.confirming(2, **given))
    else:
        result = run.confirm(2, **given)
    assert (result["verdict"], result["stop"]["outcome"]) == ("breached", "stopped")
    left = set(run.xcoms["confirm_2", "unconfirmed"])
    assert left == set(run.wave(2)) - set(run.confirmed)
    assert len(left) >= 100


def test_who_never_started_is_known_though_the_stop_was_never_answered(
    rollout: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    quick = {"initializing": 0, "stop_after": 0}
    run = rollout(failure_rate=0.5, failure_after=1, switches=quick)
    run.plan("25%, 100%")
    run.confirm(1, rules=MaxFailures(1000))
    run.create(2, rules=MaxFailures(1000))
    deaths = iter([KilledError()])

    def dying_once(stop: Any) -> Any:
        """The platform has acted upon the stop when its sender dies."""

        async def stop_task(self: Any, batch_task_id: str) -> None:
            await stop(self, batch_task_id)
            if death := next(deaths, None):
                raise death

        return stop_task

    for kind in (WorkerReleaseIO, TriggererReleaseIO):
        monkeypatch.setattr(kind, "stop_task", dying_once(kind.stop_task))
    given = {"chunk": 50, "max_in_flight": 150}
    with pytest.raises(KilledError):
        run.confirm(2, **given)
    assert run.stops > 0  # of the first wave's batch task, and of the second's
    if run.deferrals:  # another triggerer begins the same trigger anew
        act = run.resumption(run.deferrals[-1], run.contexts["confirm_2"])
        result = act(run.confirming(2, **given))
    else:
        result = run.confirm(2, **given)
    assert (result["verdict"], result["stop"]["outcome"]) == ("breached", "stopped")
    left = set(run.xcoms["confirm_2", "unconfirmed"])
    assert left == set(run.wave(2)) - set(run.confirmed)
    assert len(left) >= 100


def test_people_are_told_of_all_devices_that_were_confirmed_not_of_those_of_the_last_try(
    rollout: Any, kill: Any
) -> None:
    quick = {"initializing": 0, "stop_after": 0}
    run = rollout(failure_rate=0.5, failure_after=1, switches=quick)
    run.plan("100%")
    kill(2, sent=True)
    with pytest.raises(BaseException) as death:
        run.confirm(1, chunk=50, rules=MaxFailures(1000))
    assert type(death.value).__name__ == "KilledError"
    result = run.confirm(1, chunk=50)
    assert result["verdict"] == "breached"
    exposed = len(run.confirmed)
    assert result["confirmed"] < exposed < 400
    assert f"{exposed} of 400 device(s) in the waves so far were confirmed" in result["summary"]


def test_what_a_plan_has_written_down_is_obeyed(rollout: Any, tmp_path: Any) -> None:
    path = (tmp_path / "releases" / "manifest.json").as_uri()
    run = rollout()
    first = run.plan(manifest_path=path)
    assert ("plan", "wave_1") not in run.xcoms
    # Other devices are offline by now, and somebody has changed the waves: it is too late for that.
    again = run.plan("50%, 100%", manifest_path=path, late=["device-00001"])
    assert again["digest"] == first["digest"]
    assert [wave["devices"] for wave in again["waves"]] == [40, 60, 100, 200]
    assert run.confirm(1)["confirmed"] == 40
