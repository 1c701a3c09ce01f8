"""Saving one row: with its creator, its notification, and only what was changed on the instance.

Instances of `Task` carry two attributes for this: the pending creator (see
`bgtasks.queue.creators`), and what the database has (see `bgtasks.queue.database`).
"""

from __future__ import annotations

from typing import Any

from background_task.models import Task
from django.db import DatabaseError, transaction
from django.db.models import Model

from bgtasks.queue import creators, notify
from bgtasks.queue import database as db

_SPECIFIC = {"force_insert", "force_update", "update_fields"}


def save(row: Task, *args: Any, **kwargs: Any) -> None:
    """Save a row. If the database has it already, only what was changed on this instance is saved.

    So a stale instance, for example that of an admin page of a minute ago, neither unlocks a row
    that runs by now nor inserts one again that has been finished.

    Raises:
        DatabaseError: the row was in the database and is gone.
    """
    row.locked_by = row.locked_by or None
    known = db.known(row)
    here = row.pk is not None and not row._state.adding and kwargs.get("using") in _homes(row)
    partly = bool(known and here and not any(args) and not _SPECIFIC & kwargs.keys())
    if partly:
        fields = row._meta.concrete_fields
        changed = [f.name for f in fields if _changed(row, known, f.attname)]
        # If nothing was changed, one column is saved, because save() sends no signals for none.
        kwargs["update_fields"] = changed or ["verbose_name"]
    try:
        _save_with_creator(row, *args, **kwargs)
    except DatabaseError as error:
        if partly and not Task.objects.filter(pk=row.pk).exists():
            raise DatabaseError(
                f"Task {row} (id {row.pk}) is not saved: it was finished or deleted meanwhile. "
                "Enqueue it again if it is still wanted."
            ) from error
        raise
    db.remember(row)
    if row.locked_by is None:
        notify.notify_workers()


def _save_with_creator(row: Task, *args: Any, **kwargs: Any) -> None:
    creator = creators.pending(row)
    if creator is None:
        Model.save(row, *args, **kwargs)
        return
    with transaction.atomic(using=kwargs.get("using") or db.alias()):
        Model.save(row, *args, **kwargs)
        creators.insert(row, creator)


def _homes(row: Task) -> set[str | None]:
    return {None, row._state.db}


def _changed(row: Task, known: dict[str, Any], name: str) -> bool:
    return name in row.__dict__ and (name not in known or row.__dict__[name] != known[name])
