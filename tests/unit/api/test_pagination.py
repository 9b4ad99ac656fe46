"""Lists in pages: every row once, whatever moves, and an end whatever the platform says."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from iotda_provider import api
from iotda_provider.api import pagination
from iotda_provider.api.pagination import Listing, SeenTargets
from iotda_provider.exceptions import IoTDAConfigError

TASK_ID = "5c8f9e2d7a6b4c3d1e0f9a8b"


def read_all(rows: Listing[Any], answer: Any, most: int = 500) -> list[Any]:
    """Everything that a list gives, where ``answer(marker, limit)`` is the platform's page."""
    found: list[Any] = []
    calls = 0
    while rows.next is not None:
        calls += 1
        assert calls <= most, "endless"
        query = dict(rows.next.query)
        data = answer(query.get("marker"), int(query["limit"]))
        found += rows.take(rows.next.read({"batchtask": {"task_id": TASK_ID}, **data}))
    return found


def page(rows: list[str], marker: Any, count: Any = None) -> dict[str, Any]:
    details = [{"target": row, "status": "Fail"} for row in rows]
    return {"task_details": details, "page": {"marker": marker, "count": count}}


@given(
    total=st.integers(0, 400),
    size=st.integers(1, 50),
    counts=st.booleans(),
)
def test_every_row_comes_once_in_order_whatever_page_size_the_platform_allows(total, size, counts):
    ids = [f"d{n:03}" for n in range(total)]
    if not counts:
        size = 50  # a shorter page is the last one, where there is no count

    def answer(marker: str | None, limit: int) -> dict[str, Any]:
        start = 0 if marker is None else ids.index(marker) + 1
        rows = ids[start : start + min(size, limit)]
        return page(rows, rows[-1] if rows else marker, total if counts else None)

    found = read_all(pagination.iter_subtasks(TASK_ID), answer)

    assert [row.target for row in found] == ids


@settings(max_examples=40)
@given(data=st.data(), total=st.integers(0, 300))
def test_no_row_comes_twice_while_rows_move_between_the_pages(data, total):
    ids = [f"d{n:03}" for n in range(total)]
    left = list(ids)

    def answer(marker: str | None, limit: int) -> dict[str, Any]:
        # Between two pages some rows go and come back elsewhere, as they change their status.
        gone = data.draw(st.sets(st.sampled_from(ids), max_size=5)) if ids else set()
        left[:] = [one for one in left if one not in gone] + sorted(gone)
        at = left.index(marker) + 1 if marker in left else 0
        rows = left[at : at + limit]
        return page(rows, rows[-1] if rows else None, len(left))

    found = [row.target for row in read_all(pagination.iter_subtasks(TASK_ID), answer)]

    assert len(found) == len(set(found))
    assert set(found) <= set(ids)


@given(
    pages=st.lists(
        st.tuples(
            st.lists(st.sampled_from("abcdef"), max_size=50),
            st.none() | st.sampled_from(["m1", "m2", ""]) | st.integers(),
            st.none() | st.integers(-5, 10**9) | st.booleans() | st.text(max_size=3),
        ),
        min_size=1,
        max_size=8,
    )
)
def test_no_series_of_odd_pages_is_endless_or_gives_a_target_twice(pages):
    calls = iter(range(10**6))

    def answer(marker: str | None, limit: int) -> dict[str, Any]:
        rows, new_marker, count = pages[next(calls) % len(pages)]
        return page(rows, new_marker, count)

    try:
        found = [row.target for row in read_all(pagination.iter_subtasks(TASK_ID), answer)]
    except ValueError:
        assert pages[0][0] == [], "only a first page without the rows that it counts is refused"
        return

    assert len(found) == len(set(found))


def test_a_marker_that_repeats_ends_the_list():
    found = read_all(
        pagination.iter_subtasks(TASK_ID), lambda marker, limit: page(["a"] * 50, "same", 10**6), 3
    )
    assert [row.target for row in found] == ["a"]


LISTS = {
    "subtasks": lambda: pagination.iter_subtasks(TASK_ID),
    "batch tasks": lambda: pagination.list_batch_tasks(task_type="firmwareUpgrade"),
    "devices": lambda: Listing(api.list_devices),
    "group": lambda: Listing(api.list_devices_in_group, "a1"),
    "groups": lambda: Listing(api.list_groups),
    "packages": lambda: Listing(api.list_packages, package_type="firmwarePackage"),
}
ROWS = ("task_details", "batchtasks", "devices", "device_groups", "packages")


@pytest.mark.parametrize("name", LISTS)
@pytest.mark.parametrize(("rows", "count", "most"), [(1, 3, 3), (50, 3, 50), (50, 120, 150)])
def test_a_fresh_marker_on_each_page_gives_no_more_than_was_counted(name, rows, count, most):
    numbers = iter(range(10**6))

    def answer(marker, limit):
        ids = [f"{next(numbers):x}" for _ in range(rows)]
        return {
            "task_details": [{"target": one} for one in ids],
            "batchtasks": [{"task_id": one} for one in ids],
            "devices": [{"device_id": one} for one in ids],
            "device_groups": [{"group_id": one} for one in ids],
            "packages": [{"package_id": one, "version": "1"} for one in ids],
            "page": {"marker": f"m{ids[0]}", "count": count},
        }

    assert len(read_all(LISTS[name](), answer)) == most


