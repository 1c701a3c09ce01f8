"""What goes wrong between two steps: a word lost, a row that cannot be written, an early signal."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from typing import Any

import pytest
from background_task import signals
from background_task import tasks as stock
from background_task.models import CompletedTask, Task
from django.db import (
    IntegrityError,
    InternalError,
    OperationalError,
    connection,
    transaction,
)
from django.utils import timezone

from bgtasks.clock import elapsed
from bgtasks.exceptions import BrokenRow
from bgtasks.models import Attempt, CallOptions, Outcome
from bgtasks.queue import claims, finish, rescue, workers
from bgtasks.queue import database as db
from bgtasks.queue.claimed_row import ClaimedRow
from bgtasks.queue.claims import Claimant
from bgtasks.queue.ending import Ending
from bgtasks.queue.frontier import Frontier
from bgtasks.running import executor
from bgtasks.supervisor import one_by_one, supervisor
from bgtasks.supervisor.child import Child
from bgtasks.supervisor.in_process import InProcess
from bgtasks.supervisor.one_by_one import OneByOne
from bgtasks.supervisor.supervisor import Supervisor
from bgtasks.worker import keeper, suspects
from bgtasks.worker.lane import slots_for
from bgtasks.worker.options import Options
from bgtasks.worker.pacing import Pace
from bgtasks.worker.recorder import Recorder
from bgtasks.worker.shared_state import Marks
from bgtasks.worker.wakeup import WakeUp
from bgtasks.worker.worker import Worker
from bgtasks.worker.workload import Workload
from signup.tasks import discard_files as task
from tests.harness.deployment import Deployment
from tests.harness.threads import in_threads
from tests.harness.waiting import eventually

Deploy = Callable[..., Deployment]
needs_rows = pytest.mark.django_db(transaction=True)
TOKEN = "bg~000000000000.1-1"


def claimed(count: int = 1) -> list[Task]:
    Task.objects.all().delete()
    for number in range(count):
        task([str(number)])
    return claims.claim(TOKEN, [task.name], count)


def failure(row: Task) -> Ending:
    return executor.failed(row, ValueError("as it should"))


# --- endings that do not reach the database, or do so unheard


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
        Recorder(Marks(1), Pace()).record([ending])
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
    recorder = Recorder(marks, Pace())
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


def broken(error: Exception) -> Callable[..., Any]:
    def call(*args: Any, **kwargs: Any) -> None:
        raise error

    return call


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


# --- time


def test_p5_what_has_run_in_time_and_waits_to_be_recorded_is_not_overdue(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    marks = Marks(4)
    slots = [marks.begin(number, 30) for number in (7, 8)]
    marks.revoke([7, 8])
    marks.ran(slots[0])
    later = elapsed() + 60
    monkeypatch.setattr("bgtasks.worker.shared_state.elapsed", lambda: later)
    assert marks.overdue().keys() == {8}
    assert marks.begun() == {7, 8}


def test_p5_a_database_may_be_away_for_any_time(caplog: pytest.LogCaptureFixture) -> None:
    worker = Worker(Claimant("bg~x", 1), Marks(1), Options())
    for _ in range(1100):
        worker._keeper._database_is_away(OperationalError("gone"))
    assert worker._keeper._due_in() == keeper.LONGEST_RETRY
    worker.close()


def test_p2_children_may_crash_any_number_of_times() -> None:
    supervised = Supervisor(Options())
    child = Child(Claimant("bg~x", 1), 0, 0, Marks(1))
    for _ in range(1100):
        supervised._slow_down_spawning(child)
    assert supervised._spawn_at <= elapsed() + supervisor.LONGEST_WAIT


def test_a_signal_while_the_queue_is_looked_at_is_heeded(monkeypatch: pytest.MonkeyPatch) -> None:
    draining = Supervisor(Options(drain=True))

    def ready(*_: object) -> bool:
        draining._handle(signal.SIGTERM, None)
        return True

    monkeypatch.setattr(claims, "ready", ready)
    assert draining._done()


def test_the_story_of_a_child_tells_time_outs_from_revocations() -> None:
    child = Child(Claimant("bg~x", 1), 7, 0, Marks(1))
    child.timed_out = {1: 0.0}
    assert "one of its tasks was revoked" in child.story(signal.SIGKILL)
    child.timed_out = {1: 0.0, 2: 3.0}
    assert "one of its tasks ran too long" in child.story(signal.SIGKILL)


# --- rows that are to run alone


def lost(row: Task) -> ClaimedRow:
    row.attempts, row.last_error = 2, f"{claims.LOST}it died"
    return ClaimedRow(row, elapsed())


@needs_rows
def test_p2_a_suspect_does_not_wait_for_a_quiet_moment_for_ever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    busy, row = claimed(2)
    wakeup = WakeUp()
    work = Workload(Options(threads=2), wakeup, Marks(1))
    work.add([running := ClaimedRow(busy, elapsed())])
    assert work.take() is running
    now = elapsed()
    for seconds in (0, 10, 20):
        monkeypatch.setattr(suspects, "elapsed", lambda seconds=seconds: now + seconds)
        work.add([lost(row)])
        assert not work.wait(0)
        work.suspects.clear()  # it is handed back, for something runs long
    monkeypatch.setattr(suspects, "elapsed", lambda: now + suspects.TRIED_ALONE + 1)
    work.add([lost_row := lost(row)])
    assert work.take() is lost_row
    wakeup.close()


@needs_rows
def test_p2_a_drain_waits_for_suspects_that_were_handed_back_for_a_moment() -> None:
    (row,) = claimed()
    claims.release([row], claims.SUSPECTS_WAIT)
    assert not claims.ready([task.name])
    Task.objects.update(last_error=f"{claims.LOST}it died")
    assert claims.ready([task.name])
    Task.objects.update(run_at=timezone.now() + 3 * claims.SUSPECTS_WAIT)
    assert not claims.ready([task.name])


@needs_rows
def test_p4_rows_whose_release_was_not_answered_are_confirmed_before_they_start(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (row,) = claimed()
    worker = Worker(Claimant("bg~000000000000", 1), Marks(slots_for(Options())), Options())
    monkeypatch.setattr(claims, "release", broken(OperationalError("no answer")))
    with pytest.raises(OperationalError):
        worker._keeper._handing_back.release([ClaimedRow(row, elapsed())])
    Task.objects.update(locked_by=None)  # for it was carried out
    taken = worker._work.take()
    assert taken is not None
    assert taken.row == row
    assert not worker._runner._is_ours(taken)
    worker.close()


# --- threads, loops and signals of a real worker


@pytest.mark.parametrize("name", ["unshowable", "unshowable_coroutine"])
def test_p2_an_exception_that_cannot_be_shown_is_a_failed_attempt(
    project: Deployment, name: str
) -> None:
    project.run(f"tasks.{name}(); tasks.{name}(); tasks.{name}(); tasks.work('after')")
    project.drain("--threads", "2")
    assert project.ledger("work", "after")
    rows = project.rows()
    assert len(rows) == 3
    assert all("cannot be shown: SyntaxError" in row["last_error"] for row in rows)
    assert all(row["locked_by"] is None for row in rows)


def test_a_thread_that_fails_ends_its_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    crashed: list[int] = []
    monkeypatch.setattr(os, "_exit", crashed.append)
    worker = Worker(Claimant("bg~x", 1), Marks(slots_for(Options())), Options(), crash_status=70)
    worker._serve(broken(RuntimeError("of ours")))
    assert crashed == [70]
    assert worker._work.closed
    worker.close()


def test_p2_coroutines_that_others_cancel_before_they_begin_run_later(project: Deployment) -> None:
    project.run("tasks.cancel_everybody()\nfor n in range(5): tasks.coroutine(n)")
    project.drain()
    assert project.rows(where="attempts = 0") == []
    assert len(project.completed()) + len(project.rows("bgtasks_attempt")) >= 6


def test_a_task_that_takes_sigterm_for_itself_keeps_no_worker_from_ending(deploy: Deploy) -> None:
    project = deploy(BGTASKS_GRACE=600)
    project.run("tasks.be_deaf_to_sigterm()")
    worker = project.worker()
    project.wait_for("deaf")
    eventually(lambda: not project.rows(), "recorded")
    assert worker.stop() == 0


def test_where_nothing_is_logged_the_worker_speaks_all_the_same(deploy: Deploy) -> None:
    project = deploy(LOGGING={})
    output = project.drain()
    assert "is ready" in output
    assert "is stopped" in output


# --- a worker in this process


@needs_rows
def test_a_drain_in_this_process_outlives_a_locked_database(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    Task.objects.all().delete()
    task(["a"])
    answers: list[Any] = [OperationalError("database is locked")]
    run_next = stock.tasks.run_next_task

    def run_next_task(queue: str | None) -> bool:
        if answers:
            raise answers.pop()
        return bool(run_next(queue))

    monkeypatch.setattr(stock.tasks, "run_next_task", run_next_task)
    monkeypatch.setattr(one_by_one, "cannot_share", lambda: "this is a test")
    OneByOne(Options(drain=True, sleep=0.01)).run()
    assert CompletedTask.objects.count() == 1


def test_a_worker_in_this_process_waits_for_the_database(monkeypatch: pytest.MonkeyPatch) -> None:
    runner = InProcess(Options())
    answers: list[Exception] = [OperationalError("not there yet")]

    def acquire() -> None:
        if answers:
            raise answers.pop()

    monkeypatch.setattr(runner._lease, "acquire", acquire)
    assert runner._acquire()
    assert not answers


@pytest.mark.parametrize("duration", [0, 0.05])
def test_a_worker_that_waits_for_the_database_ends_when_it_is_to(
    monkeypatch: pytest.MonkeyPatch, duration: float
) -> None:
    runner = InProcess(Options(duration=duration))

    def acquire() -> None:
        if not duration:
            runner.stop()  # as a signal does, in the middle of it
        raise OperationalError("not there yet")

    monkeypatch.setattr(runner._lease, "acquire", acquire)
    runner.run()
    assert runner._worker is None


def test_p5_a_receiver_that_raises_ends_no_heartbeats(monkeypatch: pytest.MonkeyPatch) -> None:
    runner = InProcess(Options())
    monkeypatch.setattr(runner._revocations, "heed", broken(ValueError("of a receiver")))
    runner._revoke()
