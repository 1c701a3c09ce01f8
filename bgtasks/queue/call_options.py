"""What single calls asked for, beside their rows: a limit, an expiry, what follows, a phase."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from background_task.models import Task
from django.db import DataError, transaction

from bgtasks.models import CallOptions
from bgtasks.queue import database as db
from bgtasks.queue.claimed_row import read_options


def insert(row: Task, options: Mapping[str, Any]) -> None:
    """Write the options of a new row; nothing for none."""
    if options:
        _upsert(row.pk, options)


def _upsert(task_id: int, options: Mapping[str, Any]) -> None:
    db.execute(
        # A row of the same id may have had options before the table was remade.
        f"INSERT INTO {db.OPTIONS} (task_id, options) VALUES (%s, %s) "
        "ON CONFLICT (task_id) DO UPDATE SET options = excluded.options",
        [task_id, json.dumps(options)],
    )


def load(row: Task) -> dict[str, Any]:
    """The options of a row, from the database. A `ClaimedRow` has them already."""
    found = CallOptions.objects.using(db.alias()).filter(pk=row.pk)
    return read_options(found.values_list("options", flat=True).first())


def keep_slot(row: Task) -> None:
    """Remember when a repeating row was due, before it is given another time.

    Its next run is counted from there: a retry does not move all later ones.
    """
    if row.repeat <= 0:
        return
    try:
        with transaction.atomic(using=db.alias()):  # a date may fail to be fetched
            if "slot" not in (options := load(row)):
                _upsert(row.pk, {**options, "slot": row.run_at.isoformat()})
    except (ArithmeticError, ValueError, AttributeError, DataError, Task.DoesNotExist):
        return  # what has no date has no phase


def slot(row: Task) -> datetime:
    """When a repeating row was due in the first place."""
    kept = load(row).get("slot")
    return datetime.fromisoformat(kept) if kept else row.run_at
