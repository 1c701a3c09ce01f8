"""One row for each slot of a crontab line, and what is made up for."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from background_task.models import Task
from background_task.signals import task_created
from django.db import OperationalError
from django.db.models.signals import post_save

from bgtasks import background
from bgtasks.models import CronSlot
from bgtasks.queue import cron_slots as slots
from bgtasks.supervisor import cron as cron_chore
from bgtasks.supervisor.cron import Cron
from bgtasks.supervisor.lease import Lease
from bgtasks.tasks import policies
from bgtasks.tasks.policies import Policy
from bgtasks.worker.options import Options
from tests.bgtasks.supervisor.cron_helpers import DAY, MINUTE
from tests.harness.threads import in_threads

# A Monday that every host's and database's clock has behind it.
NOON = datetime(2024, 5, 6, 12, tzinfo=UTC)


with_database = pytest.mark.django_db(transaction=True)


@background(queue="reports", schedule={"priority": 7})
def report() -> None: ...


@background
def tidy() -> None: ...


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
def test_a_paused_line_enqueues_nothing_and_makes_up_for_nothing(lines: Any) -> None:
    two_hours_ago = datetime.now(UTC) - timedelta(hours=2)
    slots.first_seen(report.name, two_hours_ago)
    assert slots.pause(report.name)
    assert not slots.pause(report.name)
    worker().run()
    assert rows() == []
    assert slots.resume(report.name)
    assert not slots.resume(report.name)
    worker().run()
    assert rows() == []
    CronSlot.objects.update(slot=two_hours_ago)
    worker().run()
    assert len(rows()) == 1


@with_database
def test_a_line_that_no_worker_has_seen_can_be_paused(lines: Any) -> None:
    assert slots.pause(report.name)
    assert list(slots.paused()) == [report.name]
    CronSlot.objects.update(slot=NOON)
    worker().run()
    assert rows() == []


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
    assert cron.due_in() <= cron_chore.RETRY_AFTER
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
