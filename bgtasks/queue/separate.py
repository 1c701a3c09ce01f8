"""The task tables in a database of their own, apart from that of the content types.

Upstream's tables have a foreign key to the table of content types, which is in another database
then. PostgreSQL could not make such a constraint, and on SQLite each insert would fail for it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from django.contrib.contenttypes.models import ContentType
from django.db import router
from django.db.models import ForeignKey

UPSTREAM = "background_task"


def drop_constraints(using: str, plan: Iterable[tuple[Any, bool]]) -> None:
    """Before a migrate: have upstream's tables made without constraints that lead elsewhere.

    Only if the project's router says that the database will not have the content types. All
    migrations of the process share the fields that are changed; `restore_fields` changes them back.

    Args:
        using: the database that is migrated.
        plan: the migrations, and whether each is undone.
    """
    restore_fields()  # a migrate that failed has not done it
    if router.allow_migrate_model(using, ContentType):
        return
    for migration, _ in plan:
        if migration.app_label != UPSTREAM:
            continue
        for field in _fields(migration.operations):
            if isinstance(field, ForeignKey) and _names_content_types(field):
                _changed.append((field, field.db_constraint))  # type: ignore[attr-defined]
                field.db_constraint = False  # type: ignore[attr-defined]


# The fields that are changed now, and what each had.
_changed: list[tuple[Any, bool]] = []


def restore_fields() -> None:
    """After a migrate: leave the migrations' fields as they were."""
    while _changed:
        field, had = _changed.pop()
        field.db_constraint = had


def _fields(operations: Iterable[Any]) -> Iterator[Any]:
    for operation in operations:
        yield from (field for _, field in getattr(operation, "fields", ()))
        if field := getattr(operation, "field", None):
            yield field


def _names_content_types(field: ForeignKey[Any, Any]) -> bool:
    model: Any = field.remote_field.model
    label = model if isinstance(model, str) else model._meta.label
    return bool(label.lower() == ContentType._meta.label_lower)
