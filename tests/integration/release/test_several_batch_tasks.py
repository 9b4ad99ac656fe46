"""Releases of several batch tasks: one is touched, a worker dies between two, a quota is full."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.integration.release.conftest import DOCUMENT, KilledError
from tests.integration.release.test_second_look import OFTEN, remove, update

from iotda_provider.exceptions import IoTDAError
from iotda_provider.hooks.iotda import IoTDAHook
from iotda_provider.models import SubtaskStatus
from iotda_provider.operators.release.try_again import TryAgainOperator
from iotda_provider.release.storage import ReleaseFiles
from iotda_provider.release.triggerer import TriggererReleaseIO
from iotda_provider.release.worker import WorkerReleaseIO

NOT_STARTED = (SubtaskStatus.WAITING, SubtaskStatus.STOPPED, SubtaskStatus.REMOVED)
UPGRADE = "firmwareUpgrade"
NOT_LAST = {"is_last": False, "rule": None}
HELD: dict[str, Any] = {"document": DOCUMENT, "need_confirm": True}
LIMIT = {"status": 403, "body": {"error_code": "IOTDA.014111", "error_msg": "quota exceeded"}}


def members(run: Any) -> dict[str, list[str]]:
    """The devices of every batch task that there is."""
    world = run.emulator.instance.present()
    return {
        task.task_id: [world.fleet.id_of(device) for device in task.devices]
        for task in world._tasks.values()
        if task.fields["task_type"] == UPGRADE
    }


def started(run: Any) -> set[str]:
    """The confirmed devices of all batch tasks."""
    world = run.emulator.instance.present()
    tasks = [task for task in world._tasks.values() if task.fields["task_type"] == UPGRADE]
    shown = (world.describe_row(task, row) for task in tasks for row in range(len(task)))
    return {row["target"] for row in shown if row["status"] not in NOT_STARTED}


def touch(run: Any, action: str, task_id: str) -> None:
    """Somebody presses a button for a whole batch task at the console."""
    for verb in {"delete": ("stop", "delete")}.get(action, (action,)):
        if verb == "delete":
            run.time.sleep(0.2)
            with IoTDAHook() as hook:
                hook.delete_batch_task(task_id)
        else:
            run.emulator._on_loop(
                lambda verb=verb: run.emulator.instance.run(verb, task_id=task_id)
            )


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch task takes 40 devices instead of 30,000."""
    for module in ("manifest", "storage"):
        monkeypatch.setattr(f"iotda_provider.release.{module}.MAX_TARGETS_PER_TASK", 40)


# --- somebody touches one of them -----------------------------------------------------------------


@pytest.mark.parametrize("wave", [1, 2])
@pytest.mark.parametrize(("action", "verdict"), [("stop", "stopped_elsewhere"), ("delete", "lost")])
def test_who_stops_or_deletes_one_waves_batch_task_ends_the_release(
    rollout: Any, action: str, verdict: str, wave: int
) -> None:
    run = rollout(success_after=90_000)
    run.plan("25%, 50%, 100%")
    run.confirm(1)
    run.confirm(2)
    one, other = run.task_of(wave), run.task_of(3 - wave)
    touch(run, action, one)
    result = run.watch(2)
    assert result["verdict"] == verdict
    # Nobody of the third wave is in any batch task, now or later.
    assert run.create(3)["verdict"] == verdict
    assert len(run.task_ids) == (1 if action == "delete" else 2)
    # The first wave was opened by a person: it could not be shown to be right.
    run.xcoms.put("watch_1", "return_value", {"verdict": "unproven", "summary": "", **NOT_LAST})
    run.xcoms.put("gate_1", "branch", ["ask_1"])
    run.xcoms.put("ask_1", "answer", {"option": "Go on"})
    exposed = set(run.wave(1)) | set(run.wave(2))
    assert sorted(run.confirmed) == sorted(exposed)
    with IoTDAHook() as hook:
        assert str(hook.get_batch_task(other).status) == "Processing"
    outcome = run.outcome(3)
    assert (outcome["verdict"], outcome["exposed"]) == (verdict, len(exposed))
    assert sorted(outcome["batch_task_ids"]) == sorted([one, other])
    found = run.reconcile(outcome)
    assert (found["exposed"], found["counts"]["wave_not_begun"]) == (len(exposed), 200)
    assert set(run.xcoms["reconcile", "wave_not_begun"]) == set(run.wave(3))
    assert not set(run.xcoms["reconcile", "to_retry"]) - exposed


