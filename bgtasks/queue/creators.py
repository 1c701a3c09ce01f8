"""Who enqueued a row, also where their primary key is no integer.

Upstream's column for the creator's key holds integers. Any other key is stored in our table
`Creator`; the row's own columns then have the content type of the creator's model, and no key.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from background_task.models import CompletedTask, Task
from django.contrib.contenttypes.models import ContentType
from django.db import router
from django.db.models import Model, QuerySet

from bgtasks.exceptions import InvalidOption
from bgtasks.models import Creator, Outcome
from bgtasks.queue import database as db


def apart() -> bool:
    """Whether the task tables are written in another database than that of the content types.

    Then no relation leads from a row to its creator. Which database a row was read from does not
    matter: a replica has all tables.
    """
    return router.db_for_write(ContentType) != db.alias()


def content_type_of(row: Task | CompletedTask) -> ContentType | None:
    """The content type of the creator's model; None if there is none, or it is gone."""
    if row.creator_content_type_id is None:
        return None
    try:
        return ContentType.objects.get_for_id(row.creator_content_type_id)
    except ContentType.DoesNotExist:
        return None


LARGEST = 2**31 - 1  # the largest value of a PositiveIntegerField


def fits(key: Any) -> bool:
    """Whether a primary key fits into the row's own column."""
    return isinstance(key, int) and 0 <= key <= LARGEST


def check(creator: Any, name: str) -> None:
    """Refuse a creator that is no saved model instance, nor None.

    Args:
        name: what it is the creator of, for the error text.

    Raises:
        InvalidOption: it is such a one.
    """
    if creator is None:
        return
    if not isinstance(creator, Model):
        raise InvalidOption(
            f"creator of {name} is {creator!r}: give a model instance, such as a user. A user who "
            "is not logged in is none."
        )
    if creator.pk is None:
        raise InvalidOption(f"The creator {creator!r} of {name} is not saved yet: save it first.")


def pending(row: Any) -> Any:
    """A creator, set on an instance, whose key does not fit into the column; None if there is none.

    It is stored when the instance is saved.
    """
    return row.__dict__.get("_bgtasks_creator")


def set_pending(row: Any, creator: Model | None) -> None:
    """Keep on an instance, until it is saved, a creator whose key does not fit; None removes it."""
    if creator is None:
        row.__dict__.pop("_bgtasks_creator", None)
    else:
        row.__dict__["_bgtasks_creator"] = creator


def insert(row: Task, creator: Model) -> None:
    """Store the creator of a row that was just saved."""
    Creator.objects.using(db.alias()).update_or_create(
        pk=row.pk, defaults={"model": creator._meta.label_lower, "object_id": str(creator.pk)}
    )


def insert_many(rows: Sequence[Task], creator: Model) -> None:
    """Store one creator for many rows that were just saved."""
    about = {"model": creator._meta.label_lower, "object_id": str(creator.pk)}
    Creator.objects.using(db.alias()).bulk_create(
        [Creator(task_id=row.pk, **about) for row in rows],
        update_conflicts=True,
        unique_fields=["task_id"],
        update_fields=list(about),
    )


def copy(row: Task, following: Task) -> None:
    """Store the creator of a repeating row for its next run too."""
    if row.creator_content_type_id is None or row.creator_object_id is not None:
        return
    for found in Creator.objects.using(db.alias()).filter(pk=row.pk):
        Creator.objects.using(db.alias()).update_or_create(
            pk=following.pk, defaults={"model": found.model, "object_id": found.object_id}
        )


def of(row: Task | CompletedTask) -> Model | None:
    """The creator of a row, from our table `Creator`; None if there is none, or it was deleted."""
    task_id = row.pk
    if isinstance(row, CompletedTask):
        outcomes = Outcome.objects.using(db.alias()).filter(completed_id=row.pk)
        task_id = outcomes.values_list("pk", flat=True).first()
    found = Creator.objects.using(db.alias()).filter(pk=task_id).first()
    return _object(row, found and found.object_id)


def elsewhere(row: Task | CompletedTask) -> Model | None:
    """The creator of a row whose own columns have its key, if it is in another database."""
    return _object(row, row.creator_object_id)


def _object(row: Task | CompletedTask, key: Any) -> Model | None:
    content_type = content_type_of(row)
    model: Any = content_type and content_type.model_class()
    if key is None or model is None:
        return None
    creator: Model | None = model._default_manager.filter(pk=key).first()
    return creator


def is_named(row: Task | CompletedTask, creator: Model) -> bool:
    """Whether the row's own columns name this object, or only its model if they have no key."""
    if ContentType.objects.get_for_model(creator).pk != row.creator_content_type_id:
        return False
    key = row.creator_object_id
    return key is None or bool(creator._meta.pk.to_python(key) == creator.pk)


def created_by(rows: QuerySet[Any], creator: Model) -> QuerySet[Any]:
    """Those of the rows, waiting or completed, that this object enqueued."""
    content_type = ContentType.objects.get_for_model(creator)
    if fits(creator.pk):
        return rows.filter(creator_content_type=content_type, creator_object_id=creator.pk)
    # The row says, too, that its creator stands in our table: a row that does not may only have the
    # id of an older row, if the task table was emptied and its ids began anew.
    rows = rows.filter(creator_content_type=content_type, creator_object_id=None)
    ids = Creator.objects.filter(model=creator._meta.label_lower, object_id=str(creator.pk)).values(
        "pk"
    )
    if issubclass(rows.model, CompletedTask):
        return rows.filter(pk__in=Outcome.objects.filter(pk__in=ids).values("completed_id"))
    return rows.filter(pk__in=ids)
