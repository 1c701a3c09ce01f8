"""``Task.creator`` and ``CompletedTask.creator`` for models with any primary key."""

from __future__ import annotations

from typing import Any

from django.contrib.contenttypes.models import ContentType
from django.db.models.fields.related_descriptors import ForwardManyToOneDescriptor

from bgtasks.queue import creators
from bgtasks.queue import database as db


class Creator:
    """A descriptor that replaces upstream's generic foreign key.

    It uses that one for creators whose primary key fits into its column of integers.

    Args:
        generic: upstream's generic foreign key.
    """

    def __init__(self, generic: Any) -> None:
        self._generic = generic

    def __getattr__(self, name: str) -> Any:
        if name == "_generic":  # it is not set yet while `copy` or `pickle` makes an instance
            raise AttributeError(name)
        return getattr(self._generic, name)  # Django's prefetch_related, for example, reads some

    def __get__(self, row: Any, model: Any = None) -> Any:
        if row is None:
            return self
        if pending := creators.pending(row):
            return pending
        if row.creator_content_type_id is None:
            return self._generic.__get__(row, model)
        if row.creator_object_id is None:
            return creators.of(row)
        if creators.apart(row._state.db or db.alias()):
            return creators.elsewhere(row)
        return self._generic.__get__(row, model)

    def __set__(self, row: Any, creator: Any) -> None:
        creators.check(creator, f"a row of {row.task_name or 'a task'}")
        creators.set_pending(row, None)
        if creator is None:
            self._generic.__set__(row, None)
        elif not creators.fits(creator.pk):
            self._generic.__set__(row, None)
            row.creator_content_type_id = ContentType.objects.get_for_model(creator).pk
            creators.set_pending(row, creator)
        elif creators.apart(db.alias()):
            row.creator_content_type_id = ContentType.objects.get_for_model(creator).pk
            row.creator_object_id = creator.pk
        else:
            self._generic.__set__(row, creator)


class CreatorContentType(ForwardManyToOneDescriptor):
    """Replaces the descriptor of the foreign key to the content type, for ``row.x`` alone.

    Where the task tables have a database of their own, Django would look for the content type in
    that of the row.
    """

    def get_queryset(self, **hints: Any) -> Any:
        row = hints.get("instance")
        if row is not None and creators.apart(row._state.db or db.alias()):
            hints = {}
        return super().get_queryset(**hints)
