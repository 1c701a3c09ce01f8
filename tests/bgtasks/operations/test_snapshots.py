"""Where watched tasks stand."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from background_task.models import Task
from django.utils import timezone

from bgtasks.models import Outcome, Progress, Worker
from bgtasks.operations import snapshots
from bgtasks.operations.snapshots import Snapshot
from bgtasks.operations.states import State
from signup.tasks import discard_files as task
from tests.bgtasks.queue.helpers import TOKEN, claim, register, rows
from tests.conftest import run_queued

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def _empty() -> None:
    Task.objects.all().delete()


def of(row: Task) -> Snapshot:
    return snapshots.of([row.pk])[row.pk]


def test_each_state_is_told_apart() -> None:
    (ended,) = rows(1)
    run_queued()
    running, retrying, waiting = rows(3)
    Task.objects.filter(pk=running.pk).update(locked_by=TOKEN, attempts=1)
    Task.objects.filter(pk=retrying.pk).update(attempts=1)
    scheduled = task([], schedule=60)
    all_ = [ended, running, retrying, waiting, scheduled]
    found = snapshots.of([row.pk for row in all_])
    assert [found[row.pk].state for row in all_] == [
        State.SUCCEEDED, State.RUNNING, State.RETRYING, State.WAITING, State.SCHEDULED
    ]  # fmt: skip
    assert [found[row.pk].ended for row in all_] == [True, False, False, False, False]


def test_what_is_not_there_is_left_out() -> None:
    assert snapshots.of([1]) == {}


def test_a_state_that_somebody_has_written_by_hand_is_left_out() -> None:
    (row,) = rows(1)
    run_queued()
    Outcome.objects.filter(pk=row.pk).update(state="odd")
    assert snapshots.of([row.pk]) == {}


def test_the_progress_is_that_of_the_run_under_way() -> None:
    (row,) = rows(1)
    (row,) = claim(1)
    now = timezone.now()
    report = {"attempt": 1, "done": 1, "total": 4, "updated_at": now, "claim_of": now}
    Progress.objects.create(task_id=row.pk, claim=TOKEN, **report)
    found = of(row).progress
    assert found is not None
    assert found.percent == 25
    Progress.objects.update(claim="another")
    assert of(row).progress is None


@pytest.mark.parametrize(
    ("due", "workers", "delayed"), [(3, 0, False), (6, 0, True), (6, 1, False), (21, 1, True)]
)
def test_what_waits_long_is_delayed(due: int, workers: int, delayed: bool) -> None:
    if workers:
        register("bg~a")
    row = task([], schedule=timezone.now() - timedelta(seconds=due))
    assert of(row).delayed is delayed


def test_what_a_dead_worker_holds_is_delayed() -> None:
    (row,) = rows(1)
    claim(1)
    assert of(row).delayed
    register(TOKEN.partition(".")[0])
    assert not of(row).delayed
    Worker.objects.update(heartbeat_at=timezone.now() - timedelta(seconds=16))
    assert of(row).delayed


@pytest.mark.parametrize("count", [1, 50])
def test_however_many_are_watched_the_statements_are_few(
    count: int, django_assert_max_num_queries: Any
) -> None:
    ids = [row.pk for row in rows(count)]
    with django_assert_max_num_queries(4):
        assert len(snapshots.of(ids)) == count
