"""Claiming rows: which ones, in which order, and by how many statements."""

from __future__ import annotations

import math
from datetime import timedelta
from typing import Any

import pytest
from background_task.models import Task
from django.utils import timezone

from bgtasks.queue import claims
from bgtasks.queue.frontier import Frontier
from signup.tasks import discard_files as task
from tests.bgtasks.queue.helpers import TOKEN, claim, register, rows
from tests.harness.threads import in_threads

pytestmark = pytest.mark.django_db(transaction=True)


def test_a_batch_is_claimed_by_one_statement(django_assert_num_queries: Any) -> None:
    made = rows(40)
    frontier = Frontier([task.name])
    assert len(frontier.take(TOKEN, 10)) == 10
    # On a busy machine, so much time may pass between two claims that the levels are read anew.
    frontier._read_levels_at = math.inf
    with django_assert_num_queries(1):
        taken = frontier.take(TOKEN, 20)
    assert [row.pk for row in taken] == [row.pk for row in made[10:30]]
    assert {(each.row.locked_by, each.row.attempts) for each in taken} == {(TOKEN, 1)}
    assert {row.locked_at is None for row in Task.objects.filter(locked_by=TOKEN)} == {False}


def test_what_is_late_failed_locked_unknown_or_elsewhere_is_not_claimed() -> None:
    task(["later"], schedule=60)
    task(["elsewhere"], queue="other")
    for number, (name, value) in enumerate(
        [("failed_at", timezone.now()), ("locked_by", "somebody"), ("task_name", "unknown")]
    ):
        row = task([number], queue="q")
        Task.objects.filter(pk=row.pk).update(**{name: value})
    wanted = task(["wanted"], queue="q")
    assert [row.pk for row in claim(queues=["q"])] == [wanted.pk]


def test_the_most_urgent_and_then_the_oldest_come_first(settings: Any) -> None:
    now = timezone.now()
    late = task([1], priority=1, schedule=now - timedelta(seconds=1))
    early = task([2], priority=1, schedule=now - timedelta(hours=1))
    urgent = task([3], priority=2)
    assert [row.pk for row in claim(1)] == [urgent.pk]
    assert [row.pk for row in claim(1)] == [early.pk]
    claims.release(Task.objects.filter(locked_by=TOKEN))
    settings.BACKGROUND_TASK_PRIORITY_ORDERING = "ASC"
    assert [row.pk for row in claim(1)] == [early.pk]
    assert [row.pk for row in claim(2)] == [late.pk, urgent.pk]


def test_claimants_at_the_same_moment_share_nothing() -> None:
    rows(120)
    taken = in_threads(6, lambda n: [r.pk for r in claim(20, f"bg~000000000000.{n}-1")])
    ids = [pk for batch in taken for pk in batch]
    assert len(ids) == len(set(ids)) == Task.objects.exclude(locked_by=None).count()
    assert len(ids) >= 100  # a claim may pass over rows that another has in its hands


def test_a_worker_that_was_declared_dead_claims_nothing() -> None:
    rows(1)
    assert claim(worker="bg~000000000000") == []
    register("bg~000000000000")
    assert len(claim(worker="bg~000000000000")) == 1


def test_p4_handing_back_refunds_the_attempt_and_only_of_what_is_still_ours() -> None:
    ours, theirs = rows(2)
    held = claim()
    Task.objects.filter(pk=theirs.pk).update(locked_by="another", attempts=5)
    assert claims.release(held) == 1
    ours.refresh_from_db()
    theirs.refresh_from_db()
    assert (ours.locked_by, ours.locked_at, ours.attempts) == (None, None, 0)
    assert (theirs.locked_by, theirs.attempts) == ("another", 5)


def test_p3_a_row_that_was_lost_is_not_confirmed() -> None:
    (row,) = rows(1) and claim()
    assert claims.confirm(row)
    Task.objects.update(locked_by="bg~000000000000.1-2")
    assert not claims.confirm(row)
