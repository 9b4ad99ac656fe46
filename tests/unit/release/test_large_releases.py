"""Releases of any size: what beginning one holds in memory beside the devices' ids."""

from __future__ import annotations

import logging
import sys
import tempfile
import tracemalloc
from collections.abc import Callable, Iterator
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.growth import growth

from iotda_provider.api import Page
from iotda_provider.models import Device, OtaPackage
from iotda_provider.operators.release.conflicts import conflicts_of
from iotda_provider.operators.release.fleet import find_late, members_of, sort_devices
from iotda_provider.release.device_ids import hand_over
from iotda_provider.release.other_releases import ReleaseNote
from iotda_provider.release.planning import cut_waves, plan_waves, split_late
from iotda_provider.release.storage import ReleaseFiles
from iotda_provider.release.versions_before import write_before
from iotda_provider.release.wave_specs import parse_waves

TI = SimpleNamespace(dag_id="d", run_id="r")
MOST = 80  # bytes a device beside its id
FEW = 3_000
#: Between these a table of hashes doubles, and is there twice for a moment.
SIZES = (20_000, 23_000)
PACKAGE = OtaPackage.from_wire(
    {
        "package_id": "a1b2c3d4e5f60718293a4b5c",
        "product_id": "p",
        "version": "2.0.0",
        "package_type": "firmwarePackage",
    }
)


def named(number: int) -> str:
    return f"5c8fb9d0e2f14a5b9c0d1e2f_{number:07}"


class Hook:
    """A platform with so many devices, of which it makes each row when it is asked for."""

    settings = SimpleNamespace(max_requests_per_second=None)

    def __init__(self, devices: int) -> None:
        self.devices = devices

    def _rows(self) -> Iterator[Device]:
        for number in range(self.devices):
            yield Device.from_wire(
                {
                    "device_id": named(number),
                    "status": "OFFLINE" if number % 100 == 0 else "ONLINE",
                    "fw_version": "2.0.0" if number % 50 == 1 else "1.0.0",
                    "product_id": "p",
                }
            )

    def _perform(self, call: Any) -> Page[Any]:
        """Another release's group has all of the devices; there is no other upgrade."""
        start, rows = int(dict(call.query).get("marker", 0)), ()
        if "device-group" in call.path:
            ids = range(start, min(start + 50, self.devices))
            rows = tuple(Device.from_wire({"device_id": named(one)}) for one in ids)
        return Page(rows, str(start + 50), full=len(rows) == 50)

    def iter_group_devices(self, group_id: str) -> Iterator[Device]:
        return self._rows()

    def list_devices(self, *, product_id: str) -> Iterator[Device]:
        return self._rows()

    def read_devices(self, device_ids: list[str]) -> list[Device]:
        return [Device.from_wire({"device_id": one, "status": "ONLINE"}) for one in device_ids]


@pytest.fixture(autouse=True)
def another_release(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is under way, to the same devices."""
    note = ReleaseNote("r", "another_dag", "run", "3.0.0", "p", ("a1b2",))
    monkeypatch.setattr("iotda_provider.release.under_way.others", lambda *asked: [note])


def check(devices: int) -> Callable[[], list[str]]:
    def work() -> list[str]:
        hook: Any = Hook(devices)
        members = members_of(hook, ["g", "g"])
        needed = sort_devices(hook, PACKAGE, members, "fw_version")
        del members
        assert needed.current == devices // 50
        log = logging.getLogger(__name__)
        others, _ = conflicts_of(hook, needed.ids, {}, "p", TI, log, is_under_way=False)
        assert len(others) == 1
        late = find_late(hook, needed, timedelta(hours=1), log)
        assert not late
        return list(needed.ids)

    return work


def plan(devices: int) -> Callable[[], list[str]]:
    ids = [named(number) for number in range(devices)]

    def work() -> list[str]:
        specs = parse_waves("1%, 5%, 25%, 100%")
        planned = split_late(plan_waves(ids, specs, seed="s", late=ids[::50]), specs, 6)
        assert planned.devices == devices
        return []

    return work


def versions(devices: int) -> Callable[[], list[str]]:
    """What each device of the largest wave runs is written down."""
    ids = [named(number) for number in range(devices)]
    path = f"{tempfile.mkdtemp()}/release.json"
    files = ReleaseFiles("d", "r", "plan", manifest_path=path)
    runs = {f"1.{n}.0": hand_over(ids[n::2], path, f"runs_{n}") for n in (0, 1)}

    def work() -> list[str]:
        write_before(files, (ids,), runs)
        return []

    return work


@pytest.mark.parametrize("many", SIZES)
@pytest.mark.parametrize("kind", [check, plan, versions])
def test_a_device_takes_at_most_80_bytes_beside_its_id(
    kind: Callable[[int], Callable[[], list[str]]], many: int
) -> None:
    def peak(devices: int) -> int:
        work = kind(devices)
        tracemalloc.start()
        try:
            ids = work()
            return tracemalloc.get_traced_memory()[1] - sum(map(sys.getsizeof, ids))
        finally:
            tracemalloc.stop()

    kind(100)()  # what is imported
    assert (peak(many) - peak(FEW)) / (many - FEW) <= MOST


@pytest.mark.parametrize("waves", ["1%, 5%, 25%, 100%", "300, group:abc, 50%, rest"])
def test_the_time_of_planning_grows_with_the_devices(waves: str) -> None:
    specs = parse_waves(waves)

    def work(devices: int) -> Callable[[], object]:
        ids = [named(number) for number in range(devices)]
        groups = {"abc": ids[::3]}
        return lambda: plan_waves(ids, specs, seed="s", groups=groups, late=ids[::50])

    assert growth(work, 10_000, tries=3) < 3


@given(st.integers(1, 300), st.integers(0, 300), st.sampled_from(["1%, 100%", "7, 50%, rest"]))
def test_the_sizes_of_waves_are_those_of_their_ranges(on_time: int, late: int, text: str) -> None:
    specs = parse_waves(text)
    ids = [named(number) for number in range(on_time + late)]
    planned = plan_waves(ids, specs, seed="s", late=ids[on_time:])
    sizes = cut_waves(range(on_time), range(late), specs)
    assert sizes.cumulative == planned.cumulative
    assert sizes.labels == planned.labels
    assert split_late(sizes, specs, 5).cumulative == split_late(planned, specs, 5).cumulative
