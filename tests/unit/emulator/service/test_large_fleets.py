"""Large fleets: what a call costs does not grow with the devices that it is not about."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from tests.growth import growth

from iotda_provider.emulator.common.paging import NEWEST, Page
from iotda_provider.emulator.service.device_queries import below, record_id
from iotda_provider.emulator.service.search import parse

Make = Callable[..., Any]
#: Twice the devices: twice the time, or four times where each call looks at all of them.
LINEAR = 3.0
GROUP = "a" * 8


def fleet(hands: Make, size: int) -> Any:
    """A fleet whose devices are all in one group."""
    h = hands(devices=size, groups=[{"name": "all", "group_id": GROUP, "share": 1}])
    return h.world


def pages(read: Callable[[Page], Any]) -> int:
    """Read a list to its end, 50 at a time; how many there are."""
    found, marker = 0, NEWEST
    while page := read(Page(limit=50, marker=marker)):
        found += len(page)
        marker = record_id(page[-1])
    return found


def members(world: Any, group: Any) -> Callable[[], object]:
    return lambda: pages(lambda page: page.newest(world.groups.members(group), below(page.marker)))


def list_of_a_group(world: Any) -> Callable[[], object]:
    return members(world, world.groups.group(GROUP))


def list_of_a_group_by_rule(world: Any) -> Callable[[], object]:
    return members(world, world.groups.create_group("ruled", rule="fw_version = '1.0.0'"))


def list_of_a_product(world: Any) -> Callable[[], object]:
    wanted = [("product_id", world.fleet.behaviour(0).product_id)]
    return lambda: pages(lambda page: world.devices().page(page, wanted)[1])


def list_of_all(world: Any) -> Callable[[], object]:
    return lambda: pages(lambda page: world.devices().page(page)[1])


def search_by_marker(world: Any) -> Callable[[], object]:
    def found() -> None:
        marker = "f" * 24
        while True:
            sql = (
                f"select * from device where marker < '{marker}' and group_id = '{GROUP}' limit 50"
            )
            query, devices = parse(sql), world.devices()
            page = [d for d, _ in zip(devices.find(query), range(50), strict=False)]
            if not page:
                return
            marker = record_id(page[-1])

    return found


@pytest.mark.parametrize(
    ("read", "size"),
    [
        (list_of_a_group, 40_000),
        (list_of_a_group_by_rule, 20_000),
        (list_of_a_product, 40_000),
        (list_of_all, 40_000),
        (search_by_marker, 5_000),
    ],
)
def test_a_list_is_read_page_by_page_in_time_that_grows_with_it(
    hands: Make, read: Callable[[Any], Callable[[], object]], size: int
) -> None:
    assert growth(lambda size: read(fleet(hands, size)), size, tries=3) < LINEAR


def test_who_is_found_in_a_task_takes_no_look_at_all_of_its_devices(hands: Make) -> None:
    def work(size: int) -> Callable[[], object]:
        world = fleet(hands, size)
        ids = [world.fleet.id_of(device) for device in range(size)]
        body = {
            "task_name": "all",
            "task_type": "firmwareUpgrade",
            "targets": ids[::2] + ids[1::2],
            "document": {"package_ids": ["abc"]},
            "need_confirm": True,
        }
        task = world.create_task(body)
        places = [range(start, start + 100) for start in range(0, size, 100)]
        return lambda: [task.rows_of(devices) for devices in places]

    assert growth(work, 15_000, tries=3) < LINEAR


def test_rows_are_found_in_any_order_of_targets(hands: Make) -> None:
    world = fleet(hands, 10)
    order = [3, 1, 9, 0, 7]
    body = {
        "task_name": "some",
        "task_type": "firmwareUpgrade",
        "targets": [*(world.fleet.id_of(device) for device in order), "a-stranger"],
        "document": {"package_ids": ["abc"]},
    }
    task = world.create_task(body)
    stranger = world.fleet.find("a-stranger")
    assert task.rows_of([stranger, *range(10)]) == {
        stranger: 5,
        **{device: row for row, device in enumerate(order)},
    }


def test_a_group_by_rule_follows_what_its_devices_run_and_belong_to(hands: Make) -> None:
    world = hands(devices=10, packages=[{"version": "2.0.0", "package_id": "abc"}]).world
    groups = world.groups
    old = groups.create_group("old", rule="fw_version = '1.0.0'")
    made = groups.create_group("made")
    both = groups.create_group("in", rule=f"group_id = '{made.group_id}'")
    assert list(groups.members(old)) == list(range(10))
    assert list(groups.members(both)) == []
    world.fleet.install(3, world.fleet.versions.number("2.0.0"), software=False)
    groups.add_member(made.group_id, "device-00004")
    assert list(groups.members(old)) == [0, 1, 2, 4, 5, 6, 7, 8, 9]
    assert list(groups.members(both)) == [4]
    world.remove_device("device-00004")
    assert list(groups.members(both)) == []
    assert 4 not in groups.members(old)


@pytest.mark.parametrize(
    ("sql", "found"),
    [
        ("marker < '{4}'", [3, 2, 1, 0]),
        ("marker > '{7}'", [9, 8]),
        ("marker > '{7}' and marker < '{9}'", [8]),
        ("marker < '{2}' or marker > '{8}'", [9, 1, 0]),
        ("marker < '{2}' or device_id = 'device-00005'", [5, 1, 0]),
        ("marker = '{5}'", [5]),
        ("marker < '0'", []),
        ("marker < 'zzz'", list(range(9, -1, -1))),
    ],
)
def test_a_search_begins_and_ends_at_its_markers(hands: Make, sql: str, found: list[int]) -> None:
    devices = hands(devices=10).world.devices()
    where = sql.format(*map(record_id, range(10)))
    query = f"select * from device where {where}"
    assert list(devices.find(parse(f"{query} order by marker desc limit 50"))) == found
    ascending = devices.find(parse(f"{query} order by marker asc limit 50"))
    assert list(ascending) == found[::-1]


def test_a_task_is_shown_as_fast_in_a_large_fleet(hands: Make) -> None:
    def shown(size: int) -> Callable[[], object]:
        h = hands(devices=size, batch_tasks=[{}])
        h.pass_time(2)
        (task,) = h.world.tasks(Page(), None, None, None)[1]

        def show() -> None:
            for _ in range(100):
                h.world.describe(task)
                for row in h.world.rows(task, Page(limit=1), None, None)[1]:
                    h.world.describe_row(task, row)

        return show

    # The sizes are 1,000 and 100,000.
    assert growth(lambda size: shown(1000 if size == 1 else 100_000), 1) < 2
