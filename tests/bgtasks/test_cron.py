"""Crontab lines: their times, one row for each, and what was missed."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from background_task.models import Task
from background_task.signals import task_created
from django.db import OperationalError
from django.db.models.signals import post_save

from bgtasks import background
from bgtasks.exceptions import InvalidCron
from bgtasks.models import CronSlot
from bgtasks.queue import cron_slots as slots
from bgtasks.supervisor import cron as cron_chore
from bgtasks.supervisor.cron import Cron
from bgtasks.supervisor.lease import Lease
from bgtasks.tasks import crontab, policies
from bgtasks.tasks.policies import Policy
from bgtasks.worker.options import Options
from tests.harness.deployment import Deployment
from tests.harness.process import kill_tree
from tests.harness.threads import in_threads
from tests.harness.waiting import eventually

MINUTE, DAY = timedelta(minutes=1), timedelta(days=1)
BERLIN, LORD_HOWE = ZoneInfo("Europe/Berlin"), ZoneInfo("Australia/Lord_Howe")
APP = "tests.bgtasks.project.ticking"
# A Monday that every host's and database's clock has behind it.
NOON = datetime(2024, 5, 6, 12, tzinfo=UTC)
with_database = pytest.mark.django_db(transaction=True)


@background(queue="reports", schedule={"priority": 7})
def report() -> None: ...


@background
def tidy() -> None: ...


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def times(line: str, begin: str, end: str, zone: ZoneInfo) -> list[str]:
    """The times of a line between two moments of UTC, by the clock on the wall."""
    parsed, moment, found = crontab.parse(line, "a.task"), utc(begin), []
    while (moment := parsed.after(moment, zone)) < utc(end):
        found.append(f"{moment.astimezone(zone):%H:%M%z}")
    return found


# --- a line


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


# --- when the clocks are changed


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


# --- one row for each slot


class Clock:
    """The host's clock; each thread may have one of its own."""

    def __init__(self) -> None:
        self._local = threading.local()
        self.time = NOON

    def __call__(self) -> datetime:
        return getattr(self._local, "time", self.time)

    def set_here(self, time: datetime) -> None:
        self._local.time = time


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    monkeypatch.setattr(cron_chore, "_now", clock := Clock())
    return clock


@pytest.fixture
def lines(db: None, monkeypatch: pytest.MonkeyPatch) -> dict[str, Policy]:
    """Every hour, `report`; the other tasks of this process have no line."""
    Task.objects.all().delete()
    kept = {report.name: Policy(cron="@hourly")}
    monkeypatch.setattr(policies, "_policies", kept)
    return kept


def rows(task: Any = report) -> list[datetime]:
    found = Task.objects.filter(task_name=task.name).order_by("run_at", "pk")
    return list(found.values_list("run_at", flat=True))


def worker() -> Cron:
    return Cron()


def last(task: Any = report) -> datetime:
    return slots.last_slots([task.name])[task.name]


@contextmanager
def listening(signal: Any, receiver: Callable[..., None], sender: Any = None) -> Iterator[None]:
    signal.connect(receiver, sender=sender)
    try:
        yield
    finally:
        assert signal.disconnect(receiver, sender=sender)


@with_database
def test_a_task_that_is_new_has_missed_nothing(lines: Any, clock: Clock) -> None:
    worker().run()
    assert rows() == []
    assert last() == NOON
    clock.time += timedelta(hours=1)
    worker().run()
    assert rows() == [NOON + timedelta(hours=1)]


@with_database
def test_seen_once_it_is_not_new_again(lines: Any) -> None:
    assert slots.first_seen("a.task", NOON)
    assert not slots.first_seen("a.task", NOON + DAY)
    assert slots.last_slots(["a.task", "another"]) == {"a.task": NOON}


@with_database
def test_a_row_is_as_a_call_makes_it(lines: Any, clock: Clock) -> None:
    heard = []

    def note(sender: Any, task: Task, **kwargs: Any) -> None:
        heard.append((sender, task.pk))

    slots.first_seen(report.name, NOON - MINUTE)
    with listening(task_created, note):
        worker().run()
    (row,) = Task.objects.filter(task_name=report.name)
    assert (row.queue, row.priority, row.params()) == ("reports", 7, ([], {}))
    assert row.run_at == NOON
    assert heard == [(report.runner.__class__, row.pk)]