def test_who_confirms_one_of_a_waves_batch_tasks_reaches_its_devices_alone(
    rollout: Any, small_parts: None
) -> None:
    run = rollout(speed=60)
    run.plan("25%, 100%", gate=0.2)
    run.create(1)
    parts = run.xcoms["create_1", "return_value"]["parts"]
    assert [part["devices"] for part in parts] == [40, 40, 20]
    touch(run, "confirm", parts[1]["batch_task_id"])
    second = set(run.wave(1)[40:80])
    assert started(run) == second
    result = run.confirm(1)
    assert (result["started_elsewhere"], result["verdict"]) == (40, "confirmed")
    # Which of them have started the counts do not say; to confirm a device twice changes nothing.
    assert Counter(run.confirmed) == Counter(run.wave(1))
    assert run.watch(1, gate=0.2)["verdict"] == "passed"
    assert started(run) == set(run.wave(1))


# --- a worker dies between two of them ------------------------------------------------------------


@pytest.mark.parametrize("answered", [False, True], ids=["before its call", "before its record"])
@pytest.mark.parametrize("part", [1, 2, 3])
def test_whoever_dies_between_two_batch_tasks_goes_on_with_the_next(
    rollout: Any,
    small_parts: None,
    monkeypatch: pytest.MonkeyPatch,
    part: int,
    answered: bool,
) -> None:
    run = rollout()
    run.plan("25%, 100%")
    dying = Dying(monkeypatch, part, answered=answered)
    with pytest.raises(BaseException) as death:
        run.create(1)
    assert type(death.value).__name__ == "KilledError"
    dying.is_over = True
    assert len(run.task_ids) == part - 1 + answered
    created = run.create(1)
    assert [one["devices"] for one in created["parts"]] == [40, 40, 20]
    assert len(set(created["batch_task_ids"])) == len(run.task_ids) == 3
    own = members(run)
    first = run.wave(1)
    wanted = [first[:40], first[40:80], first[80:]]
    for one, devices in zip(created["parts"], wanted, strict=True):
        assert sorted(own[one["batch_task_id"]]) == sorted(devices)
        assert f"_wave_1_of_2_part_{one['part']}_" in one["task_name"]
    run.confirm(1)
    assert run.watch(1)["verdict"] == "passed"
    assert Counter(run.confirmed) == Counter(first)


class Dying:
    """Kills whoever creates batch tasks at one of them, before its call or after its answer."""

    def __init__(self, patch: pytest.MonkeyPatch, part: int, *, answered: bool) -> None:
        self.is_over, self._part, self._answered, self._made = False, part, answered, 0
        for kind in (WorkerReleaseIO, TriggererReleaseIO):
            patch.setattr(kind, "perform", self._around(kind.perform))

    def _around(self, perform: Callable[..., Any]) -> Callable[..., Any]:
        async def around(io: Any, call: Any) -> Any:
            is_create = call.method == "POST" and call.path.endswith("/batchtasks")
            self._made += is_create
            dies = is_create and self._made == self._part and not self.is_over
            if dies and not self._answered:
                raise KilledError
            answer = await perform(io, call)
            if dies:
                raise KilledError
            return answer

        return around


# --- a quota --------------------------------------------------------------------------------------


def test_a_full_quota_is_waited_for_a_person_is_told_and_the_guard_goes_on(
    rollout: Any, small_parts: None
) -> None:
    run = rollout(success_after=90_000)
    run.plan("25%, 100%")
    run.confirm(1)
    looks = len(run.emulator.journal("show_batch_task"))
    # The first of the second wave is created, the next ones are refused for a while.
    run.emulator.add_fault("status", call="create_batch_task", after=1, count=6, **LIMIT)
    created = run.create(2)
    assert created["verdict"] == "created"
    assert [part["devices"] for part in created["parts"]] == [40] * 7 + [20]
    assert run.xcoms["create_2", "alert"]["kind"] == "create_refused"
    assert "quota exceeded" in run.xcoms["create_2", "alert"]["sentence"]
    assert len(run.emulator.journal("show_batch_task")) > looks + 6 * 3, "three are guarded"
    own = members(run)
    assert sorted(device for one in own.values() for device in one) == sorted(run.devices)
    assert started(run) == set(run.wave(1))


def test_a_breach_while_a_quota_is_full_stops_all_that_there_is(
    rollout: Any, small_parts: None
) -> None:
    often = {"initializing": 0, "stop_after": 0, "search_per_second": None}
    bad = {"success_after": 90_000, "failure_after": 600, "failure_rate": 0.6}
    run = rollout(**bad, switches=often)
    run.plan("25%, 100%")
    run.confirm(1)
    run.emulator.add_fault("status", call="create_batch_task", after=1, **LIMIT)
    assert run.create(2)["verdict"] == "breached"
    ids = run.task_ids
    assert len(ids) == 4, "three of the first wave, and one of the second"
    with IoTDAHook() as hook:
        statuses = {task_id: str(hook.get_batch_task(task_id).status) for task_id in ids}
    assert set(statuses.values()) == {"Stopped"}, "nobody can confirm it at the console any more"
    assert set(run.confirmed) == set(run.wave(1))
    assert started(run) <= set(run.wave(1))


