"""``Task.creator`` and ``CompletedTask.creator`` for models with any primary key."""

from __future__ import annotations

from typing import Any

from django.contrib.contenttypes.models import ContentType

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
        if row.creator_content_type_id is None or row.creator_object_id is not None:
            return self._generic.__get__(row, model)
        return creators.of(row)

    def __set__(self, row: Any, creator: Any) -> None:
        creators.check(creator, f"a row of {row.task_name or 'a task'}")
        creators.set_pending(row, None)
        if creator is None or creators.fits(creator.pk):
            self._generic.__set__(row, creator)
            return
        self._generic.__set__(row, None)
        row.creator_content_type = ContentType.objects.get_for_model(creator)
        creators.set_pending(row, creator)