@with_database
def test_it_is_due_at_the_slot_and_tells_of_new_rows(lines: Any, clock: Clock) -> None:
    cron = worker()
    assert cron.due_in() <= 0
    clock.time = NOON + timedelta(minutes=59, seconds=30)
    assert not cron.run()
    assert cron.due_in() == pytest.approx(30)
    clock.time = NOON + timedelta(hours=1)
    assert cron.due_in() <= 0
    assert cron.run(), "it says that there is a new row"
    assert rows() == [NOON + timedelta(hours=1)]
    assert cron.due_in() > 0


@with_database
def test_the_lease_wakes_for_a_slot_and_enqueues_it(lines: Any, clock: Clock) -> None:
    lease = Lease(Options())
    clock.time = NOON + timedelta(minutes=59, seconds=59)
    lease.acquire()
    assert 0 < lease.keep() <= 1
    clock.time = NOON + timedelta(hours=1)
    assert not lease.take_rows_to_run()
    lease.keep()
    assert rows() == [NOON + timedelta(hours=1)]
    assert lease.take_rows_to_run()
    assert not lease.take_rows_to_run(), "it is said once"
    lease.release()


@with_database
def test_without_a_line_nothing_is_asked(lines: Any, django_assert_num_queries: Any) -> None:
    lines.clear()
    with django_assert_num_queries(0):
        worker().run()


