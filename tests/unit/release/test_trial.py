"""The trial at a wave's gate, over an I/O object of its own: its looks, and what they say."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from typing import Any

import pytest

from iotda_provider import api
from iotda_provider.exceptions import IoTDAError, IoTDANotFoundError, IoTDATransportError
from iotda_provider.models import Device, SubtaskStatus, TaskProgress
from iotda_provider.release.release_io import EvidenceFailedError
from iotda_provider.release.trial import WaveTrial
from iotda_provider.release.trial_job import TrialJob, TrialPlan, TrialRecord
from iotda_provider.transport.runner import run_blocking
from iotda_provider.trials import DeviceTrial
from iotda_provider.trials.draw import Draw

LOG = logging.getLogger(__name__)
BEGUN, BAKE = 1_790_000_000.0, 600.0
WAVES = [
    [f"a{n}" for n in range(200)],
    [f"b{n}" for n in range(800)],
    [f"c{n}" for n in range(999)],
]


class Platform:
    """Devices with states, and what was written down; time is moved by hand."""

    def __init__(self, draw: Draw | None = None) -> None:
        self.now = BEGUN
        self.draw = draw or Draw.of("seed", 1000, WAVES)
        self.states: dict[str, str | None] = {d: "ONLINE" for wave in WAVES for d in wave}
        self.since: dict[str, float] = {}
        self.versions = {d: "2" for wave in WAVES[:1] for d in wave}
        self.updating: set[str] = set()
        record = TrialRecord(self.draw, None, "fw_version", ("2",))
        self.written: dict[str, Any] = {
            "trial": json.loads(json.dumps(TrialPlan(record).to_json()))
        }
        self.is_readable = self.is_writable = True
        self.asked: list[str] = []
        self.seconds_a_call = 0.0
        self.metric: Any = None
        self.is_worker = True

    async def recall(self, key: str) -> list[Any] | None:
        if not self.is_readable:
            return None
        return [self.written[key]] if key in self.written else []

    async def note(self, key: str, record: Mapping[str, Any]) -> bool:
        if self.is_writable:
            self.written[key] = dict(record)
        return self.is_writable

    async def read_targets(self, batch_task_id: str, status: SubtaskStatus) -> set[str]:
        assert status is SubtaskStatus.PROCESSING
        return set(self.updating)

    async def perform_all(self, calls: Sequence[api.Call[Any]]) -> list[Any]:
        answers: list[Any] = []
        for call in calls:
            device = call.path.rsplit("/", 1)[1]
            self.asked.append(device)
            self.now += self.seconds_a_call
            state = self.states[device]
            if state is None:
                answers.append(IoTDANotFoundError(404, "IOTDA.014000", "gone"))
            elif state == "DOWN":
                answers.append(IoTDATransportError("the platform is down"))
            else:
                when = datetime.fromtimestamp(self.since.get(device, BEGUN), timezone.utc)
                answers.append(
                    Device(
                        device,
                        status=state,
                        fw_version=self.versions.get(device, "1"),
                        status_changed=f"{when:%Y-%m-%dT%H:%M:%S}.000Z",
                    )
                )
        return answers

    async def measure(self, device_ids: Sequence[str]) -> Mapping[str, bool | None]:
        if not self.is_worker:
            raise HandOver
        if not device_ids:
            return {}
        found: Mapping[str, bool | None] = self.metric(device_ids)
        return found

    def lose(self, share: float, *groups: Sequence[str], state: str | None = "OFFLINE") -> None:
        for group in groups:
            self.states.update(dict.fromkeys(group[: round(share * len(group))], state))


class HandOver(Exception):
    """The triggerer hands over to a worker."""


def trial_of(platform: Platform, wave: int = 1, *, job: TrialJob | None = None, **more: Any) -> Any:
    job = job or TrialJob(DeviceTrial(**more), BEGUN, BAKE, 86400.0)
    return WaveTrial(wave, job, LOG, lambda: platform.now)


def look(trial: Any, platform: Platform, after: float | None = None, **counts: int) -> Any:
    if after is not None:
        platform.now = BEGUN + after
    progress = TaskProgress(**{"total": 200, "success": 200, **counts})
    return run_blocking(trial.go_on(platform, ("t1",), progress, 10.0))


def test_it_looks_at_its_times_and_at_no_other() -> None:
    platform = Platform()
    trial = trial_of(platform)
    looked = []
    for second in range(0, 6000, 100):
        if answer := look(trial, platform, second):
            looked.append((second, answer.look))
    assert looked == [(600, 1), (2400, 2), (5400, 3)]


def test_bad_firmware_is_worse_and_the_sentence_says_so() -> None:
    platform = Platform()
    platform.lose(0.12, WAVES[0])
    platform.lose(0.03, WAVES[1], WAVES[2])
    trial = trial_of(platform)
    answer = look(trial, platform, 600)
    assert trial.is_worse
    assert answer.treated.unhealthy == 24
    assert answer.control.devices == 1000
    assert answer.stops_at == pytest.approx(0.01 / 2 * 0.607927, rel=1e-5)
    assert trial.sentence.startswith("24 of 200 updated devices are offline, ")
    assert ": worse, P = " in trial.sentence


def test_by_default_it_blocks_nothing_and_required_it_waits_for_no_worse() -> None:
    platform = Platform()
    assert trial_of(platform).blocks == ""
    trial = trial_of(platform, required=True)
    assert trial.blocks == "the trial has not looked yet"
    assert look(trial, platform, 600).no_worse
    assert trial.blocks == ""


def test_an_outage_of_everything_neither_stops_nor_opens() -> None:
    for state in ("OFFLINE", None, "DOWN"):
        platform = Platform()
        platform.lose(1, *WAVES, state=state)
        trial = trial_of(platform, required=True)
        answer = look(trial, platform, 600)
        assert not trial.is_worse
        assert "not decided" in trial.blocks
        assert answer.treated.devices == 200
        platform.lose(1, *WAVES, state="ONLINE")
        assert look(trial, platform, 2400).no_worse
        assert trial.blocks == ""


def test_a_platform_that_is_down_is_not_asked_for_every_device() -> None:
    platform = Platform()
    platform.lose(1, *WAVES, state="DOWN")
    look(trial_of(platform), platform, 600)
    assert len(platform.asked) <= 32


def test_an_outage_in_the_middle_of_a_look_hits_both_groups_alike() -> None:
    platform = Platform()
    trial = trial_of(platform)
    look(trial, platform, 600)
    first = platform.asked[: len(platform.asked) // 2]
    treated = sum(device in set(WAVES[0]) for device in first)
    assert 75 <= treated <= 125
    assert len(platform.asked) == 1200


def test_whoever_is_being_updated_deleted_or_frozen_is_unknown() -> None:
    platform = Platform()
    platform.updating = set(WAVES[0][:6])
    platform.lose(0.03, WAVES[0])  # these six, as they reboot
    platform.states[WAVES[0][10]] = None
    platform.states[WAVES[0][11]] = "FROZEN"
    answer = look(trial_of(platform), platform, 600, processing=6, success=194)
    assert (answer.treated.unhealthy, answer.treated.unknown) == (0, 8)
    assert answer.treated.devices == 200


def test_who_began_or_ended_an_update_during_the_look_is_unknown_too() -> None:
    platform = Platform()
    platform.updating = {WAVES[0][0]}
    platform.seconds_a_call = 0.1
    trial = trial_of(platform)
    while not (answer := look(trial, platform, None if trial.is_reading else 600, processing=1)):
        platform.updating = {WAVES[0][1]}
    assert answer.treated.unknown == 2


def test_where_too_many_are_being_updated_no_state_is_read() -> None:
    platform = Platform()
    answer = look(trial_of(platform), platform, 600, processing=21, success=179)
    assert platform.asked == []
    assert "more than a tenth of the updated devices is unknown" in answer.sentence


def test_what_was_not_updated_shrinks_the_margin() -> None:
    platform = Platform()
    platform.versions = dict.fromkeys(WAVES[0][:150], "2")
    answer = look(trial_of(platform), platform, 600)
    assert answer.updated == 0.75
    assert answer.goes_below == pytest.approx(0.0375)


def test_all_waves_so_far_are_treated_and_the_newest_is_told_apart() -> None:
    platform = Platform()
    platform.lose(0.2, WAVES[1])
    answer = look(trial_of(platform, 2), platform, 600, total=1000, success=1000)
    assert answer.treated.devices == answer.control.devices + 1 == 1000
    assert answer.p_newest is not None
    assert answer.p_newest < 1e-20


def test_the_last_wave_has_no_control_group_and_nothing_is_decided() -> None:
    platform = Platform()
    trial = trial_of(platform, 3, required=True)
    assert look(trial, platform, 600) is None
    assert trial.blocks == ""
    assert platform.asked == []


def test_a_wave_that_is_too_small_can_never_pass() -> None:
    platform = Platform(Draw.of("seed", 1000, [WAVES[0][:40], WAVES[1]]))
    trial = trial_of(platform, required=True)
    look(trial, platform, 600)
    assert trial.can_never_pass
    assert not trial_of(Platform(), required=True).can_never_pass


# --- what was written down ------------------------------------------------------------------------


def test_a_look_has_its_number_whatever_is_killed_or_cleared() -> None:
    platform = Platform()
    assert look(trial_of(platform), platform, 601).look == 1
    # The task starts again, with the job of its beginning.
    again = trial_of(platform)
    assert look(again, platform, 700) is None
    assert look(again, platform, 2400).look == 2
    assert platform.written["trial_1"] == {"look": 2}


def test_a_look_that_was_killed_while_it_read_is_spent() -> None:
    platform = Platform()
    platform.seconds_a_call = 1.0
    trial = trial_of(platform)
    assert look(trial, platform, 600) is None
    assert trial.is_reading
    platform.seconds_a_call = 0.0
    assert look(trial_of(platform), platform, 900) is None
    assert look(trial_of(platform), platform, 2400).look == 2


def test_a_look_goes_on_where_it_was_while_the_guard_looks_in_between() -> None:
    platform = Platform()
    platform.seconds_a_call = 0.1
    trial = trial_of(platform)
    calls = 0
    while not (answer := look(trial, platform, None if calls else 600)):
        calls += 1
    assert calls >= 8
    assert answer.treated.unknown == 0
    assert len(platform.asked) == 1200


def test_nothing_is_decided_while_what_was_written_can_not_be_read_or_written() -> None:
    platform = Platform()
    platform.is_readable = False
    trial = trial_of(platform, required=True)
    assert look(trial, platform, 600) is None
    assert "can't be read" in trial.blocks
    platform.is_readable, platform.is_writable = True, False
    assert look(trial, platform, 610) is None
    assert "can't be written down" in trial.blocks
    platform.is_writable = True
    assert look(trial, platform, 620).look == 1
    assert trial.blocks == ""


@pytest.mark.parametrize("record", [[], "x", {"record": {"draw": {}, "versions": []}}, {"draw": 1}])
def test_a_damaged_record_opens_no_gate(record: Any) -> None:
    platform = Platform()
    platform.written["trial"] = record
    trial = trial_of(platform, required=True)
    assert look(trial, platform, 600) is None
    assert "can't be used" in trial.blocks


def test_what_was_planned_without_the_trial_opens_no_gate_that_requires_it() -> None:
    platform = Platform()
    platform.written.clear()
    assert look(trial_of(platform), platform, 600) is None
    trial = trial_of(platform, required=True)
    look(trial, platform, 600)
    assert "planned without the trial" in trial.blocks


def test_a_job_travels_with_a_trigger() -> None:
    platform = Platform()
    trial = trial_of(platform, required=True, online_within=60)
    look(trial, platform, 700)
    job = TrialJob.from_json(json.loads(json.dumps(trial.job.to_json())))
    assert job == trial.job
    assert trial_of(platform, job=job).sentence == trial.sentence


# --- devices that sleep ---------------------------------------------------------------------------


def test_devices_that_sleep_are_healthy_if_they_were_online_within_the_time() -> None:
    platform = Platform()
    trial = trial_of(platform, required=True, online_within=3600)
    assert look(trial, platform, 0) is None
    assert look(trial, platform, 600) is None
    platform.lose(0.8, *WAVES)
    platform.since = {d: BEGUN + 3600 for wave in WAVES for d in wave}
    answer = look(trial, platform, 4200)
    assert answer.no_worse
    assert answer.treated.unhealthy == 0
    # Those that stay away are found.
    platform.since.update(dict.fromkeys(WAVES[0][:40], BEGUN + 100))
    assert look(trial, platform, 6000).worse


def test_without_online_within_sleeping_devices_open_nothing() -> None:
    platform = Platform()
    platform.lose(0.8, *WAVES)
    trial = trial_of(platform, required=True)
    answer = look(trial, platform, 600)
    assert not answer.worse
    assert not answer.no_worse


def test_devices_that_were_updated_within_the_time_are_unknown() -> None:
    platform = Platform()
    trial = trial_of(platform, online_within=3600)
    look(trial, platform, 0, success=150, processing=0, waiting=50)
    look(trial, platform, 500, success=180, waiting=20)
    answer = look(trial, platform, 4200, success=200)
    assert answer.treated.unknown == 20
    assert answer.treated.healthy == 180


# --- a metric of one's own ------------------------------------------------------------------------


def test_a_metric_of_ones_own_says_who_is_healthy() -> None:
    platform = Platform()
    bad = set(WAVES[0][:30])
    platform.metric = lambda ids: {one: one not in bad for one in ids if one != WAVES[0][50]}
    trial = trial_of(platform, metric=platform.metric)
    answer = look(trial, platform, 600)
    assert answer.worse
    assert (answer.treated.unhealthy, answer.treated.unknown) == (30, 1)
    assert answer.updated == 1
    assert "30 of 200 updated devices are unhealthy (1 unknown)" in answer.sentence


def test_a_metric_that_fails_opens_nothing_and_the_look_is_spent() -> None:
    platform = Platform()

    def fails(ids: Sequence[str]) -> Mapping[str, bool]:
        raise EvidenceFailedError("it raises ValueError")

    platform.metric = fails
    trial = trial_of(platform, metric=fails, required=True)
    with pytest.raises(EvidenceFailedError):
        look(trial, platform, 600)
    assert "can't be asked" in trial.blocks
    assert look(trial, platform, 700) is None
    platform.metric = lambda ids: dict.fromkeys(ids, True)
    assert look(trial, platform, 2400).look == 2
    assert trial.blocks == ""


def test_a_metric_is_left_to_a_worker_before_the_look_is_noted() -> None:
    platform = Platform()
    platform.metric = lambda ids: dict.fromkeys(ids, True)
    platform.is_worker = False
    trial = trial_of(platform, metric=platform.metric)
    with pytest.raises(HandOver):
        look(trial, platform, 600)
    platform.is_worker = True
    job = TrialJob.from_json(trial.job.to_json())
    assert look(trial_of(platform, job=job), platform, 605).look == 1


def test_an_error_of_the_list_of_updates_is_no_end_of_the_watch() -> None:
    platform = Platform()

    async def broken(batch_task_id: str, status: SubtaskStatus) -> set[str]:
        raise IoTDAError("no")

    platform.read_targets = broken  # type: ignore[method-assign]
    answer = look(trial_of(platform), platform, 600, processing=5, success=195)
    assert not answer.worse
    assert not answer.no_worse
