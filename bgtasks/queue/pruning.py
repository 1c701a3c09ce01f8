"""Deleting what is kept of tasks that have ended, by age and a little at a time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import Any

from django.db import transaction
from django.db.models import Exists, OuterRef, QuerySet
from django.utils import timezone

from bgtasks.models import (
    Action,
    Attempt,
    CallOptions,
    Child,
    CompletedTask,
    Creator,
    Outcome,
    Progress,
    Revocation,
    Task,
    UniqueKey,
)
from bgtasks.queue import counters, id_marks, mails
from bgtasks.queue import database as db

# How many rows one transaction deletes: on SQLite it keeps every other writer waiting.
BATCH = 500


def prune(retention: Mapping[str, timedelta | None]) -> Iterator[int]:
    """Delete outcomes older than the retention of their state, and all else that is kept of them.

    Args:
        retention: for each `Outcome.State` how long its outcomes are kept; None: for ever.

    Yields:
        The number of tasks or rows deleted, after each batch.
    """
    for state, age in retention.items():
        if age is None:
            continue
        old = Outcome.objects.using(db.alias()).filter(
            state=state, finished_at__lt=timezone.now() - age
        )
        while batch := dict(old.values_list("task_id", "completed_id")[:BATCH]):
            forget(batch)
            yield len(batch)
    ages = [age for age in retention.values() if age is not None]
    longest = max(ages) if len(ages) == len(retention) else None
    if longest is not None:
        yield from _prune_stray_attempts(longest)
        yield from _prune_strays(longest)
    yield from id_marks.prune(longest)
    if (age := retention.get("failed")) is not None:
        yield from mails.prune(age)
    yield from counters.prune()


# The tables with what is kept of a task beside its outcome, and is deleted with it.
BESIDE = (Progress, CallOptions, Creator, Child)


def forget(batch: Mapping[int, int]) -> None:
    """Delete all that is kept of tasks that have ended.

    Args:
        batch: the id of each task, and the id of its completed row.
    """
    using = db.alias()
    with transaction.atomic(using=using):
        Outcome.objects.using(using).filter(pk__in=list(batch)).delete()
        Attempt.objects.using(using).filter(task_id__in=list(batch)).delete()
        Action.objects.using(using).filter(task_id__in=list(batch)).delete()
        for model in BESIDE:
            model._base_manager.using(using).filter(pk__in=list(batch)).delete()
        CompletedTask.objects.using(using).filter(pk__in=list(batch.values())).delete()


def _prune_stray_attempts(age: timedelta) -> Iterator[int]:
    """Delete attempts without an outcome: their row was deleted, or finished by an upstream worker.

    Yields:
        The number of attempts deleted, after each batch.
    """
    strays = Attempt.objects.using(db.alias()).filter(
        ~Exists(Outcome.objects.using(db.alias()).filter(pk=OuterRef("task_id"))),
        ~Exists(Task.objects.using(db.alias()).filter(pk=OuterRef("task_id"))),
        ended_at__lt=timezone.now() - age,
    )
    while batch := list(strays.values_list("pk", flat=True)[:BATCH]):
        Attempt.objects.using(db.alias()).filter(pk__in=batch).delete()
        yield len(batch)


def _prune_strays(age: timedelta) -> Iterator[int]:
    """Delete what was kept beside rows that are gone without an outcome, and old keys.

    Such a row was deleted, or a worker of upstream finished it.

    Yields:
        The number of rows deleted, after each batch.
    """
    using, before = db.alias(), timezone.now() - age
    gone = {
        "queued": ~Exists(Task.objects.using(using).filter(pk=OuterRef("pk"))),
        "ended": ~Exists(Outcome.objects.using(using).filter(pk=OuterRef("pk"))),
    }
    strays: list[QuerySet[Any]] = [
        model._base_manager.using(using).filter(*gone.values()) for model in BESIDE
    ]
    strays += [
        Action.objects.using(using).filter(
            ~Exists(Task.objects.using(using).filter(pk=OuterRef("task_id"))),
            ~Exists(Outcome.objects.using(using).filter(pk=OuterRef("task_id"))),
            at__lt=before,
        ),
        Revocation.objects.using(using).filter(requested_at__lt=before),
        UniqueKey.objects.using(using).filter(
            ~Exists(Task.objects.using(using).filter(pk=OuterRef("task_id"))), taken_at__lt=before
        ),
    ]
    for rows in strays:
        while batch := list(rows.values_list("pk", flat=True)[:BATCH]):
            rows.filter(pk__in=batch).delete()
            yield len(batch)


def prune_upstream(age: timedelta) -> Iterator[int]:
    """Delete completed rows older than ``age`` that a worker of upstream left, without an outcome.

    Yields:
        The number of rows deleted, after each batch.
    """
    ours = Outcome.objects.using(db.alias()).filter(completed_id=OuterRef("pk"))
    old = CompletedTask.objects.using(db.alias()).filter(
        ~Exists(ours), run_at__lt=timezone.now() - age
    )
    while batch := list(old.values_list("pk", flat=True)[:BATCH]):
        CompletedTask.objects.using(db.alias()).filter(pk__in=batch).delete()
        yield len(batch)