@pytest.mark.parametrize(
    ("wave", "action", "verdict"),
    [
        (1, "confirm", "breached"),
        (2, "confirm", "breached"),
        (2, "stop", "stopped_elsewhere"),
        (1, "delete", "lost"),
    ],
)
def test_what_somebody_does_to_one_while_the_next_waits_for_a_quota_is_seen(
    rollout: Any,
    small_parts: None,
    monkeypatch: pytest.MonkeyPatch,
    wave: int,
    action: str,
    verdict: str,
) -> None:
    often = {"initializing": 0, "stop_after": 0, "search_per_second": None}
    run = rollout(success_after=90_000, failure_after=600, failure_rate=0.9, switches=often)
    run.plan("50, 100%" if wave == 1 else "1, 51, 100%")
    if wave == 2:
        run.confirm(1)
    run.emulator.add_fault("status", call="create_batch_task", after=1, **LIMIT)
    touched: list[str] = []

    def touch_the_newest() -> None:
        touched.append(run.task_ids[-1])
        touch(run, action, touched[0])

    after_a_refusal(monkeypatch, touch_the_newest)
    result = run.create(wave)
    assert (result["verdict"], len(touched)) == (verdict, 1)
    assert result["batch_task_ids"][-1] == touched[0]
    assert set(run.confirmed) == set(run.wave(1) if wave == 2 else ()), "nobody of this wave"
    if action == "confirm":
        with IoTDAHook() as hook:
            assert str(hook.get_batch_task(touched[0]).status) == "Stopped"


@pytest.mark.parametrize("by_file", [False, True], ids=["in XComs", "in files"])
def test_after_an_hour_of_waiting_the_devices_in_no_batch_task_are_looked_at_again(
    rollout: Any, small_parts: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, by_file: bool
) -> None:
    run = rollout(switches=OFTEN)
    path = (tmp_path / "waves.json").as_uri() if by_file else None
    run.plan("25%, 75%, 100%", manifest_path=path)
    run.confirm(1)
    assert run.watch(1)["verdict"] == "passed"
    wave = list(ReleaseFiles("dag", "run", "plan", manifest_path=path).iter_planned(2))
    updated, removed, held = [wave[50], wave[100]], [wave[70]], wave[60]

    def meanwhile() -> None:
        run.emulator.clear_faults()
        update(run, updated)
        remove(run, removed)
        with IoTDAHook() as hook:
            other_ids.append(
                hook.create_batch_task(
                    task_name="others", task_type="firmwareUpgrade", targets=[held], **HELD
                ).task_id
            )
        run.emulator.add_fault("status", call="create_batch_task", count=8, **LIMIT)

    other_ids: list[str] = []
    run.emulator.add_fault("status", call="create_batch_task", after=1, **LIMIT)
    after_a_refusal(monkeypatch, meanwhile)
    made = run.create(2, poll_interval=600)
    assert made["left_out"] == {"already_current": 2, "gone": 1, "held_elsewhere": 1}
    assert [part["devices"] for part in made["parts"]] == [40] * 4 + [36]
    own = members(run)
    left = [device for device in wave if device not in {*updated, *removed, held}]
    for number, part in enumerate(made["parts"]):
        assert sorted(own[part["batch_task_id"]]) == sorted(left[40 * number : 40 * (number + 1)])
    run.confirm(2)
    assert run.watch(2)["verdict"] == "passed"
    # Who was held comes again with the last wave.
    with IoTDAHook() as hook:
        hook.stop_batch_task(other_ids[0])
    assert run.create(3)["devices"] == 101
    run.confirm(3)
    assert run.watch(3)["verdict"] == "passed"
    assert sorted(run.confirmed) == sorted(set(run.devices) - {*updated, *removed}), "each once"
    found = run.reconcile(run.outcome(3))
    assert (found["counts"]["updated"], found["left_out"]) == (
        397,
        {"already_current": 2, "gone": 1},
    )


