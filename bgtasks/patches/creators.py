"""``Task.creator`` and ``CompletedTask.creator`` for models with any primary key."""

from __future__ import annotations

from copy import copy
from typing import Any

from django.contrib.contenttypes.models import ContentType
from django.db import router
from django.db.models.fields.related_descriptors import ForwardManyToOneDescriptor

from bgtasks.queue import creators


class Creator:
    """A descriptor that replaces upstream's generic foreign key.

    It uses that one for creators whose primary key fits into its column of integers.

    Args:
        generic: upstream's generic foreign key.
    """

    def __init__(self, generic: Any) -> None:
        self._generic = generic
        # Since Django 6.1, the descriptor is an object of its own. Before, it was the field itself.
        self._field = getattr(generic, "field", generic)

    def __getattr__(self, name: str) -> Any:
        if name in {"_generic", "_field"}:  # `copy` and `pickle` ask for them before they are set
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
            return self._kept(row, creators.of)
        if creators.apart():
            return self._kept(row, creators.elsewhere)
        return self._generic.__get__(row, model)

    def _kept(self, row: Any, find: Any) -> Any:
        """What was found or prefetched before, if the row still names it; else what is found now.

        It stands where the generic foreign key keeps what it has found.
        """
        found = self._field.get_cached_value(row, default=None)
        if found is None or not creators.is_named(row, found):
            found = find(row)
            self._field.set_cached_value(row, found)
        return found

    def get_prefetch_querysets(self, instances: Any, querysets: Any = None) -> Any:
        """What Django's prefetch_related asks for."""
        generic = self._generic
        if creators.apart():
            # Django would look for the content types in the database of the rows.
            generic, field = copy(generic), copy(self._field)
            field.get_content_type = _content_type
            if self._field is self._generic:
                generic = field
            else:
                generic.field = field
        return generic.get_prefetch_querysets(instances, querysets)

    def __set__(self, row: Any, creator: Any) -> None:
        creators.check(creator, f"a row of {row.task_name or 'a task'}")
        creators.set_pending(row, None)
        if creator is None:
            self._generic.__set__(row, None)
        elif not creators.fits(creator.pk):
            self._generic.__set__(row, None)
            row.creator_content_type_id = ContentType.objects.get_for_model(creator).pk
            creators.set_pending(row, creator)
        elif creators.apart():
            row.creator_content_type_id = ContentType.objects.get_for_model(creator).pk
            row.creator_object_id = creator.pk
            self._field.set_cached_value(row, creator)
        else:
            self._generic.__set__(row, creator)


def _content_type(using: Any = None, **about: Any) -> ContentType:
    """``GenericForeignKey.get_content_type`` that looks in the database of the content types."""
    if key := about.get("id"):
        return ContentType.objects.get_for_id(key)
    return ContentType.objects.get_for_model(about["model"])


class CreatorContentType(ForwardManyToOneDescriptor):
    """Replaces the descriptor of the foreign key to the content type, for ``row.x`` alone.

    Where the task tables have a database of their own, Django would look for the content type in
    that of the row.
    """

    def get_queryset(self, **hints: Any) -> Any:
        rows = super().get_queryset(**hints)
        return rows.using(router.db_for_read(ContentType)) if creators.apart() else rows
