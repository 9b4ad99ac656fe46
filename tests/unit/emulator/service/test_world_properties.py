"""Whatever is asked in whatever order: statuses stay documented, counts add up, pages are whole."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from iotda_provider.emulator.common.clock import to_micro
from iotda_provider.emulator.common.errors import ApiError
from iotda_provider.emulator.common.paging import NEWEST, Page, below, described
from iotda_provider.emulator.scenario.scenario import Scenario
from iotda_provider.emulator.service import status_rules
from iotda_provider.emulator.service.batch_task import Task
from iotda_provider.emulator.service.world import World
from iotda_provider.models import SubtaskStatus, TaskProgress, TaskStatus, TaskType

DEVICES = 12
IDS = [f"device-{n:05d}" for n in range(DEVICES)] + ["stranger"]
WAITS = [0.5, 1, 5, 40, 61, 600, 3600, 90_000]

ACTIONS = ("stop", "retry", "confirm")


class AnyCallsAtAll(RuleBasedStateMachine):
    """Creates, stops, retries, confirms and deletes tasks, removes devices and lets time pass."""

    @initialize(
        rates=st.sampled_from([(0, 0), (0.5, 0), (0.3, 0.3), (1, 0)]),
        offline=st.sampled_from([0, 0.5]),
        switches=st.fixed_dictionaries(
            {
                "stop_installing": st.sampled_from(["finish", "detach", "abort"]),
                "offline_status": st.sampled_from(["Waitting", "Processing"]),
                "empty_targets": st.sampled_from(["all", "none", "refuse"]),
                "task_conflict": st.sampled_from(["allow", "fail"]),
                "unconfirmed_status": st.sampled_from(["Waitting", "Processing"]),
                "install_share": st.sampled_from([0, 0.5, 1]),
            }
        ),
        seed=st.integers(0, 9),
    )
    def begin(
        self,
        rates: tuple[float, float],
        offline: float,
        switches: dict[str, Any],
        seed: int,
    ) -> None:
        scenario = {
            "devices": DEVICES,
            "failure_rate": rates[0],
            "hang_rate": rates[1],
            "offline_share": offline,
            "online_after": {"distribution": "exponential", "mean": 3600},
            "start_after": {"distribution": "uniform", "min": 0, "max": 30},
            "success_after": {"distribution": "uniform", "min": 0, "max": 600},
            "switches": switches,
        }
        self.world = World(Scenario.read(scenario), seed, 1_767_225_600.0)
        self.tasks: list[Task] = []
        self.seen: dict[int, TaskStatus] = {}
        self.rows: dict[int, bytes] = {}

    @rule(
        kind=st.sampled_from(["firmwareUpgrade", "softwareUpgrade", "moduleUpgrade"]),
        devices=st.lists(st.sampled_from(IDS), min_size=1, max_size=DEVICES),
        need_confirm=st.booleans(),
        retries=st.integers(0, 2),
        delay=st.sampled_from([None, "20260101T010000Z"]),
    )
    def create(
        self,
        kind: str,
        devices: list[str],
        need_confirm: bool,
        retries: int,
        delay: str | None,
    ) -> None:
        policy: dict[str, Any] = {"retry_count": retries, "retry_interval": 5} if retries else {}
        if delay is not None:
            policy["schedule_time"] = delay
        body = {
            "task_name": "t",
            "task_type": kind,
            "targets": devices,
            "need_confirm": need_confirm,
            "document": {"package_ids": ["abc"]},
            "task_policy": policy,
        }
        task = self.world.create_task(body)
        self.tasks.append(task)

    @precondition(lambda self: self.tasks)
    @rule(data=st.data(), action=st.sampled_from(ACTIONS))
    def act(self, data: st.DataObject, action: str) -> None:
        task = data.draw(st.sampled_from(self.tasks))
        targets = data.draw(st.none() | st.lists(st.sampled_from(IDS), max_size=5))
        reason = status_rules.blocked_because(action, task.task_type, task.status)
        refused = False
        try:
            answer = self.world.commands[action](task_id=task.task_id, targets=targets)
        except ApiError:
            refused = True
        empty_is_refused = self.world.switches.empty_targets == "refuse" and targets == []
        assert refused == (reason is not None or empty_is_refused)
        if targets and not refused:
            assert [row["target"] for row in answer] == list(dict.fromkeys(targets))
            assert all((row["status"] == "success") == ("error_code" not in row) for row in answer)

    @precondition(lambda self: self.tasks)
    @rule(data=st.data())
    def delete(self, data: st.DataObject) -> None:
        task = data.draw(st.sampled_from(self.tasks))
        ended = task.status.is_terminal
        try:
            self.world.delete_task(task.task_id)
        except ApiError:
            assert not ended
        else:
            assert ended
            self.tasks.remove(task)

    @rule(device_id=st.sampled_from(IDS[:3]))
    def remove_device(self, device_id: str) -> None:
        device = self.world.fleet.find(device_id)
        assert device is not None
        if self.world.fleet.is_registered(device):
            self.world.remove_device(device_id)

    @rule(seconds=st.sampled_from(WAITS))
    def wait(self, seconds: float) -> None:
        self.world.advance(self.world.now + to_micro(seconds))

    @invariant()
    def every_status_is_documented_and_counts_add_up(self) -> None:
        for task in getattr(self, "tasks", []):
            shown = self.world.describe(task)
            assert TaskStatus(shown["status"]) is task.status
            progress = TaskProgress.from_wire(shown["task_progress"])
            assert progress.adds_up
            assert progress.total == len(task)
            for code in range(len(status_rules.SUBTASK_STATUSES)):
                assert task.statuses.count(code) == task.counts[code]
            for row in range(len(task)):
                described_row = self.world.describe_row(task, row)
                SubtaskStatus(described_row["status"])
                failed = described_row["status"] in ("Fail", "FailWaitRetry")
                assert ("error" in described_row) == failed
                assert not failed or described_row["error"]["error_code"]
            assert task.status.is_terminal == (not task.live)

    @invariant()
    def nothing_ended_moves_by_itself(self) -> None:
        for task in getattr(self, "tasks", []):
            before = self.seen.get(task.number)
            if before is TaskStatus.SUCCESS or before is TaskStatus.STOPPED:
                assert task.status is before
                assert bytes(task.statuses) == self.rows[task.number]
            self.seen[task.number] = task.status
            self.rows[task.number] = bytes(task.statuses)

    @invariant()
    def a_stopped_task_of_a_kind_that_is_not_stopped_was_not_stopped(self) -> None:
        for task in getattr(self, "tasks", []):
            if task.task_type is TaskType.MODULE_UPGRADE:
                assert not task.status.is_stop


AnyCallsAtAll.TestCase.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
TestAnyCallsAtAll = AnyCallsAtAll.TestCase


def test_every_step_between_statuses_is_a_documented_status() -> None:
    assert set(status_rules.TASK_FOLLOWS) == set(TaskStatus)
    assert set(status_rules.SUBTASK_STATUSES) == set(SubtaskStatus)


@given(
    size=st.integers(0, 130),
    limit=st.integers(1, 50),
    offset=st.integers(0, 60),
    stopped=st.sets(st.integers(0, 129)),
)
@settings(max_examples=150, deadline=None)
def test_pages_of_subtasks_hold_every_row_exactly_once(
    size: int, limit: int, offset: int, stopped: set[int]
) -> None:
    scenario = {"devices": 130, "batch_tasks": [{"task_id": "a" * 24, "targets": size or 1}]}
    world = World(Scenario.read(scenario), 0, 1_767_225_600.0)
    task = world.task("a" * 24)
    for row in stopped & set(range(len(task))):
        task.move(row, status_rules.STOPPED)
    for status in (None, SubtaskStatus.STOPPED, SubtaskStatus.WAITING, SubtaskStatus.FAIL):
        code = None if status is None else status_rules.CODES[status]
        wanted = [r for r in range(len(task)) if code is None or task.statuses[r] == code]
        found: list[int] = []
        marker, skip = NEWEST, offset
        while True:
            count, rows = world.rows(task, Page(limit, marker, skip), status, None)
            assert count == len(wanted)
            found += rows
            if not rows:
                break
            marker, skip = task.record_id(rows[-1]), 0
        assert found == wanted[::-1][offset:]


@given(
    ids=st.sets(st.text("0123456789abcdef", min_size=24, max_size=24), max_size=60),
    limit=st.integers(1, 50),
    offsets=st.lists(st.integers(0, 7), min_size=1, max_size=5),
)
def test_pages_of_records_hold_every_record_in_order(
    ids: set[str], limit: int, offsets: list[int]
) -> None:
    ordered = sorted(ids)
    left = ordered[::-1]
    marker, turn = NEWEST, 0
    while True:
        offset = offsets[turn % len(offsets)]
        page = Page(limit, marker, offset).cut(below(ordered, marker))
        rest = [one for one in left if one < marker][offset:]
        assert page == rest[:limit]
        answer = described(len(ids), page, str)
        assert answer["count"] == len(ids)
        if not page:
            assert "marker" not in answer
            break
        marker, turn = str(answer["marker"]), turn + 1


@pytest.mark.parametrize("offset", range(3))
def test_an_offset_counts_from_the_marker(offset: int) -> None:
    ids = [f"{n:024x}" for n in range(10)]
    assert Page(2, ids[8], offset).cut(below(ids, ids[8])) == [ids[7 - offset], ids[6 - offset]]