@pytest.mark.parametrize("name", LISTS)
@pytest.mark.parametrize("rows", [{}, {key: [] for key in ROWS}, dict.fromkeys(ROWS)])
def test_a_first_page_without_the_rows_that_are_counted_is_no_empty_list(name, rows):
    counted = {**rows, "page": {"count": 2, "marker": "m1"}}
    with pytest.raises(ValueError, match=r"^page\.count is 2, and [a-z_]+ has no rows$"):
        read_all(LISTS[name](), lambda *_: counted)

    for empty in ({"page": {"count": 0}}, {"page": {"count": None}}, {"page": None}, {}):
        assert read_all(LISTS[name](), lambda *_, empty=empty: {**rows, **empty}, most=1) == []


def test_rows_that_were_seen_do_not_make_a_list_endless():
    numbers = iter(range(10**6))
    found = read_all(
        pagination.iter_subtasks(TASK_ID),
        lambda marker, limit: page(["a"] * 50, f"m{next(numbers)}", 1_000),
        50,
    )
    assert [row.target for row in found] == ["a"]


def test_rows_that_leave_a_list_while_it_is_read_hide_none_that_stay():
    ids = [f"d{n:03}" for n in range(400)]
    left = list(ids)

    def answer(marker: str | None, limit: int) -> dict[str, Any]:
        rows = [one for one in left if marker is None or one > marker][:limit]
        count = len(left)
        del left[:20]  # rows that were read before are taken out of the list
        return page(rows, rows[-1] if rows else None, count)

    found = {row.target for row in read_all(pagination.iter_subtasks(TASK_ID), answer)}

    assert found >= set(left)


def test_a_list_that_shrinks_below_its_count_ends():
    answers = iter([page(["a", "b"], "m1", 9), page([], "m2", 9)])
    found = read_all(pagination.iter_subtasks(TASK_ID), lambda *_: next(answers))
    assert [row.target for row in found] == ["a", "b"]


def test_filters_travel_with_every_page():
    rows = pagination.iter_subtasks(TASK_ID, status="Fail")
    assert rows.next is not None
    rows.take(rows.next.read({"batchtask": {"task_id": TASK_ID}, **page(["a"], "m", 2)}))
    assert rows.next is not None
    assert dict(rows.next.query) == {"limit": "50", "marker": "m", "task_detail_status": "Fail"}


def test_bad_input_is_refused_before_the_first_page():
    with pytest.raises(IoTDAConfigError, match="batch_task_id"):
        pagination.iter_subtasks("../x")
    with pytest.raises(IoTDAConfigError, match="status must be one of"):
        pagination.list_batch_tasks(status="Waiting")


@given(at_least=st.integers(1, 20), targets=st.lists(st.integers(0, 60), max_size=300))
def test_targets_are_remembered_as_long_as_promised(at_least, targets):
    seen = SeenTargets(at_least)
    for position, target in enumerate(targets):
        is_new = seen.is_new(str(target))
        recent = list(dict.fromkeys(reversed(targets[:position])))[:at_least]
        if target in recent and len(set(targets[:position])) <= at_least:
            assert not is_new
        if target not in targets[:position]:
            assert is_new


def test_a_page_holds_as_many_rows_as_the_platform_gives():
    assert api.MAX_PAGE == 50
    query = api.list_batch_tasks(task_type="firmwareUpgrade").query
    assert dict(query) == {"limit": "50", "task_type": "firmwareUpgrade"}


@given(
    kinds=st.lists(st.sampled_from(pagination.UPGRADES), max_size=200),
    wanted=st.integers(0, 60),
)
def test_without_a_type_all_upgrades_come_newest_first_from_a_list_for_each_type(kinds, wanted):
    ids = [f"{n:024x}" for n in range(len(kinds))]
    asked: list[str] = []

    def answer(query: dict[str, str]) -> dict[str, Any]:
        asked.append(query["task_type"])  # the platform refuses a list without one
        before = query.get("marker", "f" * 24)
        rows = [
            {"task_id": one, "task_name": "n", "task_type": kind, "status": "Success"}
            for one, kind in zip(reversed(ids), reversed(kinds), strict=True)
            if kind == query["task_type"] and one < before
        ]
        some = rows[: int(query["limit"])]
        marker = some[-1]["task_id"] if some else None
        return {"batchtasks": some, "page": {"marker": marker, "count": kinds.count(asked[-1])}}

    rows, found = pagination.list_batch_tasks(), []
    while rows.next is not None and len(found) < wanted:
        found += rows.take(rows.next.read(answer(dict(rows.next.query))))

    assert [task.task_id for task in found] == ids[::-1][: len(found)]
    assert len(found) >= min(wanted, len(ids))
    # No page is read before a row of it is needed.
    pages = {kind: asked.count(kind) for kind in asked}
    read = {kind: sum(task.task_type == kind for task in found) for kind in asked}
    assert all(pages[kind] <= read[kind] // 50 + 1 for kind in pages)
