"""Where waves can't be read no device is confirmed; the guard goes on, wherever it looks from."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.integration.release.conftest import KilledError
from tests.integration.release.test_second_look import remove

from iotda_provider.guards import MaxFailures
from iotda_provider.release import device_ids, storage
from iotda_provider.release.wave_step import WaveStep


@pytest.fixture(params=["in XComs", "in a file"])
def planned(request: pytest.FixtureRequest, rollout: Any, tmp_path: Any) -> Callable[..., Any]:
    """Plans a release whose waves are written down in XComs, or in a file."""

    def plan(waves: str, **scenario: Any) -> Any:
        run = rollout(**scenario)
        path = (tmp_path / "manifest.json").as_uri() if request.param == "in a file" else None
        run.plan(waves, manifest_path=path)
        return run

    return plan


@pytest.fixture
def down_while(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], bool]], None]:
    """Has no XCom and no file of a release be read while something is so."""

    def install(is_down: Callable[[], bool]) -> None:
        pull, file = storage.ReleaseFiles._pull, storage.read_whole

        def broken(real: Any) -> Any:
            def call(*args: Any) -> Any:
                if is_down():
                    raise RuntimeError("503: the storage is down")
                return real(*args)

            return call

        monkeypatch.setattr(storage.ReleaseFiles, "_pull", broken(pull))
        monkeypatch.setattr(storage, "read_whole", broken(file))
        monkeypatch.setattr(storage, "iter_ids", broken(storage.iter_ids))

    return install


FAILING: dict[str, Any] = {"failure_rate": 0.3, "failure_after": 300, "success_after": 6000}


def test_a_wave_that_goes_on_after_a_death_is_stopped_all_the_same(
    planned: Any, kill: Any, down_while: Any
) -> None:
    run = planned("50%, 100%", **FAILING)
    kill(2, sent=True)
    with pytest.raises(KilledError):
        run.confirm(1, rules=MaxFailures(1000))
    down_while(lambda: True)
    result = run.confirm(1)
    assert (result["verdict"], result["stop"]["outcome"], run.stops) == ("breached", "stopped", 1)
    assert "which ones can't be read" in result["summary"]
    assert len(run.confirmed) == 200


def test_so_is_a_release_whose_next_wave_can_not_begin_and_a_person_is_told(
    planned: Any, down_while: Any
) -> None:
    run = planned("25%, 100%", **FAILING)
    run.confirm(1)
    down_while(lambda: True)
    result = run.create(2, max_outage=0.3)
    assert (result["verdict"], run.stops) == ("breached", 1)
    assert len(run.confirmed) == 100
    alert = run.xcoms["create_2", "alert"]
    assert alert["kind"] == "confirm_failed"
    assert "the wave's devices can't be read" in alert["sentence"]


def test_once_it_is_back_the_wave_goes_on(planned: Any, down_while: Any) -> None:
    run = planned("25%, 100%", success_after=6000)
    run.create(1)
    until = run.time.time() + 3
    down_while(lambda: run.time.time() < until)
    looks = len(run.emulator.journal("show_batch_task"))
    assert run.confirm(1)["confirmed"] == 100
    assert run.time.time() >= until
    assert len(run.emulator.journal("show_batch_task")) - looks > 20


def test_names_that_can_not_be_read_do_not_take_a_release_its_end(
    planned: Any, down_while: Any, logged: Any
) -> None:
    run = planned("25%, 100%", **FAILING)
    run.confirm(1)
    run.create(2)
    down_while(lambda: run.stops > 0)
    result = run.confirm(2, chunk=1)
    assert (result["verdict"], result["stop"]["outcome"]) == ("breached", "stopped")
    assert result["unconfirmed"] == 400 - len(run.confirmed) > 0
    assert "can't be said here" in logged()


@pytest.fixture
def unmounted(rollout: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Plans a release with files, and takes away their folder while a step of a wave runs."""
    folder, away = tmp_path / "mounted", tmp_path / "away"
    waits: list[str] = []
    comes_back: list[bool] = []
    really_say = WaveStep.say

    def say(step: WaveStep, why: str) -> None:
        really_say(step, why)
        waits.append(why)
        if waits[2:] and comes_back:
            away.rename(folder)
            comes_back.clear()

    def plan(waves: str, **scenario: Any) -> tuple[Any, Callable[..., Any]]:
        run = rollout(**scenario)
        run.plan(waves, manifest_path=(folder / "manifest.json").as_uri())

        def without_files(step: Callable[..., Any], wave: int, *, for_good: bool = False) -> Any:
            folder.rename(away)
            waits.clear()
            comes_back.extend([True] * (not for_good))
            with monkeypatch.context() as patch:
                patch.setattr(WaveStep, "say", say)
                result = step(wave)
            assert "can't be read" in waits[0]
            return result

        return run, without_files

    return plan


def test_files_that_are_not_there_for_a_while_are_waited_for(unmounted: Any, logged: Any) -> None:
    """As where a volume is not mounted, or a task runs on another machine."""
    run, without_files = unmounted("25%, 100%", success_after=6000)
    run.confirm(1)
    assert without_files(run.create, 2)["devices"] == 300
    assert without_files(run.confirm, 2)["confirmed"] == 300
    assert sorted(run.confirmed) == sorted(run.devices), "each once"
    assert "manifest.json is not there now" in " ".join(logged().split())


def test_and_the_guard_goes_on_meanwhile(unmounted: Any) -> None:
    run, without_files = unmounted("25%, 100%", **FAILING)
    run.confirm(1)
    assert without_files(run.create, 2, for_good=True)["verdict"] == "breached"
    assert (run.stops, len(run.task_ids)) == (1, 1)


@pytest.mark.parametrize("back_after", [3, None])
def test_a_list_of_who_is_left_out_that_can_not_be_written_is_waited_for(
    rollout: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, back_after: float | None
) -> None:
    """The folder is read-only for a while; somebody has deleted a device of the wave meanwhile."""
    run = rollout(**{**FAILING, "failure_rate": 0.3 if back_after is None else 0})
    run.plan("25%, 100%", manifest_path=(tmp_path / "manifest.json").as_uri())
    run.confirm(1)
    remove(run, [next(storage.iter_ids(f"{tmp_path}/manifest.json.wave_2"))])
    until = float("inf") if back_after is None else run.time.time() + back_after
    really = device_ids.write_whole

    def write(path: str, data: Any) -> None:
        if run.time.time() < until:
            path = "/dev/null/below"
        really(path, data)

    monkeypatch.setattr(device_ids, "write_whole", write)
    result = run.create(2, max_outage=0.3)
    alert = run.xcoms["create_2", "alert"]
    assert "the wave's devices can't be read or written" in alert["sentence"]
    if back_after is None:
        assert (result["verdict"], run.stops, len(run.task_ids)) == ("breached", 1, 1)
    else:
        assert (result["devices"], result["left_out"]) == (299, {"gone": 1})
