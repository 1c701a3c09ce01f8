"""Progress, exceptions and outcomes as the tables keep them."""

from __future__ import annotations

from copy import copy
from datetime import timedelta
from typing import Any

import pytest
from background_task import signals
from background_task.models import CompletedTask, Task
from django.utils import timezone

from bgtasks import AsyncResult, exceptions
from bgtasks.models import Outcome
from bgtasks.queue import finish, outcomes, progress
from bgtasks.queue.ending import Ending
from bgtasks.serialize import remote_errors
from bgtasks.tasks.current import CurrentTask
from signup.tasks import discard_files as task
from tests.bgtasks.queue.helpers import TOKEN, claim

pytestmark = pytest.mark.django_db(transaction=True)


def test_an_earlier_run_that_still_tells_is_not_heard() -> None:
    task(["a"])
    (row,) = claim(1)
    late = copy(row)
    late.locked_by = f"{TOKEN}9"
    now, before = CurrentTask(row), CurrentTask(late)
    before.set_progress(9, 9, "of long ago")
    now.set_progress(1, 2, "now")
    progress.write([now, now, before])
    assert progress.read(row.pk) == (1, 2, "now")
    Task.objects.update(attempts=2)
    assert progress.read(row.pk) is None, "a further run begins anew"


@pytest.mark.parametrize(
    "error", [ValueError(10**5000), ValueError(Task.objects), ValueError(float("nan"))]
)
def test_every_exception_can_be_told_of(error: Exception) -> None:
    class Shy:
        def __repr__(self) -> str:
            raise RuntimeError

    error.args = (*error.args, Shy())
    rebuilt = remote_errors.rebuild(remote_errors.describe(error), "told")
    assert type(rebuilt) is ValueError
    assert len(rebuilt.args) == 2


def test_an_outcome_of_another_task_with_the_same_id_is_not_believed() -> None:
    row = task(["a"])
    old = timezone.now() - timedelta(days=1)
    Outcome.objects.create(
        task_id=row.pk, completed_id=1, state="succeeded", attempts=1, finished_at=old, result="1"
    )
    result = AsyncResult(row)
    assert (result.status, bool(outcomes.ended_of([row.pk]))) == ("PENDING", False)
    (row,) = claim(1)
    assert (result.status, bool(outcomes.ended_of([row.pk]))) == ("STARTED", False)
    finish.record_successes([Ending(row, result="2")])
    assert (result.status, result.result, bool(outcomes.ended_of([row.pk]))) == ("SUCCESS", 2, True)


def test_a_receiver_of_an_end_finds_the_result() -> None:
    found = []

    def receiver(task_id: int, **_: Any) -> None:
        found.append(AsyncResult(task_id).status)

    signals.task_successful.connect(receiver)
    try:
        task(["a"])
        (row,) = claim(1)
        finish.record_with_receivers([Ending(row)])
    finally:
        signals.task_successful.disconnect(receiver)
    assert found == ["SUCCESS"]


def test_a_completed_row_is_not_taken_for_its_task() -> None:
    with pytest.raises(exceptions.UnknownResult, match="completed_id=3"):
        AsyncResult(CompletedTask(pk=3))


@pytest.mark.parametrize("id_", [2**63, 10**30, -1])
def test_what_no_id_can_be_is_no_result(id_: int) -> None:
    with pytest.raises(exceptions.UnknownResult):
        _ = AsyncResult(id_).status


@pytest.mark.parametrize("raise_", [exceptions.Retry, exceptions.Snooze])
def test_a_delay_beyond_the_calendar_is_refused(raise_: Any) -> None:
    with pytest.raises(exceptions.InvalidOption, match="hundred years"):
        raise_(1e12)
