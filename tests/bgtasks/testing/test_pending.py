"""Looking at what was enqueued."""

from __future__ import annotations

import threading
from contextlib import suppress

import pytest
from background_task.models import Task
from django.db import connection, transaction

from bgtasks.testing import (
    assert_enqueued,
    assert_nothing_enqueued,
    capture,
    eager,
    enqueued,
    run_pending,
)
from tests.bgtasks.testing.helpers import NAME, chain, fail, later, note, unique


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