@pytest.mark.parametrize("by_file", [False, True], ids=["in XComs", "in files"])
def test_a_batch_task_that_a_dead_worker_has_created_keeps_its_devices_after_an_hour(
    rollout: Any, small_parts: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, by_file: bool
) -> None:
    run = rollout(switches=OFTEN)
    path = (tmp_path / "waves.json").as_uri() if by_file else None
    run.plan("100%", manifest_path=path)
    wave = list(ReleaseFiles("dag", "run", "plan", manifest_path=path).iter_planned(1))
    dying = Dying(monkeypatch, 2, answered=True)
    with pytest.raises(KilledError):
        run.create(1)
    dying.is_over = True
    run.time.sleep(4000)
    remove(run, [wave[45], wave[85], wave[399]])
    made = run.create(1)
    assert made["left_out"] == {"gone": 2}
    assert [part["devices"] for part in made["parts"]] == [40] * 9 + [38]
    own = members(run)
    assert len(own) == 10, "none twice"
    assert sorted(own[made["parts"][1]["batch_task_id"]]) == sorted(wave[40:80])
    assert sorted(own[made["parts"][2]["batch_task_id"]]) == sorted([*wave[80:85], *wave[86:121]])


def test_a_refusal_to_look_again_does_not_end_the_guard_of_the_waves_own_batch_tasks(
    rollout: Any, small_parts: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody may have confirmed the first one at the console, and nobody else watches it."""
    run = rollout(switches=OFTEN)
    run.plan("100%")

    def meanwhile() -> None:
        run.time.sleep(4000)
        run.emulator.clear_faults()
        run.emulator.add_fault("status", call="list_batch_tasks", status=403, body={}, count=2)

    run.emulator.add_fault("status", call="create_batch_task", after=1, **LIMIT)
    after_a_refusal(monkeypatch, meanwhile)
    assert run.create(1)["verdict"] == "created"
    assert run.xcoms["create_1", "alert"]["kind"] == "create_refused"
    own = members(run)
    assert sorted(device for one in own.values() for device in one) == sorted(run.devices)


def after_a_refusal(patch: pytest.MonkeyPatch, act: Callable[[], None]) -> None:
    """Have a function called once, when the platform has refused a call of a release."""
    left = iter((act,))

    def around(perform: Callable[..., Any]) -> Callable[..., Any]:
        async def performing(io: Any, call: Any) -> Any:
            try:
                return await perform(io, call)
            except IoTDAError:
                for one in left:
                    one()
                raise

        return performing

    for kind in (WorkerReleaseIO, TriggererReleaseIO):
        patch.setattr(kind, "perform", around(kind.perform))


# --- many -----------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("deferrable", [True])
def test_70_000_devices_in_three_waves(rollout: Any, tmp_path: Path, deferrable: bool) -> None:
    run = rollout(devices=70_000, speed=3000)
    file = tmp_path / "devices.txt"
    file.write_text("".join(f"{device}\n" for device in run.devices))
    path = (tmp_path / "waves.json").as_uri()
    run.plan("1%, 50%, 100%", devices=file.as_uri(), manifest_path=path)
    sizes = [[700], [30_000, 4_300], [30_000, 5_000]]
    for wave, devices in enumerate(sizes, start=1):
        run.confirm(wave)
        parts = run.xcoms[f"create_{wave}", "return_value"]["parts"]
        assert [part["devices"] for part in parts] == devices
        assert run.watch(wave)["verdict"] == "passed"
        assert len(run.confirmed) == sum(map(sum, sizes[:wave]))
    assert Counter(run.confirmed) == Counter(run.devices), "everybody, each once"
    own = members(run)
    assert Counter(device for one in own.values() for device in one) == Counter(run.devices)
    assert not run.stops
    outcome = run.outcome(3)
    assert (outcome["verdict"], outcome["exposed"]) == ("released", 70_000)
    assert len(outcome["batch_task_ids"]) == 5


@pytest.mark.parametrize("deferrable", [False])  # it never waits
def test_a_second_try_of_more_than_30_000_devices_goes_by_file(
    rollout: Any, tmp_path: Path, deferrable: bool
) -> None:
    run = rollout(devices=31_000)
    file = tmp_path / "to_retry.txt"
    file.write_text("".join(f"{device}\n" for device in run.devices))
    again = TryAgainOperator(
        task_id="try_again",
        task_name="again",
        task_type="firmwareUpgrade",
        targets=file.as_uri(),
        document=DOCUMENT,
        need_confirm=True,
    )
    made = run.run(again)
    assert (made["devices"], len(made["batch_task_ids"])) == (31_000, 2)
    own = members(run)
    assert [sorted(own[one]) for one in made["batch_task_ids"]] == [
        run.devices[:30_000],
        run.devices[30_000:],
    ]
    with IoTDAHook() as hook:
        names = [hook.get_batch_task(one).task_name for one in made["batch_task_ids"]]
    assert [f"_part_{n}_" in name for n, name in enumerate(names, start=1)] == [True, True]
    assert not run.confirmations
    assert not started(run), "all of them wait for a person"
    # Cleared, it creates none again.
    assert run.run(again)["batch_task_ids"] == made["batch_task_ids"]
    assert len(members(run)) == 2
