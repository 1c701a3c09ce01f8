"""Endings that do not reach the database, or of which the worker gets no answer."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from background_task import signals
from background_task.models import Task
from django.db import (
    IntegrityError,
    InternalError,
    OperationalError,
    connection,
    transaction,
)

from bgtasks.exceptions import BrokenRow
from bgtasks.models import Attempt, CallOptions, Outcome
from bgtasks.queue import database as db
from bgtasks.queue import finish, rescue, workers
from bgtasks.queue.counters import Counts
from bgtasks.queue.ending import Ending
from bgtasks.queue.frontier import Frontier
from bgtasks.queue.pacing import Pace
from bgtasks.running import executor
from bgtasks.worker.recorder import Recorder
from bgtasks.worker.shared_state import Marks
from signup.tasks import discard_files as task
from tests.bgtasks.worker.mishaps import TOKEN, broken, claimed, needs_rows
from tests.harness.threads import in_threads


def failure(row: Task) -> Ending:
    return executor.failed(row, ValueError("as it should"))


@needs_rows
def test_p4_a_failure_that_was_not_written_is_written_the_next_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (row,) = claimed()
    ending = failure(row)
    with monkeypatch.context() as patched:
        patched.setattr(finish.receivers, "saved", broken(OperationalError("gone")))
        with pytest.raises(OperationalError):
            finish.record_alone(ending)
    assert row.locked_by == TOKEN
    assert finish.record_alone(ending)
    assert Attempt.objects.count() == 1


@needs_rows
def test_p3_a_failure_that_was_written_is_not_written_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A receiver's function raises after the commit, and nobody knows that there was one."""
    (row,) = claimed()
    ending = failure(row)

    def ask_for_the_commit(**_: Any) -> None:
        transaction.on_commit(broken(ConnectionError("no broker there")))

    signals.task_rescheduled.connect(ask_for_the_commit)
    try:
        Recorder(Marks(1), Pace(), Counts("bg~test")).record([ending])
    finally:
        signals.task_rescheduled.disconnect(ask_for_the_commit)
    assert Task.objects.get().attempts == 1
    assert not Outcome.objects.exists()


@needs_rows
def test_p3_the_ending_of_a_row_that_nobody_holds_changes_nothing() -> None:
    (row,) = claimed()
    Task.objects.update(locked_by=None)
    row.locked_by = None
    assert finish.record_successes([Ending(row)]) == [row]
    assert not finish.record_alone(Ending(row))
    assert Task.objects.count() == 1


@needs_rows
def test_p4_an_ending_that_no_database_will_have_is_not_run_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    marks = Marks(4)
    recorder = Recorder(marks, Pace(), Counts("bg~test"))
    stuck, other = claimed(2)
    write = finish.record_alone
    monkeypatch.setattr(
        finish, "record_alone",
        lambda each: refuse() if each.row.pk == stuck.pk else write(each),
    )  # fmt: skip
    monkeypatch.setattr(finish, "record_successes", broken(InternalError("says a trigger")))
    waiting = [Ending(row, mark=marks.begin(row.pk, None)) for row in (stuck, other)]
    recorder.record(waiting)
    assert Outcome.objects.get().task_id == other.pk
    assert recorder.stuck == marks.begun() == {stuck.pk}


def refuse() -> None:
    raise IntegrityError("refused")


@needs_rows
def test_p4_what_cannot_be_taken_back_is_not_handed_back_either(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    claimed()
    monkeypatch.setattr(rescue, "record_alone", broken(IntegrityError("refused")))
    rescue.rescue("bg~000000000000.", "it died")
    assert rescue.rescue("bg~000000000000.", "its child was dead", begun=()) == 0
    row = Task.objects.get()
    assert (row.locked_by, row.attempts) == (TOKEN, 1)


@needs_rows
def test_p2_a_row_that_somebody_locks_keeps_no_other_from_its_rescue() -> None:
    first, other = claimed(2)
    seen: list[int] = []

    def take_back(number: int) -> None:
        if number == 0:
            with transaction.atomic():
                Task.objects.filter(pk=first.pk).update(priority=1)
                locked.set()
                assert done.wait(30)
            return
        assert locked.wait(30)
        workers.limit_waits(0.1)
        try:
            with pytest.raises(OperationalError):
                rescue.rescue("bg~000000000000.", "it died")
            seen.extend(Task.objects.filter(locked_by=None).values_list("pk", flat=True))
        finally:
            done.set()

    locked, done = threading.Event(), threading.Event()
    in_threads(2, take_back)
    on_postgresql = db.on_postgresql()  # SQLite has one lock for all rows
    assert seen == ([other.pk] if on_postgresql else [])
    assert rescue.rescue("bg~000000000000.", "it died") == (1 if on_postgresql else 2)


@needs_rows
def test_a_heartbeat_waits_for_no_lock_for_long() -> None:
    connection.close()
    workers.limit_waits(0.5)
    setting = "SHOW lock_timeout" if db.on_postgresql() else "PRAGMA busy_timeout"
    ((limit,),) = db.fetch(setting)
    connection.close()
    assert str(limit) in {"500ms", "500"}


@needs_rows
def test_options_that_cannot_be_read_fail_their_row_alone() -> None:
    Task.objects.all().delete()
    rows = [task([str(number)]) for number in range(3)]
    CallOptions.objects.create(task_id=rows[0].pk, options="not JSON")
    CallOptions.objects.create(task_id=rows[1].pk, options="[]")
    taken = Frontier([task.name]).take(TOKEN, 3)
    for each in taken[:2]:
        with pytest.raises(BrokenRow, match="options"):
            executor.arguments(each)
    assert executor.arguments(taken[2]) == ([["2"]], {})
