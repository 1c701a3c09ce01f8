"""What operators do to tasks, by pages that may be old."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from background_task.models import Task
from django.utils import timezone

from bgtasks import AsyncResult, background
from bgtasks.exceptions import InvalidOption
from bgtasks.models import Action, CompletedTask, Outcome
from bgtasks.queue import acting, call_options, claims
from bgtasks.testing import run_pending
from tests.bgtasks.queue.helpers import TOKEN

pytestmark = pytest.mark.django_db(transaction=True)


@background(name="tests.acting.do")
def do(*args: Any) -> None: ...


def three() -> list[int]:
    """Tasks of which one waits, one runs and one has ended."""
    ended = do(1).pk
    run_pending()
    running, waiting = do(2), do(3, schedule=3600)
    assert claims.claim_row(running, TOKEN)
    return [waiting.pk, running.pk, ended, 10**30, -1]


@pytest.mark.parametrize(
    ("act", "changed", "detail"),
    [
        (lambda ids: acting.run_now(ids, "zoe"), ("run_at", None), ""),
        (lambda ids: acting.set_priority(ids, 7, "zoe"), ("priority", 7), "to 7"),
        (lambda ids: acting.move(ids, "slow", "zoe"), ("queue", "slow"), "to slow"),
        (lambda ids: acting.move(ids, "", "zoe"), ("queue", None), "to no queue"),
    ],
)
def test_what_runs_or_has_ended_is_left_alone(act: Any, changed: Any, detail: str) -> None:
    ids = three()
    before = Task.objects.get(pk=ids[1])
    assert act(ids) == ids[:1]
    row, after = Task.objects.get(pk=ids[0]), Task.objects.get(pk=ids[1])
    name, value = changed
    assert row.run_at <= timezone.now() if name == "run_at" else getattr(row, name) == value
    assert getattr(after, name) == getattr(before, name)
    (action,) = Action.objects.all()
    assert (action.task_id, action.by, action.detail) == (ids[0], "zoe", detail)


def test_cancelling_ends_what_runs_only_if_it_is_asked_to() -> None:
    waiting, running, *others = three()
    assert acting.cancel([waiting, running, *others]) == [waiting]
    assert acting.cancel([waiting, running, *others], terminate=True) == [running]
    assert AsyncResult(running).cancelled()
    assert Action.objects.filter(kind="cancelled").count() == 2


def test_a_repeating_task_that_is_run_now_keeps_its_time_table() -> None:
    due = timezone.now() + timedelta(hours=1)
    row = do(1, schedule=due, repeat=Task.DAILY)
    assert acting.run_now([row.pk]) == [row.pk]
    assert call_options.slot(Task.objects.get(pk=row.pk)) == due
    run_pending()
    assert Task.objects.get(task_name=do.name).run_at == due + timedelta(days=1)


@pytest.mark.parametrize("value", ["high", 10**30, None, 1.5])
def test_a_priority_that_is_none_is_refused(value: Any) -> None:
    with pytest.raises(InvalidOption, match="priority"):
        acting.set_priority([do(1).pk], value)


@pytest.mark.parametrize("value", ["q" * 1000, 5, ["slow"]])
def test_a_queue_that_is_none_is_refused(value: Any) -> None:
    with pytest.raises(InvalidOption, match="queue"):
        acting.move([do(1).pk], value)


def test_only_what_has_ended_is_deleted_with_all_that_is_kept_of_it() -> None:
    waiting, running, ended, *absurd = three()
    assert acting.delete_ended([waiting, running, ended, *absurd], "zoe") == [ended]
    assert not Outcome.objects.exists()
    assert not CompletedTask.objects.exists()
    assert set(Task.objects.values_list("pk", flat=True)) == {waiting, running}
    (action,) = Action.objects.all()
    assert (action.task_id, action.kind, action.by) == (ended, "deleted", "zoe")
    assert acting.delete_ended([ended]) == []
