"""Deleting what is kept of tasks that have ended, by age and a little at a time."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any

from django.db import InternalError, ProgrammingError, transaction
from django.db.models import Exists, Model, OuterRef, QuerySet
from django.db.models.signals import post_delete, pre_delete
from django.utils import timezone

from bgtasks.logs import get_logger
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
from bgtasks.queue import counters, id_marks, mails, partitions
from bgtasks.queue import database as db

logger = get_logger(__name__)

# How many tasks one transaction deletes: on SQLite it keeps every other writer waiting. And how
# many one statement deletes on PostgreSQL, which takes it less than a tenth of a second.
BATCH = 500
BATCH_OF_STATEMENT = 5_000


def prune(retention: Mapping[str, timedelta | None], all_old: bool = False) -> Iterator[int]:
    """Delete outcomes older than the retention of their state, and all else that is kept of them.

    Args:
        retention: for each `Outcome.State` how long its outcomes are kept; None: for ever.
        all_old: delete also those in partitions that cannot be dropped yet.

    Yields:
        The number of tasks or rows deleted, after each batch; or 0, if a table could not be locked.
    """
    for state, age in retention.items():
        if age is None:
            continue
        yield from _prune_outcomes(state, timezone.now() - age, all_old)
    ages = [age for age in retention.values() if age is not None]
    longest = max(ages) if len(ages) == len(retention) else None
    yield from id_marks.prune(longest)
    if (age := retention.get("failed")) is not None:
        yield from mails.prune(age)
    yield from counters.prune()
    if longest is not None:  # last, for this reads whole tables, and the database may give it up
        yield from _prune_stray_attempts(longest)
        yield from _prune_strays(longest)


# The tables with what is kept of a task beside its outcome, and is deleted with it.
BESIDE = (Progress, CallOptions, Creator, Child)
# The column that names the task, in all of these and in those of which a task may have several.
OF_TASK: dict[type[Model], str] = {
    **{model: str(model._meta.pk.column) for model in BESIDE},
    **dict.fromkeys((Attempt, Action), "task_id"),
}


def _prune_outcomes(state: str, before: datetime, all_old: bool) -> Iterator[int]:
    """Delete the outcomes of a state that are older than a date, with all else that is kept.

    Yields:
        The number of tasks, after each batch; or 0, if a table could not be locked.
    """
    is_watched = _is_deleting_watched()
    if is_watched or not db.on_postgresql():
        yield from _prune_by_django(state, before)
    else:
        yield from _prune_by_statements(state, before, partitions.MAIN)
    if db.on_postgresql():
        yield from _prune_partitions(state, before, all_old and not is_watched)


def _prune_by_django(state: str, before: datetime) -> Iterator[int]:
    old = Outcome.objects.using(db.alias()).filter(state=state, finished_at__lt=before)
    while batch := dict(old.values_list("task_id", "completed_id")[:BATCH]):
        forget(batch)
        yield len(batch)


def _is_deleting_watched() -> bool:
    """Whether Django has to delete the rows one by one, for a receiver or for rows of others."""
    models = (Outcome, CompletedTask, *OF_TASK)
    return any(
        signal.has_listeners(model) for model in models for signal in (pre_delete, post_delete)
    ) or any(map(partitions.referring, models))


def _prune_by_statements(state: str, before: datetime, place: partitions.Place) -> Iterator[int]:
    """What `_prune_by_django` does, on PostgreSQL: one statement a batch, ten times as fast.

    Each batch begins with the last date of the one before, so that none passes over the index
    entries of what is deleted, which stay while somebody has an old snapshot.

    Args:
        place: the two tables whose rows are deleted. Those of tables that inherit from them stay.
    """
    sql, after = _deletion(place), "-infinity"
    while True:
        [(count, last)] = db.fetch(sql, [state, after, db.moment(before), BATCH_OF_STATEMENT])
        if not count:
            return
        after = last
        yield count


def _deletion(place: partitions.Place) -> str:
    rests = [(model._meta.db_table, column, "task_id") for model, column in OF_TASK.items()]
    rests += [(place.completed, "id", "completed_id"), (place.outcomes, "task_id", "task_id")]
    deletions = ", ".join(
        f"rest{number} AS (DELETE FROM ONLY {table} AS it USING old WHERE it.{column} = old.{of})"
        for number, (table, column, of) in enumerate(rests)
    )
    # MATERIALIZED: otherwise the planner may run the SELECT with its LIMIT once for each table.
    return (
        "WITH old AS MATERIALIZED (SELECT task_id, completed_id, finished_at "
        f"FROM ONLY {place.outcomes} WHERE state = %s AND finished_at >= %s AND finished_at < %s "
        f"ORDER BY finished_at LIMIT %s), {deletions} "
        "SELECT COUNT(*), CAST(MAX(finished_at) AS text) FROM old"
    )


def _prune_partitions(state: str, before: datetime, all_old: bool) -> Iterator[int]:
    """Drop the partitions that are old as a whole, and delete the old rows of those that cannot be.

    Args:
        all_old: delete also the old rows of those that can be dropped later.
    """
    ended = partitions.ended(before)
    for partition in partitions.partitions() if all_old else ended:
        with _unless_gone(partition):
            if partition not in ended or not partitions.can_be_dropped(partition, before):
                yield from _prune_by_statements(state, before, partition.place)
            elif state == Outcome.State.SUCCEEDED and not (yield from _drop(partition, before)):
                return  # whoever reads this one may read all of them


def _drop(partition: partitions.Partition, before: datetime) -> Generator[int, None, bool]:
    """Drop a partition, with all else that is kept of its tasks.

    If something depends on it, its rows are deleted instead.

    Returns:
        Whether that was done. If not, somebody reads it, or another process drops one just now.
    """
    for model, column in OF_TASK.items():
        yield from _delete_beside(partition.place.outcomes, model._meta.db_table, column)
    try:
        return (yield from partitions.drop(partition, before))
    except InternalError as error:
        logger.warning(
            "%s could not be dropped, because something depends on it (%s). Its old rows are "
            "deleted instead. Drop the view that reads it, if it should be dropped.",
            partition.place.outcomes,
            str(error).strip(),
        )
    yield from _prune_by_statements(Outcome.State.SUCCEEDED, before, partition.place)
    return True


@contextmanager
def _unless_gone(partition: partitions.Partition) -> Iterator[None]:
    """Go on after this block if the partition is gone, because another process has dropped it.

    Any other `ProgrammingError`, such as a right that this role does not have, is logged, and this
    goes on too.
    """
    try:
        yield
    except ProgrammingError as error:
        if not db.is_not_migrated(error):
            tables = ", ".join(partition.place)
            logger.warning(
                "Old tasks stay in %s (%s). Make this role the owner of these tables, or grant it "
                "DELETE on them.",
                tables,
                str(error).strip(),
            )


def _delete_beside(outcomes: str, table: str, column: str) -> Iterator[int]:
    """Delete the rows of a table that are about tasks with an outcome in a partition."""
    sql = (
        f"WITH old AS MATERIALIZED (SELECT DISTINCT it.{column} AS id FROM {table} AS it "
        f"JOIN {outcomes} AS ended ON ended.task_id = it.{column} "
        # Twice, for the planner does not conclude the one from the other.
        f"WHERE it.{column} BETWEEN %s AND %s AND ended.task_id BETWEEN %s AND %s "
        "ORDER BY id LIMIT %s), "
        f"gone AS (DELETE FROM {table} USING old WHERE {table}.{column} = old.id) "
        "SELECT COUNT(*), MAX(id) FROM old"
    )
    [(first, last)] = db.fetch(f"SELECT MIN(task_id), MAX(task_id) FROM {outcomes}")
    while first is not None:
        [(count, done)] = db.fetch(sql, [first, last, first, last, BATCH_OF_STATEMENT])
        if not count:
            return
        first = done + 1
        yield count


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
