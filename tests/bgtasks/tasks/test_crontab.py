"""The times of a crontab line, also when the clocks are changed."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from bgtasks.exceptions import InvalidCron
from bgtasks.tasks import crontab
from tests.bgtasks.supervisor.cron_helpers import DAY, MINUTE

pytestmark = pytest.mark.any_database

BERLIN, LORD_HOWE = ZoneInfo("Europe/Berlin"), ZoneInfo("Australia/Lord_Howe")


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def times(line: str, begin: str, end: str, zone: ZoneInfo) -> list[str]:
    """The times of a line between two moments of UTC, by the clock on the wall."""
    parsed, moment, found = crontab.parse(line, "a.task"), utc(begin), []
    while (moment := parsed.after(moment, zone)) < utc(end):
        found.append(f"{moment.astimezone(zone):%H:%M%z}")
    return found


@pytest.mark.parametrize(
    ("line", "after", "expected"),
    [
        ("0 9 * * mon-fri", "2024-05-03 09:00", "2024-05-06 09:00"),
        ("0 9 * * MON-FRI", "2024-05-03 08:59:59.999", "2024-05-03 09:00"),
        ("0 9 * * 1-5", "2024-05-03 09:00:00.001", "2024-05-06 09:00"),
        ("0 9 * * mon-sun", "2024-05-04 10:00", "2024-05-05 09:00"),
        ("0 9 * * sun", "2024-05-03 09:00", "2024-05-05 09:00"),
        ("0 9 * * 7", "2024-05-03 09:00", "2024-05-05 09:00"),
        ("*/15 8-10/2 * * *", "2024-05-03 08:45", "2024-05-03 10:00"),
        ("5,50 * * feb,apr *", "2024-04-30 23:50", "2025-02-01 00:05"),
        ("0 0 13 * fri", "2024-05-10 00:00", "2024-05-13 00:00"),  # either day
        ("0 0 29 2 *", "2024-03-01 00:00", "2028-02-29 00:00"),
        ("@hourly", "2024-05-03 09:00", "2024-05-03 10:00"),
        (" @daily ", "2024-05-03 09:00", "2024-05-04 00:00"),
        ("@midnight", "2024-05-03 09:00", "2024-05-04 00:00"),
        ("@weekly", "2024-05-03 09:00", "2024-05-05 00:00"),
        ("@Monthly", "2024-05-03 09:00", "2024-06-01 00:00"),
        ("@yearly", "2024-05-03 09:00", "2025-01-01 00:00"),
        ("@annually", "2024-05-03 09:00", "2025-01-01 00:00"),
    ],
)
def test_a_line_is_read_as_crontab_reads_it(line: str, after: str, expected: str) -> None:
    parsed = crontab.parse(line, "a.task")
    assert parsed.after(utc(after), ZoneInfo("UTC")) == utc(expected)
    assert parsed.latest(utc(expected) + MINUTE / 2, ZoneInfo("UTC")) == utc(expected)
    assert parsed.latest(utc(expected), ZoneInfo("UTC")) == utc(expected)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("0 9 * *", "4 fields"),
        ("0 0 9 * * mon", "6 fields"),
        ("", "0 fields"),
        ("@reboot", "no @reboot"),
        ("60 * * * *", "bad minute"),
        ("* 24 * * *", "bad hour"),
        ("* * 0 * *", "bad day-of-month"),
        ("* * * juni *", "bad month"),
        ("* * * * monday", "bad day-of-week"),
        ("*/0 * * * *", "bad minute"),
        ("9" * 5000 + " * * * *", ""),
        ("0 0 30 2 *", "bad day-of-month"),
        ("0 0 31 4,6 *", "bad day-of-month"),
        ("0 0 LW * */6", "never comes"),  # the last weekday of a month that is a Sunday
        (None, "no text"),
    ],
)
def test_what_is_no_line_is_named_with_its_task(line: Any, reason: str) -> None:
    with pytest.raises(InvalidCron) as caught:
        crontab.parse(line, "shop.tasks.report")
    text = str(caught.value)
    assert isinstance(caught.value, ValueError)
    assert "shop.tasks.report" in text
    assert repr(line) in text
    assert reason in text
    assert "0 9 * * mon-fri" in text


def test_a_task_that_needs_arguments_can_have_no_line() -> None:
    def may(day: object = None, *more: object, **options: object) -> None: ...

    async def must(day: object) -> None: ...

    crontab.check("@daily", "shop.tasks.report", may)
    with pytest.raises(InvalidCron, match=r"shop\.tasks\.report.*'day'"):
        crontab.check("@daily", "shop.tasks.report", must)
    with pytest.raises(InvalidCron, match="1 fields"):
        crontab.check("daily", "shop.tasks.report", may)


def test_the_time_zone_is_the_projects(settings: Any) -> None:
    for zone, expected in (("Asia/Kathmandu", "03:15"), ("America/New_York", "13:00")):
        settings.TIME_ZONE = zone
        found = crontab.parse("0 9 * * *", "a.task").latest(utc("2024-07-02 00:00"))
        assert found == utc(f"2024-07-01 {expected}")


def test_a_time_that_a_change_skips_is_as_soon_as_the_clock_is_set_forward() -> None:
    spring = ("2024-03-31 00:00", "2024-04-01 01:00", BERLIN)
    assert times("30 2 * * *", *spring) == ["03:00+0200", "02:30+0200"]
    assert times("0,30 2,3 * * *", *spring)[:3] == ["03:00+0200", "03:30+0200", "02:00+0200"]
    half = ("2024-10-05 14:00", "2024-10-06 16:00", LORD_HOWE)
    assert times("15 2 * * *", *half) == ["02:30+1100", "02:15+1100"]


def test_a_time_that_a_change_repeats_is_the_first_one() -> None:
    autumn = ("2024-10-26 23:00", "2024-10-28 01:45", BERLIN)
    assert times("30 2 * * *", *autumn) == ["02:30+0200", "02:30+0100"]
    half = ("2024-04-06 14:00", "2024-04-07 16:00", LORD_HOWE)
    assert times("45 1 * * *", *half) == ["01:45+1100", "01:45+1030"]


def test_a_line_with_a_star_follows_the_clock() -> None:
    spring = ("2024-03-31 00:10", "2024-03-31 01:40", BERLIN)
    assert times("*/30 * * * *", *spring) == ["01:30+0100", "03:00+0200", "03:30+0200"]
    assert times("*/30 2 * * *", *spring) == []
    autumn = ("2024-10-27 00:10", "2024-10-27 02:10", BERLIN)
    assert times("*/30 * * * *", *autumn) == [
        "02:30+0200", "02:00+0100", "02:30+0100", "03:00+0100",
    ]  # fmt: skip
    half = ("2024-04-06 14:10", "2024-04-06 15:40", LORD_HOWE)
    assert times("@hourly", *half) == ["02:00+1030"]
    assert times("30 * * * *", *half) == ["01:30+1100", "01:30+1030"]
    # On these nights cronsim alone leaves out the times before the half hour.
    half = ("2024-04-06 14:10", "2024-04-06 16:00", LORD_HOWE)
    assert times("*/15 2 * * *", *half) == ["02:00+1030", "02:15+1030"]
    half = ("2024-10-05 14:10", "2024-10-05 16:20", LORD_HOWE)
    assert times("*/15 3 * * *", *half) == ["03:00+1100", "03:15+1100"]


CHANGES = [
    ("Europe/Berlin", date(2024, 3, 31)),
    ("Europe/Berlin", date(2024, 10, 27)),
    ("Australia/Lord_Howe", date(2024, 10, 6)),
    ("Australia/Lord_Howe", date(2024, 4, 7)),
    ("America/Havana", date(2024, 3, 10)),  # midnight does not exist
    ("America/Havana", date(2024, 11, 3)),  # midnight exists twice
    ("Antarctica/Troll", date(2024, 3, 31)),  # two hours
    ("Antarctica/Troll", date(2024, 10, 27)),
    ("Asia/Kathmandu", date(2024, 3, 31)),  # none
    ("Pacific/Apia", date(2011, 12, 30)),  # a whole day
    ("UTC", date(2024, 3, 31)),
]


EVERY_HOUR = range(24)


LINES: list[tuple[str, Any, Any]] = [
    ("*/5 * * * *", range(0, 60, 5), EVERY_HOUR),
    ("*/20 * * * *", (0, 20, 40), EVERY_HOUR),
    ("17 * * * *", (17,), EVERY_HOUR),
    ("*/7 1,2,23 * * *", range(0, 60, 7), (1, 2, 23)),
    ("0 0 * * *", (0,), (0,)),
    ("30 2 * * *", (30,), (2,)),
    ("45 1 * * *", (45,), (1,)),
    ("0,15,59 0-3 * * *", (0, 15, 59), range(4)),
]


def by_the_minute(line: str, minutes: Any, hours: Any, zone: ZoneInfo, begin: datetime) -> list:
    """What a man would do who looks at the clock each minute for four days."""
    found, seen = [], set[datetime]()
    before = (begin - MINUTE).astimezone(zone).replace(tzinfo=None)
    for moment in (begin + MINUTE * n for n in range(4 * 24 * 60)):
        wall = moment.astimezone(zone).replace(tzinfo=None)
        if line.startswith("*") or line.split()[1] == "*":
            meant = [wall]
        else:
            passed = (wall - before) // MINUTE
            meant = [wall - MINUTE * n for n in range(max(1, passed))]
            meant = [each for each in meant if each not in seen]
        seen.update(meant)
        if any(each.minute in minutes and each.hour in hours for each in meant):
            found.append(moment)
        before = wall
    return found


@pytest.mark.parametrize(("zone_name", "day"), CHANGES)
@pytest.mark.parametrize("line", LINES, ids=lambda line: line[0])
def test_slots_are_what_a_look_each_minute_finds(
    line: tuple[str, Any, Any], zone_name: str, day: date
) -> None:
    zone, parsed = ZoneInfo(zone_name), crontab.parse(line[0], "a.task")
    # From the middle of a day, so that nothing is repeated or skipped just then.
    begin = datetime(day.year, day.month, day.day, 12, tzinfo=zone).astimezone(UTC) - 2 * DAY
    expected = by_the_minute(*line, zone, begin)
    moment, found = begin - timedelta(seconds=1), []
    while (moment := parsed.after(moment, zone)) < begin + 4 * DAY:
        found.append(moment)
    assert found == expected
    assert len(found) == len(set(found))
    # And the way back is the same way.
    for slot, following in pairwise(found):
        assert parsed.latest(slot, zone) == slot
        assert parsed.latest(following - timedelta(microseconds=1), zone) == slot


@pytest.mark.parametrize("line", LINES, ids=lambda line: line[0])
def test_slots_neither_repeat_nor_go_back_from_any_moment(line: tuple[str, Any, Any]) -> None:
    parsed = crontab.parse(line[0], "a.task")
    for zone in (BERLIN, LORD_HOWE):
        for begin in (utc("2024-04-06 12:00"), utc("2024-10-05 12:00"), utc("2024-10-26 22:00")):
            for moment in (begin + timedelta(seconds=97 * n) for n in range(200)):
                latest, following = parsed.latest(moment, zone), parsed.after(moment, zone)
                assert latest <= moment < following
                assert parsed.after(latest, zone) == following
