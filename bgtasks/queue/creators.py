"""Who enqueued a row, also where their primary key is no integer.

The tasks' table has a column of integers for it. Other keys go into a table of ours, with the
model's content type in the row's own column.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from background_task.models import CompletedTask, Task
from django.contrib.contenttypes.models import ContentType
from django.db.models import Model, QuerySet

from bgtasks.models import Creator, Outcome
from bgtasks.queue import database as db

LARGEST = 2**31 - 1  # of a PositiveIntegerField


def fits(key: Any) -> bool:
    """Whether a primary key fits into the row's own column."""
    return isinstance(key, int) and 0 <= key <= LARGEST


def pending(row: Any) -> Any:
    """A creator that was set on an instance and fits no column; it is written with the row."""
    return row.__dict__.get("_bgtasks_creator")


def set_pending(row: Any, creator: Model | None) -> None:
    """Keep such a creator on an instance until that is saved; None: there is none."""
    if creator is None:
        row.__dict__.pop("_bgtasks_creator", None)
    else:
        row.__dict__["_bgtasks_creator"] = creator


def insert(row: Task, creator: Model) -> None:
    """Write who enqueued a row that was just saved."""
    Creator.objects.using(db.alias()).update_or_create(
        pk=row.pk, defaults={"model": creator._meta.label_lower, "object_id": str(creator.pk)}
    )


def insert_many(rows: Sequence[Task], creator: Model) -> None:
    """The same for many rows."""
    about = {"model": creator._meta.label_lower, "object_id": str(creator.pk)}
    Creator.objects.using(db.alias()).bulk_create(
        [Creator(task_id=row.pk, **about) for row in rows],
        update_conflicts=True,
        unique_fields=["task_id"],
        update_fields=list(about),
    )


def copy(row: Task, following: Task) -> None:
    """Write the same creator for the next run of a repeating row."""
    if row.creator_content_type_id is None or row.creator_object_id is not None:
        return
    for found in Creator.objects.using(db.alias()).filter(pk=row.pk):
        Creator.objects.using(db.alias()).update_or_create(
            pk=following.pk, defaults={"model": found.model, "object_id": found.object_id}
        )


def of(row: Task | CompletedTask) -> Model | None:
    """The creator of a row whose own column cannot name it; None if it is gone."""
    task_id = row.pk
    if isinstance(row, CompletedTask):
        outcomes = Outcome.objects.using(db.alias()).filter(completed_id=row.pk)
        task_id = outcomes.values_list("pk", flat=True).first()
    found = Creator.objects.using(db.alias()).filter(pk=task_id).first()
    model = row.creator_content_type and row.creator_content_type.model_class()
    if found is None or model is None:
        return None
    creator: Model | None = model._default_manager.filter(pk=found.object_id).first()
    return creator


def created_by(rows: QuerySet[Any], creator: Model) -> QuerySet[Any]:
    """Of rows, waiting or completed, those that this object enqueued."""
    if fits(creator.pk):
        content_type = ContentType.objects.get_for_model(creator)
        return rows.filter(creator_content_type=content_type, creator_object_id=creator.pk)
    ids = Creator.objects.filter(model=creator._meta.label_lower, object_id=str(creator.pk)).values(
        "pk"
    )
    if issubclass(rows.model, CompletedTask):
        return rows.filter(pk__in=Outcome.objects.filter(pk__in=ids).values("completed_id"))
    return rows.filter(pk__in=ids)
