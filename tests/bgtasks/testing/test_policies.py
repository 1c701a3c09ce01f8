"""Policies of a task, in a test."""

from __future__ import annotations

import pytest
from asgiref.sync import async_to_sync, sync_to_async
from django.contrib.auth.models import Group

from bgtasks import exceptions
from bgtasks.models import Attempt
from bgtasks.testing import (
    run_pending,
)
from tests.bgtasks.testing.helpers import (
    coroutine,
    later,
    never,
    note,
    ran,
    tell_progress,
    unique,
    wait_inside,
)


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
