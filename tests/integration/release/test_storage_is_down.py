"""Where waves can't be read no device is confirmed; the guard goes on, wherever it looks from."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from tests.integration.release.conftest import KilledError

from iotda_provider.guards import MaxFailures
from iotda_provider.release import storage


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
    assert "which can't be read" in result["summary"]
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
    assert "what the wave is for can't be read" in alert["sentence"]


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
    assert result["unconfirmed"] == 400 - len(run.confirmed)
    assert "can't be said here" in logged()
