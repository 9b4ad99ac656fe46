"""Who is compared, and when: drawn and fixed before the first wave."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from iotda_provider.models import Device
from iotda_provider.trials.draw import Draw, drawn
from iotda_provider.trials.looks import Schedule, is_online

NOW = 1_790_000_000.0


def ids(start: int, end: int) -> list[str]:
    return [f"d{n}" for n in range(start, end)]


WAVES = [ids(0, 100), ids(100, 500), ids(500, 2500), ids(2500, 10_000)]


def test_treated_are_all_waves_so_far_and_control_is_drawn_from_later_ones() -> None:
    draw = Draw.of("seed", 1000, WAVES)
    assert set(draw.treated(1)) == set(WAVES[0])
    assert set(draw.treated(2)) == {*WAVES[0], *WAVES[1]}
    assert len(draw.treated(3)) == len(draw.control(1)) == len(draw.control(3)) == 1000
    assert set(draw.control(2)) <= {*WAVES[2], *WAVES[3]}
    assert draw.gates == 3
    assert not draw.has_gate(4)


def test_each_group_is_the_same_whatever_was_kept_of_each_wave() -> None:
    whole = drawn([one for wave in WAVES[1:] for one in wave], "seed", "trial")[:1000]
    assert Draw.of("seed", 1000, WAVES).control(1) == whole


def test_the_draw_takes_from_each_wave_its_share() -> None:
    control = set(Draw.of("another", 1000, WAVES).control(1))
    assert 150 < len(control & set(WAVES[2])) < 260


def test_another_seed_draws_others_and_the_same_one_the_same() -> None:
    one = Draw.of("a", 50, WAVES)
    assert Draw.of("a", 50, [list(reversed(wave)) for wave in WAVES]) == one
    assert Draw.of("b", 50, WAVES).control(1) != one.control(1)


def test_gates_without_devices_on_one_side_are_none() -> None:
    assert Draw.of("s", 10, [[], ids(0, 5), ids(5, 9)]).gates == 1
    assert Draw.of("s", 10, [ids(0, 5), []]).gates == 0
    assert Draw.of("s", 10, [ids(0, 5)]).gates == 0
    assert Draw.of("s", 10, []).gates == 0


def test_a_draw_comes_back_from_json() -> None:
    draw = Draw.of("seed", 20, WAVES)
    assert Draw.from_json(json.loads(json.dumps(draw.to_json()))) == draw


@pytest.mark.parametrize(
    "data",
    [
        None,
        {},
        {"seed": 1, "size": 1, "waves": []},
        {"seed": "s", "size": 0, "waves": []},
        {"seed": "s", "size": 1, "waves": ["ab"]},
        {"seed": "s", "size": 1, "waves": [[1]]},
        {"seed": "s", "size": 1, "waves": [["x" * 300]]},
        {"seed": "s", "size": 1, "waves": [[]] * 1000},
    ],
)
def test_what_is_no_draw_is_refused(data: object) -> None:
    with pytest.raises(ValueError, match=r"trial|size"):
        Draw.from_json(data)


@given(st.floats(1, 1e5), st.floats(1, 1e5), st.floats(-1e6, 1e6), st.sampled_from([0.0, 86400.0]))
@settings(max_examples=200, deadline=None)
def test_the_next_look_is_the_first_whose_time_has_not_passed(
    bake: float, span: float, passed: float, within: float
) -> None:
    looks = Schedule(NOW, bake, span, within)
    look = looks.next_at(NOW + passed)
    assert looks.time_of(look) >= NOW + passed
    if look > 1:
        assert looks.time_of(look - 1) < NOW + passed


@given(st.floats(1, 1e5), st.floats(1, 1e6), st.integers(1, 500))
@settings(max_examples=200, deadline=None)
def test_each_look_has_a_time_of_its_own(bake: float, span: float, look: int) -> None:
    looks = Schedule(NOW, bake, span)
    assert looks.time_of(look) < looks.time_of(look + 1)


def test_looks_are_a_square_of_bake_times_after_the_beginning() -> None:
    looks = Schedule(NOW, 600, 43200)
    assert [looks.time_of(j) - NOW for j in range(1, 9)] == [600 * j * j for j in range(1, 9)]
    # What it looks back over lies after the wave's beginning.
    assert Schedule(NOW, 600, 43200, 86400).time_of(1) - 86400 == NOW + 600


def test_a_wave_that_is_watched_again_has_looks_soon_and_their_numbers_go_on() -> None:
    looks = Schedule(NOW, 600, 4000)
    assert [looks.time_of(j) - NOW for j in range(1, 6)] == [600, 2400, 4600, 6400, 8600]
    again = looks.next_at(NOW + 86400)
    assert again > 40
    assert looks.time_of(again) - NOW - 86400 < 4000


@pytest.mark.parametrize(
    ("status", "plain"),
    [
        ("ONLINE", True),
        ("OFFLINE", False),
        ("ABNORMAL", False),
        ("FROZEN", None),
        ("INACTIVE", None),
        (None, None),
        ("SOMETHING", None),
    ],
)
def test_a_state_says_whether_a_device_is_healthy(status: str | None, plain: bool | None) -> None:
    device = Device("d", status=status, status_changed="2026-09-21T14:12:40.000Z")
    assert is_online(device, NOW, None) is plain
    assert is_online(device, NOW, 10) is plain


def test_a_device_that_sleeps_is_healthy_if_it_was_online_within_the_time() -> None:
    # 1,790,000,000 is 2026-09-21T14:13:20Z.
    asleep = Device("d", status="OFFLINE", status_changed="2026-09-21T14:12:20.000Z")
    assert is_online(asleep, NOW, 61) is True
    assert is_online(asleep, NOW, 59) is False
    assert is_online(asleep, NOW, None) is False
    for unreadable in (None, "", "yesterday"):
        assert is_online(Device("d", status="OFFLINE", status_changed=unreadable), NOW, 60) is None
