"""``Task.creator`` and ``CompletedTask.creator`` for models with any primary key."""

from __future__ import annotations

from copy import copy
from typing import Any

from django.contrib.contenttypes.models import ContentType
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
            return self._kept(row, creators.of)
        if creators.apart():
            return self._kept(row, creators.elsewhere)
        return self._generic.__get__(row, model)

    def _kept(self, row: Any, find: Any) -> Any:
        """What was found or prefetched before, if the row still names it; else what is found now.

        It stands where the generic foreign key keeps what it has found.
        """
        found = self._generic.get_cached_value(row, default=None)
        if found is None or not creators.is_named(row, found):
            found = find(row)
            self._generic.set_cached_value(row, found)
        return found

    def get_prefetch_querysets(self, instances: Any, querysets: Any = None) -> Any:
        """What Django's prefetch_related asks for."""
        generic = self._generic
        if creators.apart():
            # Django would look for the content types in the database of the rows.
            generic = copy(generic)
            generic.get_content_type = _content_type
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
            self._generic.set_cached_value(row, creator)
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
        row = hints.get("instance")
        if row is not None and creators.apart():
            hints = {}
        return super().get_queryset(**hints)
