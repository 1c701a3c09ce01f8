"""Inserting rows into the queue."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from hashlib import blake2b, sha1
from typing import Any

from background_task.models import Task
from django.db import transaction
from django.db.models import Field
from django.db.models.signals import post_save, pre_save
from django.utils import timezone

from bgtasks.exceptions import NotJSON
from bgtasks.queue import call_options, creators, deliveries, notify, saving, unique
from bgtasks.queue import database as db
from bgtasks.serialize import codec
from bgtasks.tasks.columns import repeat_seconds


def parameters(name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> str:
    """The arguments of a call as the text that a row keeps.

    Raises:
        NotJSON: an argument cannot be written as JSON; the message names it.
    """
    try:
        return codec.dumps((args, kwargs))
    except (TypeError, ValueError, RecursionError) as error:
        raise NotJSON(_complaint(name, args, kwargs, error)) from error


def _complaint(name: str, args: Sequence[Any], kwargs: Mapping[str, Any], error: Exception) -> str:
    arguments = {str(place): value for place, value in enumerate(args, 1)} | dict(kwargs)
    for place, value in arguments.items():
        try:
            codec.dumps(value)
        except (TypeError, ValueError, RecursionError) as reason:
            return (
                f"Argument {place} of {name} is of type {type(value).__name__}, which a row cannot "
                f"carry ({reason}). Pass what JSON knows (text, numbers, lists, dicts with text as "
                "keys), a date, a time, a timedelta, a Decimal or a UUID; of a model instance its "
                "primary key."
            )
    return f"The arguments of {name} cannot be written as JSON: {error}"


def fingerprint(name: str, params: str) -> str:
    """The ``task_hash`` of a call, made as upstream makes it."""
    return sha1((name + params).encode(), usedforsecurity=False).hexdigest()


def new_row(
    task_name: str,
    args: Any = None,
    kwargs: Mapping[str, Any] | None = None,
    run_at: datetime | None = None,
    priority: int = 0,
    queue: str | None = None,
    verbose_name: str | None = None,
    creator: Any = None,
    repeat: int | None = None,
    repeat_until: datetime | None = None,
    remove_existing_tasks: bool = False,
) -> Task:
    """Make a row without saving it.

    Args:
        remove_existing_tasks: delete the rows that wait for the same call in the same queue.

    Raises:
        NotJSON: an argument cannot be written as JSON.
        InvalidOption: ``repeat`` is no number of whole seconds.
    """
    args = () if args is None else args
    params = parameters(task_name, args, kwargs or {})
    row = Task(
        task_name=task_name,
        task_params=params,
        task_hash=fingerprint(task_name, params),
        priority=priority,
        run_at=timezone.now() if run_at is None else run_at,
        queue=queue,
        verbose_name=verbose_name,
        creator=creator,
        repeat=repeat_seconds(task_name, repeat),
        repeat_until=repeat_until,
    )
    if remove_existing_tasks:
        waiting(row.task_hash, queue).delete()
    return row


def serialise(task_hash: str) -> None:
    """Make whoever enqueues the same call wait until the current transaction has ended."""
    if db.on_postgresql():
        key = int.from_bytes(blake2b(task_hash.encode(), digest_size=8).digest(), signed=True)
        db.fetch("SELECT pg_advisory_xact_lock(%s)", [key])
    else:
        db.take_write_lock()


def waiting(task_hash: str, queue: str | None) -> Any:
    """The rows of one call in one queue that wait."""
    rows = Task.objects.using(db.alias()).filter(deliveries.waiting(), task_hash=task_hash)
    return rows.filter(queue=queue) if queue else rows.filter(queue__isnull=True)


def insert(row: Task, options: Mapping[str, Any] | None = None) -> Task:
    """Insert a row.

    Args:
        options: the options of the call; see `bgtasks.queue.call_options`.
    """
    if not options:
        saving.save(row, using=db.alias())
        return row
    call_options.announce(row, options)
    with transaction.atomic(using=db.alias()):
        saving.save(row, using=db.alias())
        call_options.insert(row, options)
    return row


def insert_unique(
    row: Task, key: str, options: Mapping[str, Any] | None = None
) -> tuple[Task, bool]:
    """Insert a row unless one with the same key waits or runs.

    Returns:
        The row that has the key now, and whether it is new.
    """
    while True:
        with transaction.atomic(using=db.alias()):
            task_id, is_ours = unique.take(key, row)
            if is_ours:
                row.pk = task_id
                call_options.announce(row, options or {})
                saving.save(row, using=db.alias(), force_insert=True)
                call_options.insert(row, options or {})
                return row, True
            if existing := unique.holder(task_id):
                return existing, False
        # The row that had the key ended just now. The next try finds its outcome.


# How many rows one statement inserts. More rows gain nothing, and cost memory.
CHUNK = 5000


def insert_many(
    like: Task, params: Sequence[str], options: Mapping[str, Any] | None = None
) -> list[Task]:
    """Insert rows that differ in their arguments only, all in one transaction.

    Args:
        like: an instance with what the rows have in common; it is not saved itself.
        params: the arguments of each row, as `parameters` gives them.
        options: the options of each call; see `bgtasks.queue.call_options`.

    Returns:
        The rows, in the order of the arguments.
    """
    pairs = [(each, fingerprint(like.task_name, each)) for each in params]
    common = {field.attname: getattr(like, field.attname) for field in _common_fields()}
    creator = creators.pending(like)
    using = db.alias()
    has_receivers = any(signal.has_listeners(Task) for signal in (pre_save, post_save))
    with transaction.atomic(using=using):
        if has_receivers or db.init_has_receivers():
            rows = [Task(**common, task_params=each, task_hash=hash_) for each, hash_ in pairs]
            for row in rows:
                if creator is not None:
                    row.creator = creator
                insert(row, options)
            return rows
        if options:
            pairs = [(call_options.with_mark(each), hash_) for each, hash_ in pairs]
        ids = [
            pk
            for start in range(0, len(pairs), CHUNK)
            for pk in _insert_chunk(like, pairs[start : start + CHUNK])
        ]
        rows = [
            db.stored(using, {**common, "id": pk, "task_params": each, "task_hash": task_hash})
            for pk, (each, task_hash) in zip(ids, pairs, strict=True)
        ]
        if creator is not None:
            creators.insert_many(rows, creator)
        call_options.insert_many(ids, options or {})
        notify.notify_workers()
    return rows


def _insert_chunk(like: Task, pairs: Sequence[tuple[str, str]]) -> list[int]:
    """Insert rows; returns their ids in the order of the pairs of arguments and hash."""
    fields = _common_fields()
    connection = db.connection()
    common = [field.get_db_prep_save(field.pre_save(like, True), connection) for field in fields]
    if db.on_postgresql():
        source = "unnest(%s::text[], %s::varchar[]) WITH ORDINALITY AS call(params, hash, place)"
        given: list[Any] = [list(column) for column in zip(*pairs, strict=True)]
    else:
        source = (
            "(SELECT json_extract(value, '$[0]') AS params, json_extract(value, '$[1]') AS hash, "
            "key AS place FROM json_each(%s)) AS call"
        )
        given = [json.dumps(pairs)]
    columns = ", ".join(str(field.column) for field in fields)
    ids = db.fetch(
        f"INSERT INTO {db.TASKS} (task_params, task_hash, {columns}) "
        f"SELECT params, hash, {', '.join(map(_typed, fields))} FROM {source} "
        "ORDER BY place RETURNING id",
        [*common, *given],
    )
    # The ids are given out in the order of the rows, but RETURNING promises no order.
    return sorted(pk for (pk,) in ids)


_VARYING = ("task_params", "task_hash")


def _common_fields() -> list[Field[Any, Any]]:
    return [f for f in Task._meta.concrete_fields if f.attname not in {"id", *_VARYING}]


def _typed(field: Field[Any, Any]) -> str:
    """The placeholder of a field's value, on PostgreSQL with its type.

    PostgreSQL needs the type of a NULL in a SELECT. The type is given without its length: a cast
    to varchar(255) would silently cut a longer text. The brackets are for the lowest number of a
    type, whose minus is applied after the cast without them.
    """
    type_ = str(field.db_type(db.connection())).partition("(")[0]
    return f"(%s)::{type_}" if db.on_postgresql() else "%s"


def insert_unless_waiting(
    row: Task, reschedule: bool, options: Mapping[str, Any] | None = None
) -> tuple[Task, bool]:
    """Insert a row unless one for the same call in the same queue waits already.

    Args:
        reschedule: give the row that waits the ``run_at`` and ``priority`` of the new one.

    Returns:
        The row that waits now, and whether it is the new one.
    """
    with transaction.atomic(using=db.alias()):
        serialise(row.task_hash)
        found = waiting(row.task_hash, row.queue)
        changes = {"run_at": row.run_at, "priority": row.priority, **deliveries.RECALLED}
        if reschedule and found.update(**changes):
            notify.notify_workers()
        existing = found.order_by("pk").first()
        return (existing, False) if existing else (insert(row, options), True)


def replace(row: Task, options: Mapping[str, Any] | None = None) -> Task:
    """Insert a row, and delete those that wait for the same call in the same queue."""
    with transaction.atomic(using=db.alias()):
        serialise(row.task_hash)
        waiting(row.task_hash, row.queue).delete()
        return insert(row, options)
