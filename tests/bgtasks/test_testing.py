"""What `bgtasks.testing` gives to the tests of a project, in both kinds of test."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
import tomllib
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from asgiref.sync import async_to_sync, sync_to_async
from background_task import signals
from background_task.models import CompletedTask, Task
from background_task.tasks import TaskSchedule
from background_task.tasks import tasks as registry
from django.contrib.auth.models import Group
from django.db import IntegrityError, connection, transaction
from django.test import TestCase, TransactionTestCase
from django.utils import timezone

from bgtasks import Cancel, Retry, Snooze, background, calls, current_task, exceptions, set_progress
from bgtasks.models import Attempt, Outcome
from bgtasks.tasks import registry as known_tasks
from bgtasks.testing import (
    assert_enqueued,
    assert_nothing_enqueued,
    capture,
    eager,
    enqueued,
    run_pending,
)
from tests.harness.process import ROOT

NAME = "tests.bgtasks.test_testing"
ran: list[Any] = []
before = set(registry._tasks)


@background
def note(key: Any) -> Any:
    ran.append(key)
    return key


@background
def chain(length: int) -> None:
    ran.append(length)
    if length:
        chain(length - 1)


@background
def endless() -> None:
    endless()


@background(backoff=60)
def fail(key: str = "no") -> None:
    ran.append(key)
    raise ValueError(key)


@background(max_attempts=1)
def fail_for_good() -> None:
    fail.now("for good")


@background(backoff=0, max_attempts=3)
def retry_at_once() -> int:
    task = current_task()
    assert task
    ran.append(task.attempt)
    if task.attempt < 3:
        raise Retry
    return task.attempt


@background(max_attempts=1)
def retry_in_vain() -> None:
    try:
        fail.now("cause")
    except ValueError as error:
        raise Retry(60) from error


@background
def snooze() -> None:
    raise Snooze(60)


@background
def cancel() -> None:
    raise Cancel("not wanted")


@background
async def tell_from_a_coroutine() -> int:
    for step in range(4):
        set_progress(step, 3, "done" if step == 3 else "")
    return 3


@background
async def coroutine(key: str) -> int:
    ran.append(key)
    await Group.objects.acreate(name=key)
    if key == "no":
        raise ValueError(key)
    return await Group.objects.acount()


@background
async def coroutine_of_coroutines() -> int:
    return int(await sync_to_async(lambda: coroutine.delay("inner").get())())


@background(timeout=0.01)
async def never() -> None:
    await sync_to_async(note.now)("never")
    await asyncio.Event().wait()


@background(unique=True)
def unique() -> None:
    ran.append("unique")
    if len(ran) < 2:
        unique()


@background
def tell_progress() -> None:
    set_progress(1, 4)
    set_progress(3, 4, "nearly")


@background
def write_then_fail(key: str) -> None:
    """Write twice what may be there once."""
    Group.objects.create(name=key)
    Group.objects.create(name=key)


@background
def catch_what_fails(key: str) -> None:
    Group.objects.create(name=key)
    with suppress(IntegrityError):
        Group.objects.create(name=key)


@background(max_attempts=1)
def leak() -> None:
    transaction.atomic().__enter__()
    Group.objects.create(name="leaked")


@background
def on_commit(key: str) -> None:
    with transaction.atomic():
        transaction.on_commit(lambda: ran.append(key))
    ran.append("after")


@background
def interrupt() -> None:
    raise KeyboardInterrupt


@background
def not_json() -> object:
    return object()


@background
def wait_inside() -> Any:
    return note.delay("inner").get()


OURS = {name: proxy for name, proxy in registry._tasks.items() if name not in before}
for _name in OURS:
    del registry._tasks[_name]  # nor shall other tests find coroutines among the tasks


@pytest.fixture(autouse=True)
def _tasks() -> Iterator[None]:
    registry._tasks.update(OURS)
    ran.clear()
    yield
    for name in OURS:
        del registry._tasks[name]


@pytest.fixture(
    params=[
        "atomic",
        pytest.param("transaction", marks=pytest.mark.django_db(transaction=True)),
    ]
)
def either(request: pytest.FixtureRequest) -> None:
    """In a test's transaction, and without one. The site's own rows are not in the way."""
    request.getfixturevalue("transactional_db" if request.param == "transaction" else "db")
    Task.objects.all().delete()
    assert connection.in_atomic_block == (request.param == "atomic")


@pytest.fixture
def atomic(db: None) -> None:
    Task.objects.all().delete()


def later(**delay: float) -> Any:
    return timezone.now() + timedelta(**delay)


# --- running what waits


def test_what_waits_is_run_and_its_results_are_there(either: None) -> None:
    first, second = note.delay("a"), note.delay({"b": 1})
    assert run_pending() == [first, second]
    assert (first.get(), second.get(), ran) == ("a", {"b": 1}, ["a", {"b": 1}])
    assert not Task.objects.exists()
    assert CompletedTask.objects.count() == Outcome.objects.count() == 2
    assert run_pending() == []


def test_the_most_urgent_is_first_then_who_waits_longest(either: None) -> None:
    note("new")
    note("urgent", priority=5)
    note("old", schedule=later(minutes=-5))
    run_pending()
    assert ran == ["urgent", "old", "new"]


def test_priorities_may_be_nice_values(either: None, settings: Any) -> None:
    settings.BACKGROUND_TASK_PRIORITY_ORDERING = "ASC"
    note("second", priority=5)
    note("first", priority=-5)
    run_pending()
    assert ran == ["first", "second"]


def test_only_a_queue(either: None) -> None:
    note("mail", queue="mail")
    note("default")
    run_pending(queue="mail")
    assert ran == ["mail"]
    run_pending()
    assert ran == ["mail", "default"]


def test_what_is_enqueued_meanwhile_is_run_too(either: None) -> None:
    chain(3)
    assert len(run_pending()) == 4
    assert ran == [3, 2, 1, 0]


def test_a_chain_without_an_end_is_an_error(either: None) -> None:
    endless()
    with pytest.raises(AssertionError, match=rf"7 rows were run, and {NAME}\.endless\(\) is still"):
        run_pending(limit=7)
    assert Outcome.objects.count() == 7
    (row,) = Task.objects.all()
    assert row.locked_by is None


def test_no_more_rows_than_the_limit_is_no_error(either: None) -> None:
    chain(3)
    assert len(run_pending(limit=4)) == 4


def test_what_follows_a_call_is_run(either: None) -> None:
    row = calls.submit(note, ["a"], options={"then": note.name})
    run_pending()
    assert ran == ["a", row.pk]


def test_a_row_that_a_worker_holds_is_left_alone(either: None) -> None:
    row = note("held")
    Task.objects.filter(pk=row.pk).update(locked_by="bg~other.1-1", locked_at=timezone.now())
    assert run_pending() == []
    assert Task.objects.filter(locked_by="bg~other.1-1").exists()


def test_rows_of_unknown_tasks_wait(either: None) -> None:
    Task.objects.new_task("of.another.deployment").save()
    assert run_pending() == []
    assert Task.objects.exists()


def test_the_signals_of_a_worker_are_sent(either: None) -> None:
    heard = []

    def successful(completed_task: CompletedTask, **_: Any) -> None:
        heard.append(completed_task.task_name)

    signals.task_successful.connect(successful)
    try:
        note("a")
        run_pending()
    finally:
        signals.task_successful.disconnect(successful)
    assert heard == [note.name]


# --- failures


def test_what_a_task_raises_is_raised_and_recorded(either: None) -> None:
    result = fail.delay("this one")
    note("next")
    with pytest.raises(ValueError, match="this one") as raised:
        run_pending()
    assert "run_pending(raise_failures=False)" in raised.value.__notes__[0]
    assert [entry.name for entry in raised.traceback][-1] == "fail"
    assert (result.status, result.attempts) == ("PENDING", 1)
    assert "this one" in Attempt.objects.get().error
    assert enqueued(note)


def test_or_is_recorded_only_and_tried_again_later(either: None) -> None:
    result = fail.delay()
    note("next")
    assert len(run_pending(raise_failures=False)) == 2
    assert ran == ["no", "next"]
    delay = Task.objects.get().run_at - timezone.now()
    assert timedelta(seconds=50) < delay < timedelta(seconds=70)
    run_pending(raise_failures=False, at=later(seconds=70))
    assert (ran, result.attempts) == (["no", "next", "no"], 2)


def test_the_last_attempt_fails_it(either: None, settings: Any) -> None:
    settings.MAX_ATTEMPTS = 3
    result = fail.delay()
    assert run_pending(raise_failures=False, include_later=True) == [result] * 3
    assert (result.status, result.attempts) == ("FAILURE", 3)
    with pytest.raises(ValueError, match="no"):
        result.get()


def test_retry_is_no_failure_before_the_last_attempt(either: None) -> None:
    result = retry_at_once.delay()
    run_pending()
    assert (ran, result.get()) == ([1, 2, 3], 3)
    retry_in_vain()
    with pytest.raises(ValueError, match="cause"):
        run_pending()


def test_snoozing_and_cancelling_are_no_failures(either: None) -> None:
    snoozed, cancelled = snooze.delay(), cancel.delay()
    run_pending()
    assert (snoozed.status, snoozed.attempts) == ("PENDING", 0)
    assert cancelled.cancelled()


def test_what_snoozes_for_ever_is_an_endless_chain(either: None) -> None:
    snooze()
    with pytest.raises(AssertionError, match="or snooze for ever"):
        run_pending(include_later=True, limit=5)


def test_what_is_no_exception_of_the_function_is_raised_too(either: None) -> None:
    not_json()
    with pytest.raises(exceptions.ResultNotJSON, match="a object"):
        run_pending()
    row = note("a")
    Task.objects.filter(pk=row.pk).update(task_params="[[")
    with pytest.raises(exceptions.BrokenRow):
        run_pending()


def test_ctrl_c_ends_the_test_in_any_case(either: None) -> None:
    interrupt()
    with pytest.raises(KeyboardInterrupt):
        run_pending(raise_failures=False)


def test_a_task_module_that_cannot_be_imported_is_an_error(
    either: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    error = exceptions.TaskModuleError("shop.tasks cannot be imported")
    monkeypatch.setattr(known_tasks, "import_task_modules", lambda: iter([error]))
    with pytest.raises(exceptions.TaskModuleError):
        run_pending()


# --- policies


def test_coroutines_run_on_the_same_connection(either: None) -> None:
    Group.objects.create(name="of the test")
    result = coroutine.delay("of the task")
    run_pending()
    assert result.get() == 2
    with pytest.raises(ValueError, match="no"):
        coroutine("no")
        run_pending()


def test_coroutines_have_their_time_out(either: None) -> None:
    never()
    with pytest.raises(exceptions.TaskTimeout):
        run_pending()
    assert ran == ["never"]
    assert Attempt.objects.get().state == Attempt.State.TIMED_OUT


def test_from_a_coroutine_in_a_thread(either: None) -> None:
    result = coroutine.delay("a")

    async def test() -> None:
        await sync_to_async(run_pending)()

    async_to_sync(test)()
    assert result.get() == 1


def test_a_unique_task_waits_once(either: None) -> None:
    unique()
    unique()
    assert len(run_pending()) == 1
    assert ran == ["unique"]
    unique()
    run_pending()
    assert ran == ["unique", "unique"]


def test_the_last_progress_is_kept(either: None) -> None:
    result = tell_progress.delay()
    run_pending()
    assert result.progress == (3, 4, "nearly")


def test_an_expired_call_is_cancelled(either: None) -> None:
    result = note.apply_async(["late"], expires=later(seconds=-1))
    run_pending()
    assert (result.cancelled(), ran) == (True, [])


def test_to_wait_inside_for_what_never_comes_says_so(either: None) -> None:
    wait_inside()
    with pytest.raises(exceptions.WouldBlock):
        run_pending()


# --- later


def test_what_is_for_later_stays(either: None) -> None:
    note("later", schedule=60)
    note("now")
    run_pending()
    assert ran == ["now"]
    assert [call.args for call in enqueued(note)] == [("later",)]


def test_or_is_run_in_the_order_in_which_it_is_due(either: None) -> None:
    note("third", schedule=120, priority=9)
    note("second", schedule=60)
    note("first")
    run_pending(include_later=True)
    assert ran == ["first", "second", "third"]


def test_it_may_be_as_if_it_were_another_time(either: None) -> None:
    note("second", schedule=60)
    note("first", schedule=120, priority=9)
    note("third", schedule=3600)
    with pytest.raises(ValueError, match="no"):
        fail(schedule=90)
        run_pending(at=(moment := later(minutes=5)))
    assert (ran, timezone.now() < moment) == (["first", "second", "no"], True)
    assert CompletedTask.objects.filter(run_at=moment).count() == 2
    assert enqueued(fail)[0].run_at >= moment + timedelta(seconds=60)


def test_of_what_repeats_one_run(either: None) -> None:
    first = later(minutes=10)
    note("hourly", repeat=3600, schedule=first)
    run_pending(include_later=True)
    assert (ran, enqueued()[0].run_at) == (["hourly"], first + timedelta(hours=1))
    run_pending(at=first + timedelta(hours=2.5))
    assert (ran, enqueued()[0].run_at) == (["hourly"] * 2, first + timedelta(hours=3))


def test_a_clock_that_stands_still_is_the_tests_clock(
    either: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    note("tomorrow", schedule=timedelta(days=1))
    tomorrow = later(days=1, seconds=1)
    monkeypatch.setattr(timezone, "now", lambda: tomorrow)
    run_pending()
    assert ran == ["tomorrow"]
    assert CompletedTask.objects.get().run_at == tomorrow


# --- the transaction of a test


def test_an_error_of_the_database_ends_neither_the_test_nor_other_tasks(either: None) -> None:
    Group.objects.create(name="of the test")
    write_then_fail("twice")
    note("next")
    run_pending(raise_failures=False)
    assert ran == ["next"]
    assert "IntegrityError" in Attempt.objects.get().error
    # What came before the failing statement stays in a worker; a test's transaction cannot do that.
    kept = [] if connection.in_atomic_block else ["twice"]
    assert list(Group.objects.values_list("name", flat=True)) == ["of the test", *kept]


def test_one_that_is_caught_is_warned_of_where_it_undoes_all(atomic: None) -> None:
    catch_what_fails("a")
    with pytest.warns(RuntimeWarning, match=r"catch_what_fails caught an error .*\.atomic"):
        run_pending()
    assert not Group.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_and_not_where_it_undoes_nothing() -> None:
    catch_what_fails("a")
    run_pending()
    assert Group.objects.exists()


def test_a_transaction_that_is_left_open_fails_the_task(either: None) -> None:
    leak()
    with pytest.raises(exceptions.LeakedTransaction, match="left a transaction open on default"):
        run_pending()
    assert not Group.objects.exists()
    with transaction.atomic():  # all is well with the connection
        note("next")
    run_pending()
    assert ran == ["next"]


def test_what_a_task_wants_done_on_commit_is_done(either: None) -> None:
    committed = []
    if connection.in_atomic_block:
        transaction.on_commit(lambda: committed.append("the test's own"))
    on_commit("commit")
    run_pending()
    assert sorted(ran) == ["after", "commit"]
    assert committed == []


# --- eager mode


def test_eager_runs_a_task_inside_its_call(either: None) -> None:
    with eager():
        result = note.delay("a")
        assert (ran, result.get(), result.status) == (["a"], "a", "SUCCESS")
    assert not Task.objects.exists()
    assert CompletedTask.objects.get().attempts == 1
    note("b")
    assert ran == ["a"]


def test_eager_works_in_an_open_transaction_and_goes_with_it(either: None) -> None:
    with eager(), suppress(ZeroDivisionError), transaction.atomic():
        assert note.delay("a").get() == "a"
        1 / 0  # noqa: B018
    assert not Outcome.objects.exists()


@pytest.mark.parametrize(
    "enqueue",
    [
        lambda: note("a"),
        lambda: note.delay("a"),
        lambda: note.apply_async(["a"], timeout=5),
        lambda: note.map(["a"]),
        lambda: note("a", remove_existing_tasks=True),
        lambda: note("a", schedule={"action": TaskSchedule.CHECK_EXISTING}),
        lambda: calls.submit(note, ["a"]),
    ],
)
def test_eager_holds_for_every_way_to_enqueue(either: None, enqueue: Callable[[], Any]) -> None:
    with eager():
        enqueue()
    assert ran == ["a"]


def test_eager_by_a_setting(either: None, settings: Any) -> None:
    settings.BGTASKS_EAGER = True
    assert coroutine.delay("a").get() == 1
    settings.BGTASKS_EAGER = False
    note("a")
    assert ran == ["a"]
    assert enqueued(note)


def test_the_row_that_a_call_returns_is_as_it_was_enqueued(either: None) -> None:
    with eager():
        row = note("a")
    assert (row.locked_by, row.attempts) == (None, 0)
    assert Outcome.objects.get().task_id == row.pk


def test_eager_raises_what_a_task_raises(either: None) -> None:
    with eager(), pytest.raises(ValueError, match="no"):
        fail()
    (row,) = Task.objects.all()
    assert (row.attempts, row.locked_by) == (1, None)
    assert Attempt.objects.exists()


def test_unless_it_is_told_not_to(either: None) -> None:
    with eager(propagate=False):
        again, ended = fail.delay(), fail_for_good.delay()
    assert (again.status, ended.status) == ("PENDING", "FAILURE")
    with pytest.raises(ValueError, match="for good"):
        ended.get()


def test_eager_leaves_what_is_for_later(either: None) -> None:
    with eager():
        result = note.apply_async(["later"], countdown=60)
    assert (ran, result.status) == ([], "PENDING")
    run_pending(include_later=True)
    assert result.get() == "later"


def test_eager_tries_again_at_once_what_may_be(either: None) -> None:
    with eager():
        assert retry_at_once.delay().get() == 3


def test_eager_tasks_may_wait_for_each_other(either: None) -> None:
    with eager():
        assert wait_inside.delay().get() == "inner"
        assert async_to_sync(sync_to_async(wait_inside.delay))().get() == "inner"


def test_eager_coroutines_may_wait_for_each_other(either: None) -> None:
    with eager():
        result = coroutine_of_coroutines.delay()
    assert (ran, result.get()) == (["inner"], 1)


def test_eager_runs_what_follows_a_call(either: None) -> None:
    with eager(), pytest.raises(ValueError, match="for good"):
        row = calls.submit(note, ["a"], options={"then": note.name})
        assert ran == ["a", row.pk]
        calls.submit(fail_for_good, options={"then": note.name})
    assert len(ran) == 4
    assert not Task.objects.exists()


def test_eager_calls_without_an_end_are_an_error(either: None) -> None:
    with eager(), pytest.raises(AssertionError, match=r"endless\(\)\. Does a task enqueue itself"):
        endless()


def test_eager_runs_a_unique_task_once_at_a_time(either: None) -> None:
    with eager():
        unique()
    assert ran == ["unique"]
    with eager():
        unique()
    assert ran == ["unique", "unique"]


@eager()
def run_decorated() -> Any:
    return note.delay("a").get()


def test_eager_is_a_decorator(either: None) -> None:
    assert run_decorated() == "a"
    note("b")
    assert ran == ["a"]


@eager()
class TestInTestCase(TestCase):
    def test_results_are_there(self) -> None:
        assert note.delay("a").get() == "a"


class TestPendingInTestCase(TestCase):
    @classmethod
    def setUpTestData(cls) -> None:
        Task.objects.all().delete()
        note("of the class")

    def test_rows_are_there(self) -> None:
        assert len(run_pending()) == 1

    def test_rows_are_there_again(self) -> None:
        assert len(run_pending()) == 1


class TestPendingInTransactionTestCase(TransactionTestCase):
    def test_rows_are_run(self) -> None:
        note("a")
        run_pending()
        assert ran == ["a"]


# --- what was enqueued


def test_enqueued_lists_what_waits(atomic: None) -> None:
    first = note("a", queue="mail", priority=3, schedule=60)
    fail(key="b")
    (one, other) = enqueued()
    assert (one.id, one.name, one.args, one.kwargs) == (first.pk, note.name, ("a",), {})
    assert (one.queue, one.priority, one.run_at) == ("mail", 3, first.run_at)
    assert (other.args, other.kwargs) == ((), {"key": "b"})
    assert [call.id for call in enqueued(note)] == [first.pk]
    assert enqueued(note.name) == enqueued(note) == enqueued(queue="mail") == [one]
    assert enqueued(fail, priority__gte=3) == []


def test_a_name_that_no_task_has_is_an_error(atomic: None) -> None:
    with pytest.raises(LookupError, match=r"No task is called 'note'. Give the task itself"):
        assert_nothing_enqueued("note")
    with pytest.raises(LookupError, match="is no task"):
        enqueued(len)
    Task.objects.new_task("of.another.deployment").save()
    assert enqueued("of.another.deployment")


def test_assert_enqueued_finds_the_call(atomic: None) -> None:
    moment = later(hours=1)
    note("a")
    note({"when": moment, "what": (1, 2)}, queue="mail")
    assert assert_enqueued(note, {"when": moment, "what": (1, 2)}).queue == "mail"
    assert assert_enqueued(note, times=2).args == ("a",)
    fail(key="b")
    fail(key="b")
    assert assert_enqueued(fail, key="b", times=None) == enqueued(fail)[0]


def test_or_lists_what_is_there_instead(atomic: None) -> None:
    with pytest.raises(AssertionError) as raised:
        assert_enqueued(note, "a")
    assert str(raised.value) == (
        f"{NAME}.note('a') was to be enqueued once, and is not. The queue is empty."
    )
    note("b", queue="mail")
    with pytest.raises(AssertionError) as raised:
        assert_enqueued(note, "a")
    assert str(raised.value).splitlines() == [
        f"{NAME}.note('a') was to be enqueued once, and is not. In the queue:",
        f"    {NAME}.note('b'), queue mail",
    ]


def test_twice_is_not_once(atomic: None) -> None:
    note("a")
    note("a")
    with pytest.raises(AssertionError, match=r"to be enqueued once, and is 2 times\."):
        assert_enqueued(note)
    with pytest.raises(AssertionError, match=r"to be enqueued 3 times, and is 2 times\."):
        assert_enqueued(note, "a", times=3)
    with pytest.raises(AssertionError, match=r"to be enqueued at all, and is not\."):
        assert_enqueued(fail, times=None)
    with pytest.raises(ValueError, match="assert_nothing_enqueued"):
        assert_enqueued(note, times=0)


def test_a_long_queue_is_not_listed_in_full(atomic: None) -> None:
    note.map(range(30), schedule=60)
    with pytest.raises(AssertionError) as raised:
        assert_nothing_enqueued()
    lines = str(raised.value).splitlines()
    assert (len(lines), lines[-1]) == (22, "    and 10 more")
    assert lines[1].startswith(f"    {NAME}.note(0), for 2")


def test_assert_nothing_enqueued_looks_at_what_it_is_told_to(atomic: None) -> None:
    assert_nothing_enqueued()
    note("a", queue="mail")
    assert_nothing_enqueued(fail)
    assert_nothing_enqueued(queue="other")
    for arguments, filters in (((), {}), ((note,), {}), ((), {"queue": "mail"})):
        with pytest.raises(AssertionError, match=r"Nothing was to be enqueued. In the queue:\n"):
            assert_nothing_enqueued(*arguments, **filters)
    run_pending()
    assert_nothing_enqueued()


def test_capture_lists_the_calls_of_a_block(either: None) -> None:
    note("before")
    with capture() as calls:
        note("a")
        note.map(["b", "c"])
    note("after")
    assert [call.args for call in calls] == [("a",), ("b",), ("c",)]
    assert calls == enqueued(note)[1:4]


def test_capture_lists_what_is_run_and_what_is_rolled_back(either: None) -> None:
    with capture() as calls, eager():
        chain(1)
        with suppress(ZeroDivisionError), transaction.atomic():
            note("a")
            1 / 0  # noqa: B018
    assert [call.name for call in calls] == [chain.name, chain.name, note.name]
    assert_nothing_enqueued()


def test_capture_leaves_out_a_call_that_enqueues_nothing(either: None) -> None:
    unique()
    with capture() as calls:
        unique()
    assert calls == []


@pytest.mark.django_db(transaction=True)
def test_capture_hears_all_threads() -> None:
    def enqueue() -> None:
        note("of a thread")
        connection.close()

    with capture() as calls:
        thread = threading.Thread(target=enqueue)
        thread.start()
        thread.join()
    assert [call.args for call in calls] == [("of a thread",)]


# --- the fixture


def test_the_fixture_has_it_all(either: None, bgtasks: Any) -> None:
    note("a")
    bgtasks.assert_enqueued(note, "a")
    assert [result.get() for result in bgtasks.run_pending()] == ["a"]
    with bgtasks.capture() as calls, bgtasks.eager():
        assert note.delay("b").get() == "b"
    assert len(calls) == 1
    bgtasks.assert_nothing_enqueued()


FILES = {
    "settings.py": """
        SECRET_KEY = "tests-only"
        USE_TZ = True
        DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}}
        INSTALLED_APPS = [
            "bgtasks", "background_task", "django.contrib.contenttypes", "django.contrib.auth",
            "shop",
        ]
    """,
    "shop/__init__.py": "",
    "shop/tasks.py": """
        from bgtasks import background

        @background
        def add(a, b):
            return a + b
    """,
    "test_shop.py": """
        import pytest
        from django.test import TestCase

        from shop.tasks import add

        @pytest.mark.django_db
        def test_pending(bgtasks):
            result = add.delay(4, 5)
            bgtasks.assert_enqueued(add, 4, 5)
            bgtasks.run_pending()
            assert result.get() == 9

        @pytest.mark.django_db(transaction=True)
        def test_eager(bgtasks):
            with bgtasks.eager():
                assert add.delay(4, 5).get() == 9

        def test_without_access_to_the_database(bgtasks):
            with pytest.raises(RuntimeError, match="Database access not allowed"):
                bgtasks.run_pending()

        class Tests(TestCase):
            @pytest.fixture(autouse=True)
            def _bgtasks(self, bgtasks):
                self.bgtasks = bgtasks

            def test_pending(self):
                add(4, 5)
                self.assertEqual([done.get() for done in self.bgtasks.run_pending()], [9])
    """,
    "plain/test_plain.py": """
        import sys

        def test_without_django():
            assert "bgtasks.pytest_plugin" in sys.modules
            assert "django.conf" not in sys.modules
    """,
}


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project, and beside it the entry points of bgtasks as pip would write them down."""
    folder = tmp_path_factory.mktemp("shop")
    for name, text in FILES.items():
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        indent = len(text) - len(text.lstrip("\n ")) - 1 if text else 0
        path.write_text("\n".join(line[indent:] for line in text.splitlines()) + "\n")
    metadata = folder / "django_bgtasks-0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: django-bgtasks\nVersion: 0\n")
    groups = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"]
    points = [f"{name} = {value}" for name, value in groups["pytest11"].items()]
    (metadata / "entry_points.txt").write_text("\n".join(["[pytest11]", *points]))
    return folder


def pytest_in(folder: Path, *arguments: str) -> str:
    given = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    given.pop("DJANGO_SETTINGS_MODULE", None)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", ".",
         *arguments],
        cwd=folder,
        env={**given, "PYTHONPATH": os.pathsep.join([str(folder), str(ROOT)])},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=60,
    )  # fmt: skip
    return done.stdout


def test_the_fixture_is_there_for_whoever_installs_the_app(installed: Path) -> None:
    output = pytest_in(installed, "--ds=settings", "-W", "error", "test_shop.py")
    assert "4 passed" in output, output


def test_and_harms_nobody_who_has_no_django(installed: Path) -> None:
    output = pytest_in(installed, "-p", "no:django", "-W", "error", "plain")
    assert "1 passed" in output, output


def test_what_expires_by_then_is_not_run(either: None) -> None:
    result = note.apply_async(("a",), expires=60)
    run_pending(at=timezone.now() + timedelta(hours=2))
    assert (ran, result.cancelled()) == ([], True)


def test_a_coroutine_may_tell_how_far_it_is(either: None) -> None:
    result = tell_from_a_coroutine.delay()
    run_pending()
    assert result.get() == 3
    assert result.progress == (3, 3, "done")