@with_database
def test_of_missed_slots_the_latest_is_made_up_for(
    lines: Any, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    slots.first_seen(report.name, NOON - 3 * DAY)
    clock.time = NOON + timedelta(minutes=20)
    for _ in range(3):
        worker().run()
    assert rows() == [NOON]
    assert "made up for" in caplog.text


@with_database
def test_a_row_that_still_waits_does_not_keep_the_next_slot_back(lines: Any, clock: Clock) -> None:
    slots.first_seen(report.name, NOON - MINUTE)
    cron = worker()
    cron.run()
    clock.time += timedelta(hours=1)
    cron.run()
    assert rows() == [NOON, NOON + timedelta(hours=1)]


@with_database
def test_a_unique_task_skips_the_slot_while_its_row_waits(lines: Any, clock: Clock) -> None:
    lines[report.name] = Policy(cron="@hourly", unique=True)
    slots.first_seen(report.name, NOON - MINUTE)
    cron = worker()
    cron.run()
    clock.time += timedelta(hours=1)
    cron.run()
    assert rows() == [NOON]
    assert last() == NOON + timedelta(hours=1)


@with_database
def test_a_clock_that_is_set_back_enqueues_nothing_twice(lines: Any, clock: Clock) -> None:
    slots.first_seen(report.name, NOON - MINUTE)
    cron = worker()
    for minutes in (0, -90, -30, 0, 30, 60):
        clock.time = NOON + timedelta(minutes=minutes)
        for one in (cron, worker()):
            one.run()
    assert rows() == [NOON, NOON + timedelta(hours=1)]


@with_database
def test_a_clock_that_is_far_ahead_uses_up_no_slots(lines: Any, clock: Clock) -> None:
    slots.first_seen(report.name, NOON)
    clock.time = datetime.now(UTC) + 300 * DAY
    cron = worker()
    cron.run()
    assert rows() == []
    assert last() == NOON
    clock.time = NOON + timedelta(hours=1)
    cron.run()
    assert rows() == [NOON + timedelta(hours=1)]


@with_database
def test_a_slot_from_the_future_is_set_back_to_now(
    lines: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    before = datetime.now(UTC).replace(microsecond=0)
    slots.first_seen(report.name, before + 300 * DAY)
    worker().run()
    assert before - MINUTE <= last() <= datetime.now(UTC) + MINUTE
    assert rows() == []
    assert "a clock was wrong" in caplog.text


@with_database
def test_any_number_of_workers_enqueue_one_row_for_each_slot(lines: Any, clock: Clock) -> None:
    slots.first_seen(report.name, NOON - MINUTE)

    def run(number: int) -> None:
        for hours in range(12):
            clock.set_here(NOON + timedelta(hours=hours))
            worker().run()

    in_threads(4, run)
    assert rows() == [NOON + timedelta(hours=hours) for hours in range(12)]


@with_database
def test_clocks_that_differ_enqueue_no_slot_twice(lines: Any, clock: Clock) -> None:
    slots.first_seen(report.name, NOON - MINUTE)

    def run(number: int) -> None:
        for half_hours in range(24):
            clock.set_here(NOON + timedelta(minutes=30 * half_hours + 47 * number))
            worker().run()

    in_threads(4, run)
    found = rows()
    assert len(found) == len(set(found))
    assert found[-1] == last() == NOON + timedelta(hours=13)


@with_database
def test_two_versions_of_a_line_enqueue_each_time_once(
    lines: Any, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    slots.first_seen(report.name, NOON - MINUTE)
    for minutes in range(0, 61, 10):
        clock.time = NOON + timedelta(minutes=minutes)
        for line in ("@hourly", "0,30 * * * *", "@hourly"):
            lines[report.name] = Policy(cron=line)
            worker().run()
    assert rows() == [NOON + timedelta(minutes=minutes) for minutes in (0, 30, 60)]


@with_database
def test_one_of_those_who_want_a_slot_gets_it(lines: Any) -> None:
    slots.first_seen(report.name, NOON)
    slot = NOON + timedelta(hours=1)

    def take(number: int) -> bool:
        return slots.enqueue_slot(report.name, slot, lambda: report(verbose_name=str(number)))

    won = in_threads(6, take)
    assert sorted(won) == [False] * 5 + [True]
    (row,) = Task.objects.filter(task_name=report.name)
    assert row.verbose_name == str(won.index(True))


# --- when something fails


@with_database
def test_a_task_that_cannot_be_enqueued_keeps_no_other_back(
    lines: Any, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    lines[tidy.name] = Policy(cron="@hourly")
    for task in (report, tidy):
        slots.first_seen(task.name, NOON - MINUTE)

    def refuse(instance: Task, **kwargs: Any) -> None:
        if instance.task_name == report.name:
            CronSlot.objects.create(name="x" * 9, slot=None)  # a database error

    cron = worker()
    with listening(post_save, refuse, sender=Task):
        steps = list(cron.run_in_steps())
    assert (rows(report), rows(tidy)) == ([], [NOON])
    assert sorted(steps) == [False, True], "after each task a heartbeat may be sent"
    assert last(report) == NOON - MINUTE, "undone together with the row"
    assert report.name in caplog.text
    assert cron.due_in() <= cron_chore.RETRY
    cron.run()
    assert (rows(report), rows(tidy)) == ([NOON], [NOON])


@with_database
def test_a_line_that_nobody_checked_keeps_no_other_back(
    lines: Any, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    lines.update({tidy.name: Policy(cron="whenever"), report.name: lines.pop(report.name)})
    slots.first_seen(report.name, NOON - MINUTE)
    worker().run()
    assert rows() == [NOON]
    assert "'whenever'" in caplog.text


@with_database
@pytest.mark.parametrize("where", ["last_slots", "enqueue_slot"])
def test_what_an_outage_kept_back_is_made_up_for(
    lines: Any, clock: Clock, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    slots.first_seen(report.name, NOON - MINUTE)
    cron = worker()

    def away(*arguments: Any) -> Any:
        raise OperationalError("server closed the connection")

    with monkeypatch.context() as outage:
        outage.setattr(slots, where, away)
        outage.setattr(cron_chore.db, "fetch", away)
        with pytest.raises(OperationalError):
            cron.run()
    assert cron.due_in() <= 0
    clock.time = NOON + timedelta(hours=2, minutes=1)
    cron.run()
    assert rows() == [NOON + timedelta(hours=2)]


# --- real workers


def start(project: Deployment, *arguments: str) -> Any:
    return project.worker(*arguments, MORE_APPS=APP)


def drain(project: Deployment, *arguments: str) -> str:
    return project.drain(*arguments, MORE_APPS=APP)


def miss(project: Deployment, task: str = "new_year") -> None:
    """Make it so that slots of a task have passed while no worker ran."""
    name = f"{APP}.tasks.{task}"
    project.database.query(
        f"UPDATE bgtasks_cronslot SET slot = '2019-06-01 00:00:00' WHERE name = '{name}'"
    )


def new_years(project: Deployment) -> int:
    return len(project.ledger("new", "year"))


def test_a_drain_enqueues_and_runs_what_was_missed_once(project: Deployment) -> None:
    drain(project)
    assert new_years(project) == 0
    for expected in (1, 2):
        miss(project)
        output = drain(project)
        assert f"Task {APP}.tasks.new_year was due at" in output
        drain(project)
        assert new_years(project) == expected
    assert len(project.completed("task_name LIKE '%new_year'")) == 2


def test_a_worker_of_one_queue_enqueues_for_the_others_too(project: Deployment) -> None:
    drain(project)
    miss(project)
    drain(project, "--queue", "elsewhere")
    (row,) = project.rows(where="task_name LIKE '%new_year'")
    assert (row["queue"], row["attempts"]) == (None, 0)
    drain(project, "--queue", "elsewhere")
    assert len(project.rows(where="task_name LIKE '%new_year'")) == 1


def test_a_reloading_worker_makes_up_for_it_too(project: Deployment) -> None:
    drain(project)
    miss(project, "tick")
    process = start(project, "--dev")
    project.wait_for("tick")
    process.stop()


def test_a_drain_without_children_runs_what_was_missed(project: Deployment) -> None:
    drain(project)
    miss(project)
    code = """
from threading import Thread
from bgtasks.launch import launch
from bgtasks.worker.options import Options
thread = Thread(target=launch, args=[Options(drain=True)])
thread.start()
thread.join()
"""
    project.run(code, MORE_APPS=APP)
    assert new_years(project) == 1


def test_a_runner_of_the_projects_own_makes_up_for_it_too(project: Deployment) -> None:
    more = {"MORE_APPS": f"{APP},tests.bgtasks.project.running"}
    project.drain(**more)
    miss(project)
    project.drain(**more)
    assert new_years(project) == 1


def test_workers_that_start_together_enqueue_one_row(project: Deployment) -> None:
    drain(project)
    miss(project)
    for process in [start(project, "--drain") for _ in range(3)]:
        assert process.wait() == 0, process.output
    assert new_years(project) == 1
    assert len(project.completed("task_name LIKE '%new_year'")) == 1


def test_killed_over_and_over_no_slot_is_lost_or_run_twice(project: Deployment) -> None:
    for expected in range(3):
        process = start(project)
        # Each task's slot is written by itself: the other one is there first.
        eventually(lambda: project.rows("bgtasks_cronslot", "name LIKE '%new_year'"), "seen")
        if expected:
            project.wait_for("new", "year", count=expected)
            eventually(lambda: not project.rows(where="locked_by IS NOT NULL"), "recorded")
        kill_tree(process.pid)
        process.wait()
        assert new_years(project) == expected
        miss(project)
    drain(project)
    assert new_years(project) == 3
    assert project.attempts() == []


def test_killed_between_slot_and_row_it_leaves_neither(project: Deployment) -> None:
    drain(project)
    miss(project)
    die = Path(f"{project.ledger_path}.die")
    die.touch()
    assert start(project).wait() == -9
    assert project.rows(where="task_name LIKE '%new_year'") == []
    (slot,) = project.rows("bgtasks_cronslot", "name LIKE '%new_year'")
    assert str(slot["slot"]).startswith("2019-06-01")
    die.unlink()
    drain(project)
    assert new_years(project) == 1


def test_without_use_tz_the_repeated_hour_has_its_slots(deploy: Any) -> None:
    project = deploy(USE_TZ=False, TIME_ZONE="Europe/Berlin")
    output = project.run(
        """
from datetime import UTC, datetime, timedelta
from background_task.models import Task
from bgtasks.supervisor import cron as chore
from bgtasks.tasks import policies
from bgtasks.tasks.policies import Policy
policies.declare(tasks.work.name, Policy(cron="*/30 * * * *"))
time = datetime(2023, 10, 28, 23, 59, tzinfo=UTC)
chore._now = lambda: time
cron = chore.Cron()
for _ in range(9):
    cron.run()
    time += timedelta(minutes=30)
for row in Task.objects.order_by("pk"):
    print(row.run_at.strftime("%H:%M"), end=" ")
"""
    )
    hours = ["02", "02", "03", "04"]
    assert output.split() == [f"{hour}:{minute}" for hour in hours for minute in ("00", "30")]
