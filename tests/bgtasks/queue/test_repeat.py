"""Repeating rows that are paused: they keep their time table."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from background_task.models import Task
from django.utils import timezone

from bgtasks import background
from bgtasks.queue import acting, call_options, claims, repeat
from bgtasks.testing import run_pending
from tests.bgtasks.queue.helpers import TOKEN

pytestmark = pytest.mark.django_db(transaction=True)

DAY = timedelta(days=1)


@background(name="tests.repeat.do")
def do(*args: Any) -> None: ...


def waiting() -> Task:
    return Task.objects.get(task_name=do.name)


def test_a_paused_row_does_not_run_and_goes_on_in_its_phase() -> None:
    due = timezone.now() - timedelta(hours=1)
    row = do(1, schedule=due, repeat=Task.DAILY)
    assert repeat.pause(row.pk)
    assert run_pending() == []
    assert repeat.paused([waiting()]).keys() == {row.pk}
    assert repeat.resume(row.pk)
    # The time that was missed in between is not made up for.
    assert (waiting().pk, waiting().run_at) == (row.pk, due + DAY)
    assert repeat.paused([waiting()]) == {}


def test_what_is_paused_is_not_paused_again_and_what_is_not_is_not_resumed() -> None:
    row = do(1, repeat=Task.DAILY)
    assert not repeat.resume(row.pk)
    assert (repeat.pause(row.pk), repeat.pause(row.pk)) == (True, False)
    assert (repeat.resume(row.pk), repeat.resume(row.pk)) == (True, False)
    assert waiting().run_at == row.run_at + DAY


def test_a_row_that_is_resumed_before_its_time_runs_at_that_time() -> None:
    row = do(1, schedule=timezone.now() + timedelta(hours=1), repeat=Task.DAILY)
    assert (repeat.pause(row.pk), repeat.resume(row.pk)) == (True, True)
    assert waiting().run_at == row.run_at


def test_a_paused_row_that_is_run_now_stays_paused() -> None:
    due = timezone.now() + timedelta(hours=1)
    row = do(1, schedule=due, repeat=Task.DAILY)
    repeat.pause(row.pk)
    acting.run_now([row.pk])
    assert len(run_pending()) == 1
    following = waiting()
    assert following.pk != row.pk
    assert repeat.paused([following]).keys() == {following.pk}
    assert run_pending() == []
    assert repeat.resume(following.pk)
    assert waiting().run_at == due + DAY


@pytest.mark.parametrize("option", ["slot", "paused_at"])
@pytest.mark.parametrize("value", ["soon", 5, None])
def test_options_that_nobody_can_read_stop_no_page(option: str, value: Any) -> None:
    row = do(1, repeat=Task.DAILY)
    repeat.pause(row.pk)
    call_options.put(waiting(), option, value)
    assert repeat.paused([waiting()]).keys() == {row.pk}
    assert repeat.resume(row.pk) is (option == "paused_at" or value is None)


def test_a_row_that_runs_or_does_not_repeat_is_left() -> None:
    running, once = do(1, repeat=Task.DAILY), do(2)
    assert claims.claim_row(running, TOKEN)
    for row in (running, once):
        before = Task.objects.values().get(pk=row.pk)
        assert not repeat.pause(row.pk)
        assert not repeat.resume(row.pk)
        assert Task.objects.values().get(pk=row.pk) == before
