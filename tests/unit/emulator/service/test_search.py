"""The small SQL of the device search."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from iotda_provider.emulator.common.errors import ApiError
from iotda_provider.emulator.service.search import parse

Make = Callable[..., Any]


@pytest.fixture
def find(hands: Make) -> Callable[[str], list[int]]:
    h = hands(
        devices=40,
        segments=[{"count": 10, "fw_version": "0.9"}, {"count": 5, "offline_share": 1}],
        groups=[{"name": "g", "group_id": "aa-1", "count": 12}],
    )

    def run(where: str) -> list[int]:
        devices = h.world.devices()
        return sorted(devices.find(parse(f"select * from device where {where}")))

    return run


@pytest.mark.parametrize(
    ("where", "wanted"),
    [
        ("fw_version = '0.9'", range(10)),
        ("fw_version != '0.9'", range(10, 40)),
        ("fw_version in ('0.9', '7')", range(10)),
        ("fw_version NOT IN ('0.9')", range(10, 40)),
        ('status = "OFFLINE"', range(10, 15)),
        ("group_id = 'aa-1' and fw_version = '1.0.0'", range(10, 12)),
        ("group_id != 'aa-1' AND status = 'ONLINE'", range(15, 40)),
        ("device_id = 'device-00039'", [39]),
        ("device_name like 'device-0003%'", range(30, 40)),
        ("fw_version = '0.9' or status = 'OFFLINE' and group_id = 'aa-1'", range(12)),
        (f"marker > '{37:024x}'", range(37, 40)),
        ("product_id = 'nothing'", []),
        ("create_time < '2000-01-01T00:00:00.000Z'", []),
    ],
)
def test_conditions(
    find: Callable[[str], list[int]], where: str, wanted: list[int] | range
) -> None:
    assert find(where) == list(wanted)


def test_the_defaults_are_ten_rows_from_the_newest() -> None:
    query = parse("SELECT * FROM device")
    assert (query.rows, query.offset, query.ascending, query.counts) == (10, 0, False, False)


def test_every_clause() -> None:
    query = parse("select device_id, fw_version from device order by marker asc limit 500,50")
    assert query.fields == ("device_id", "fw_version")
    assert (query.ascending, query.offset, query.rows) == (True, 500, 50)
    assert parse("select count( * ) from device").counts
    assert parse("select count(1) from device").counts


@pytest.mark.parametrize(
    "sql",
    [
        None,
        "",
        "select",
        "select * from product",
        "delete from device",
        "select * from device limit 51",
        "select * from device limit 501,10",
        "select * from device order by device_id",
        "select * from device where colour = 'red'",
        "select * from device where fw_version > '1'",
        "select * from device where fw_version like '1.00%'",
        "select * from device where node_id like 'dev%'",
        "select * from device where node_id like '%device'",
        "select * from device where tag_key in ('a')",
        "select * from device where status = ''",
        "select * from device where status = ONLINE",
        "select * from device where status = 'ONLINE' and",
        "select * from device where status in ()",
        "select * from device; drop table device",
        "select * from device where " + " or ".join(["status = 'ONLINE'"] * 6),
        "select * from device where device_id = '" + "a" * 400 + "'",
    ],
)
def test_what_the_platform_does_not_take(sql: str | None) -> None:
    with pytest.raises(ApiError) as refusal:
        parse(sql)
    assert refusal.value.code == "IOTDA.000006"
