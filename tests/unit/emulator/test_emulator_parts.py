"""Smaller parts by themselves: time, events, faults' rules, the journal and the state file."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from iotda_provider.emulator.common.clock import MICRO, Clock, basic, millis, parse_basic
from iotda_provider.emulator.common.errors import ApiError, ScenarioError
from iotda_provider.emulator.common.paging import NEWEST, Page
from iotda_provider.emulator.common.randomness import Draws
from iotda_provider.emulator.identity.iam import Iam, IamSettings
from iotda_provider.emulator.identity.signatures import Key
from iotda_provider.emulator.scenario.faults import Fault, Faults, name_faults
from iotda_provider.emulator.scenario.scenario import Scenario
from iotda_provider.emulator.service.device_queries import record_id
from iotda_provider.emulator.service.event_queue import WHOLE_TASK, EventQueue
from iotda_provider.emulator.state.instance import Instance, Settings
from iotda_provider.emulator.state.journal import Journal

Make = Callable[..., Any]


def test_virtual_time_is_real_time_at_its_speed_and_what_was_advanced() -> None:
    real = iter([0.0, 1.0, 1.0, 2.0])
    clock = Clock(60, 5, lambda: next(real))
    assert clock.now() == 60 * MICRO + 5
    assert clock.advance(10) == 60 * MICRO + 15
    assert clock.now() == 120 * MICRO + 15
    with pytest.raises(ValueError, match="forward"):
        clock.advance(-1)


def test_times_are_written_as_the_platform_writes_them() -> None:
    assert basic(1_449_922_332) == "20151212T121212Z"
    assert millis(1_449_922_332.122) == "2015-12-12T12:12:12.122Z"
    assert parse_basic("20151212T121212Z") == 1_449_922_332


def test_events_come_in_the_order_of_time_then_task_then_row() -> None:
    queue = EventQueue()
    events = [(5, 2, 7), (5, 1, 9), (1, 3, 0), (5, 1, WHOLE_TASK), (2**45, 1, 30_000)]
    queue.push_many(events[:3])
    for event in events[3:]:
        queue.push(*event)
    popped = []
    while (event := queue.pop_until(2**50)) is not None:
        popped.append(event)
    assert popped == sorted(events)
    queue.push(10, 1, 1)
    assert queue.pop_until(9) is None


def faults(*rules: dict[str, Any], seed: int = 0, now: Callable[[], float] | None = None) -> Faults:
    made = Faults(Draws(seed), real=now or (lambda: 0.0))
    for fault in name_faults(Scenario.read({"faults": rules}).faults, made.next_id):
        made.add(fault)
    return made


def kinds(made: Faults, call: str = "show_batch_task", key: str = "a") -> list[str]:
    return [hit.fault.kind for hit in made.hits(call, key)]


def test_the_first_fatal_rule_decides_and_benign_ones_add_up() -> None:
    made = faults(
        {"kind": "latency", "seconds": 1},
        {"kind": "reset", "call": "stop_batch_task"},
        {"kind": "clock_skew", "seconds": 1},
        {"kind": "html"},
        {"kind": "lost"},
    )
    assert kinds(made) == ["latency", "clock_skew", "html"]
    assert kinds(made, "stop_batch_task") == ["latency", "reset"]


def test_a_rule_by_count_and_after() -> None:
    made = faults({"kind": "reset", "after": 1, "count": 2, "call": ["show_*", "list_*"]})
    hits = [bool(kinds(made, call)) for call in ("show_x", "stop_x", "list_x", "show_x", "show_x")]
    assert hits == [False, False, True, True, False]


def test_a_rule_by_probability_is_the_same_for_a_seed() -> None:
    def run(seed: int) -> list[bool]:
        made = faults({"kind": "reset", "probability": 0.3}, seed=seed)
        return [bool(kinds(made)) for _ in range(500)]

    assert run(1) == run(1) != run(2)
    assert 100 < sum(run(1)) < 200


def test_a_rate_limit_is_kept_for_each_key() -> None:
    moment = [0.0]
    made = faults({"kind": "rate_limit", "per_second": 2, "burst": 2}, now=lambda: moment[0])
    assert [kinds(made, key="a") for _ in range(3)] == [[], [], ["rate_limit"]]
    assert kinds(made, key="b") == []
    [hit] = made.hits("x", "a")
    assert hit.wait == pytest.approx(0.5)
    moment[0] = 0.5
    assert kinds(made, key="a") == []
    assert kinds(made, key="a") == ["rate_limit"]


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ({}, "faults[0].kind is missing"),
        ({"kind": "explode"}, "faults[0].kind must be one of latency, clock_skew"),
        ({"kind": "reset", "calls": "x"}, "faults[0].calls is not a known field"),
        ({"kind": "reset", "call": 5}, "faults[0].call must be the name of a call"),
        (
            {"kind": "status", "headers": {"a": 1}},
            "faults[0].headers.a must be a text, not",
        ),
        ({"kind": "latency", "seconds": -1}, "faults[0].seconds must be at least 0"),
        ({"kind": "status", "status": 99}, "faults[0].status must be from 200 to 599"),
    ],
)
def test_a_wrong_rule_names_its_field(fault: dict[str, Any], message: str) -> None:
    with pytest.raises(ScenarioError) as error:
        faults(fault)
    assert message in str(error.value)


def test_two_rules_can_not_share_an_id() -> None:
    rule = {"kind": "reset", "id": "x"}
    with pytest.raises(ScenarioError, match="is taken"):
        faults(rule, rule)
    assert Fault.read(rule).named("y").id == "x"


def test_the_journal_is_read_by_call_and_number() -> None:
    journal = Journal(before=[{"n": 7, "call": "old"}])
    for call in ("show_batch_task", None, "stop_batch_task"):
        journal.add({"call": call})
    assert [entry["n"] for entry in journal.entries()] == [7, 8, 9, 10]
    assert [entry["n"] for entry in journal.entries("s*_batch_task", after=8)] == [10]
    assert [entry["n"] for entry in journal.entries(limit=2)] == [7, 8]


# --- devices -------------------------------------------------------------------------------------


def test_a_filtered_list_is_paged_and_knows_who_went(hands: Make) -> None:
    h = hands()
    fleet, devices = h.world.fleet, h.world.devices()
    wanted = [("product_id", fleet.behaviour(0).product_id)]

    def listed() -> list[int]:
        found, marker = [], NEWEST
        while page := devices.page(Page(limit=3, marker=marker), wanted)[1]:
            found += page
            marker = record_id(page[-1])
        return found

    everybody = list(reversed(range(10)))
    assert listed() == everybody
    assert devices.page(Page(), [("product_id", "another")]) == (0, [])
    fleet.remove(4)
    assert listed() == [device for device in everybody if device != 4]


def test_a_task_may_delete_devices(hands: Make) -> None:
    h = hands(groups=[{"name": "g", "group_id": "a", "count": 5}])
    running = h.create()
    h.pass_time(2)
    body = {"task_name": "x", "task_type": "deleteDevices", "targets": ["device-00001"]}
    h.world.commands["create_task"](body=body)
    h.pass_time(10)
    assert h.row(running, "device-00001")["status"] == "Removed"
    assert len(h.world.groups.devices_of(["a"])) == 4
    with pytest.raises(ApiError, match="does not exist"):
        h.world.groups.device("device-00001")


# --- the state file ------------------------------------------------------------------------------


@pytest.fixture
def reopen(tmp_path: Path) -> Iterator[Callable[..., Instance]]:
    """Opens instances on one state file, each closing the one before as a crash would."""
    opened: list[Instance] = []

    def make(scenario: Any = None, **options: Any) -> Instance:
        if opened:
            opened[-1].close()
        settings = {"ak": "a", "sk": "s", "project_id": "p", "speed": 0.0, **options}
        opened.append(Instance(scenario, Settings(state=tmp_path / "state", **settings)))
        return opened[-1]

    yield make
    opened[-1].close()


def everything(instance: Instance) -> Any:
    world = instance.present()
    rows = [
        [world.describe_row(task, row) for row in range(len(task))]
        for task in world._tasks.values()
    ]
    devices = world.devices()
    return (
        world.now,
        world.start,
        [world.describe(task) for task in world._tasks.values()],
        rows,
        [devices.full(device) for device in range(len(world.fleet))],
        [group.describe() for group in world.groups.by_id.values()],
        [package.describe() for package in world.library.packages.values()],
        instance.faults.describe(),
    )


def test_a_restarted_instance_is_the_same_world(reopen: Callable[..., Instance]) -> None:
    scenario = {
        "devices": 60,
        "failure_rate": 0.3,
        "hang_rate": 0.1,
        "offline_share": 0.2,
        "online_after": 900,
        "success_after": {"distribution": "lognormal", "median": 600, "sigma": 1},
        "batch_tasks": [{"created_ago": 300}],
        "faults": [{"kind": "reset", "count": 2}],
    }
    one = reopen(scenario, seed=3)
    body = {
        "task_name": "t",
        "task_type": "softwareUpgrade",
        "targets": ["device-00001", "stranger", "device-00030"],
        "document": {"package_ids": ["abc"]},
        "task_policy": {"retry_count": 2, "retry_interval": 5},
    }
    task = one.run("create_task", body=body)
    one.advance(100)
    with pytest.raises(ApiError):
        one.run("delete_task", task_id=task.task_id)
    group = one.run("create_group", name="g", rule=None)
    one.run("add_member", group_id=group.group_id, device_id="device-00009")
    one.run("remove_device", device_id="device-00030")
    one.add_fault({"kind": "latency", "call": "show_*"})
    one.faults.hits("show_batch_task", "a")
    one.journal.add({"call": "show_batch_task"})
    one.run("stop", task_id=task.task_id, targets=["device-00001"])
    one.advance(500)
    before = everything(one)
    two = reopen(seed=3)
    assert everything(two) == before
    assert two.journal.entries() == [{"n": 1, "call": "show_batch_task"}]
    two.advance(90_000)
    later = everything(two)
    assert later != before
    assert everything(reopen(scenario, seed=3)) == later


def test_a_scenario_that_was_refused_leaves_the_state_file_free(tmp_path: Path) -> None:
    settings = Settings("a", "s", "p", state=tmp_path / "state")
    for wrong in ({"devises": 1}, {"batch_tasks": [{"task_name": "a-b"}]}, {"faults": [{}]}):
        with pytest.raises(ScenarioError):
            Instance(wrong, settings)
    Instance({"devices": 1}, settings).close()


def test_another_seed_is_another_world(reopen: Callable[..., Instance]) -> None:
    reopen({"devices": 5}, seed=1)
    with pytest.raises(ScenarioError, match="made with the seed 1, not 2"):
        reopen(seed=2)


def test_of_tokens_and_keys_the_latest_thousand_are_known() -> None:
    iam = Iam(IamSettings(), Key("ak", "sk"), "p")
    tokens = [iam.token_for_identity("emulator-idp", "emulator.id.token")[0] for _ in range(1001)]
    for _ in range(1001):
        iam.key_for_agency(iam.metadata_token(60))

    assert [iam.knows([(b"x-auth-token", token.encode())]) for token in tokens[:2]] == [False, True]
    assert len(iam.given_secrets()) == 2 * 1000 + 2 * 1000
