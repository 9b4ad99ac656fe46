"""Maintenance windows, over midnight and over changes of the clock."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from iotda_provider.release.maintenance_window import MaintenanceWindow

BERLIN, SHANGHAI, UTC = ZoneInfo("Europe/Berlin"), ZoneInfo("Asia/Shanghai"), ZoneInfo("UTC")


def at(text: str, zone: ZoneInfo = UTC) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=zone)


def test_a_window_in_local_time() -> None:
    window = MaintenanceWindow("02:00", "04:00", "Asia/Shanghai")
    assert window.is_open(at("2026-03-02T02:00", SHANGHAI))
    assert window.is_open(at("2026-03-01T18:30"))
    assert not window.is_open(at("2026-03-02T04:00", SHANGHAI))
    assert not window.is_open(at("2026-03-02T02:30"))


def test_a_window_over_midnight_belongs_to_the_day_on_which_it_begins() -> None:
    window = MaintenanceWindow.parse("fri 22:00-05:00")
    assert window.is_open(at("2026-03-06T22:00"))  # a Friday
    assert window.is_open(at("2026-03-07T04:59"))
    assert not window.is_open(at("2026-03-07T05:00"))
    assert not window.is_open(at("2026-03-07T22:30"))
    assert not window.is_open(at("2026-03-06T04:00"))


@pytest.mark.parametrize(
    ("text", "days"),
    [
        ("22:00-05:00", ("mon", "tue", "wed", "thu", "fri", "sat", "sun")),
        ("mon-fri 22:00-05:00", ("mon", "tue", "wed", "thu", "fri")),
        ("Sat, Sun 1:30 - 5:00", ("sat", "sun")),
        ("fri-mon 01:00-02:00", ("mon", "fri", "sat", "sun")),
        ("monday 01:00-02:00", ("mon",)),
    ],
)
def test_windows_as_text(text: str, days: tuple[str, ...]) -> None:
    assert MaintenanceWindow.parse(text).days == days


def test_times_that_are_equal_are_a_whole_day() -> None:
    window = MaintenanceWindow.parse("sun 00:00-00:00")
    assert window.is_open(at("2026-03-08T00:00"))
    assert window.is_open(at("2026-03-08T23:59"))
    assert not window.is_open(at("2026-03-09T00:00"))


def test_the_day_when_the_clocks_change() -> None:
    window = MaintenanceWindow("01:00", "04:00", "Europe/Berlin")
    # From 02:00 the clocks go on at 03:00: the window is two hours long.
    first = at("2026-03-29T00:00")  # 01:00 in Berlin
    minutes = sum(window.is_open(first + timedelta(minutes=n)) for n in range(-60, 300))
    assert minutes == 120
    autumn = at("2026-10-25T00:00")
    assert sum(window.is_open(autumn + timedelta(minutes=n)) for n in range(-120, 300)) == 240


def test_when_it_opens_next() -> None:
    window = MaintenanceWindow("22:00", "05:00", "Europe/Berlin", days=("mon",))
    assert window.opens(at("2026-03-03T12:00")) == at("2026-03-09T22:00", BERLIN)
    assert window.opens(at("2026-03-09T23:00", BERLIN)) == at("2026-03-09T23:00", BERLIN)


@pytest.mark.parametrize("nothing", [None, "", " ", "None"])
def test_no_window_means_at_any_time(nothing: Any) -> None:
    assert MaintenanceWindow.of(nothing) is None


@pytest.mark.parametrize(
    ("make", "names"),
    [
        (lambda: MaintenanceWindow("25:00", "05:00"), "start"),
        (lambda: MaintenanceWindow("22:00", "5"), "end"),
        (lambda: MaintenanceWindow("22:00", "05:60"), "end"),
        (lambda: MaintenanceWindow("24:30", "05:00"), "start"),
        (lambda: MaintenanceWindow("24:00", "00:00"), "start"),
        (lambda: MaintenanceWindow("22:00", "05:00", "Mars/Olympus"), "timezone"),
        (lambda: MaintenanceWindow("22:00", "05:00", days=()), "days"),
        (lambda: MaintenanceWindow("22:00", "05:00", days=("someday",)), "days"),
        (lambda: MaintenanceWindow.parse("at night"), "window"),
        (lambda: MaintenanceWindow.parse("someday 22:00-05:00"), "days"),
    ],
)
def test_windows_that_make_no_sense_are_refused(make: Any, names: str) -> None:
    with pytest.raises(ValueError, match=names):
        make()


def test_a_moment_needs_a_timezone() -> None:
    with pytest.raises(ValueError, match="timezone"):
        MaintenanceWindow("22:00", "05:00").is_open(datetime(2026, 3, 1))  # noqa: DTZ001


def test_the_next_opening_is_found_in_few_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """A triggerer looks for it, and nobody else runs in there meanwhile."""
    looks: list[datetime] = []
    is_open = MaintenanceWindow.is_open

    def look(self: MaintenanceWindow, moment: datetime) -> bool:
        looks.append(moment)
        return is_open(self, moment)

    monkeypatch.setattr(MaintenanceWindow, "is_open", look)
    window = MaintenanceWindow.parse("mon 22:00-05:00", "Asia/Shanghai")
    assert window.opens(at("2026-11-24T11:00:30")) == at("2026-11-30T14:00")
    assert len(looks) < 200


@pytest.mark.parametrize("day", ["2026-03-29", "2026-10-25", "2026-06-01"])
@pytest.mark.parametrize("times", ["02:30-02:45", "01:59-03:01", "24:00-01:00", "23:00-02:30"])
def test_the_next_opening_is_that_of_the_clock_on_the_wall(day: str, times: str) -> None:
    window = MaintenanceWindow.parse(times, "Europe/Berlin")
    for hour in range(0, 24, 5):
        moment = at(f"{day}T{hour:02}:07") - timedelta(days=1)
        expected = moment
        while not window.is_open(expected):
            expected += timedelta(minutes=1)
        assert window.opens(moment) == expected


@pytest.mark.parametrize(
    ("moment", "opens"),
    [
        ("2026-03-22T01:30", "2026-03-22T01:30"),
        ("2026-03-22T02:05", "2026-04-05T00:00"),
        ("2026-03-25T12:00", "2026-04-05T00:00"),
        ("2026-03-29T12:00", "2026-04-05T00:00"),
    ],
)
def test_a_weekly_window_in_an_hour_that_clocks_skip_opens_a_week_later(
    moment: str, opens: str
) -> None:
    window = MaintenanceWindow.parse("sun 02:00-03:00", "Europe/Berlin")
    assert window.opens(at(moment)) == at(opens)


@pytest.mark.parametrize(
    ("text", "share"),
    [
        ("00:00-00:00", 1.0),
        ("22:00-04:00", 0.25),
        ("sun 02:00-03:00", 1 / 168),
        ("mon, tue 12:00-24:00", 1 / 7),
    ],
)
def test_how_much_of_a_week_it_is_open(text: str, share: float) -> None:
    assert MaintenanceWindow.parse(text).share == pytest.approx(share)


@pytest.mark.parametrize(
    ("zone", "change"),
    [
        ("Europe/Berlin", "2026-10-25T01:00"),
        ("Europe/Berlin", "2026-03-29T01:00"),
        ("America/Havana", "2026-11-01T05:00"),  # from 01:00 back to midnight
        ("America/Havana", "2026-03-08T05:00"),
        ("America/Santiago", "2026-04-05T03:00"),  # from midnight back to 23:00 of the day before
        ("America/Santiago", "2026-09-06T04:00"),
        ("Australia/Lord_Howe", "2026-04-04T15:00"),  # half an hour
        ("Australia/Lord_Howe", "2026-10-03T15:30"),
        ("Antarctica/Troll", "2026-10-25T01:00"),  # two hours
        ("Antarctica/Troll", "2026-03-29T01:00"),
    ],
)
@pytest.mark.parametrize("hour", [0, 1, 2, 23])
def test_the_next_opening_is_right_around_every_change_of_clocks(
    zone: str, change: str, hour: int
) -> None:
    """In the hour that is repeated a window opens twice."""
    first = at(change) - timedelta(hours=4)
    local = first.astimezone(ZoneInfo(zone))
    assert local.utcoffset() != (first + timedelta(hours=8)).astimezone(ZoneInfo(zone)).utcoffset()
    for times in ("sat, sun {0:02}:10-{0:02}:20", "{0:02}:40-{1:02}:05"):
        window = MaintenanceWindow.parse(times.format(hour, (hour + 1) % 24), zone)
        minutes = [first + timedelta(minutes=n) for n in range(0, 7 * 60, 5)]
        is_open = [window.is_open(minute) for minute in minutes]
        for n in range(0, len(minutes), 3):
            if True in is_open[n:]:
                assert window.opens(minutes[n]) == minutes[is_open.index(True, n)]


def test_the_next_opening_is_told_in_the_callers_timezone() -> None:
    window = MaintenanceWindow("02:10", "02:20", "Europe/Berlin")
    moment = at("2026-10-25T00:50").astimezone(BERLIN)  # 02:50, for the first time
    opens = window.opens(moment)
    assert (opens.tzinfo, opens.astimezone(UTC)) == (BERLIN, at("2026-10-25T01:10"))
