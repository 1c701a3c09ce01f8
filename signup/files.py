"""Where uploads and made files stand in the storage, and who sweeps up after a kill.

Every file is named after the row that it belongs to, so a file without its row can be
told from one that is in use. Only the storage's own API is used, never a path: web and
worker may share no disk.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from itertools import islice
from uuid import UUID, uuid4

from django.core.files.base import ContentFile, File
from django.core.files.storage import default_storage
from django.db import Error
from django.utils import timezone

from signup.models import Avatar, Report, Work

logger = logging.getLogger(__name__)

ORIGINALS = "originals"
PICTURES = "pictures"
REPORTS = "reports"

# A file is written before the transaction that names it commits. After this long its
# transaction is not merely slow: nobody will ever name it.
GRACE = timedelta(hours=1)


def original_name(key: UUID) -> str:
    """The upload as it came: private, and removed once the pictures made from it stand."""
    return f"{ORIGINALS}/{key}"


def picture_name(key: UUID, size: int) -> str:
    return f"{PICTURES}/{key}_{size}.webp"


def report_name(key: UUID) -> str:
    return f"{REPORTS}/{key}.xlsx"


def names_of(work: Work) -> list[str]:
    """Every file that may stand in the storage for this row."""
    if isinstance(work, Avatar):
        return [original_name(work.pk), *(picture_name(work.pk, size) for size in Avatar.SIZES)]
    return [report_name(work.pk)]


def put(name: str, content: bytes | File) -> None:
    """Write a file under exactly this name, in place of one left by an earlier attempt.

    Raises:
        FileExistsError: another process wrote the same name at the same moment.
    """
    default_storage.delete(name)
    content = ContentFile(content) if isinstance(content, bytes) else content
    stored = default_storage.save(name, content)
    if stored != name:
        default_storage.delete(stored)
        raise FileExistsError(f"{name} was written by another process; nothing was changed.")


def discard(names: Iterable[str]) -> None:
    """Delete files; one that is not there is no error."""
    for name in names:
        default_storage.delete(name)


@contextmanager
def uploaded(content: File) -> Iterator[UUID]:
    """Store an upload for the transaction inside; take it back if that rolls back.

    Yields:
        The key for the avatar that is to claim it.

    A connection may die during the commit, with no word whether it went through. So the
    database is asked; where it cannot answer, the file is left to the sweep.
    """
    key = uuid4()
    name = original_name(key)
    put(name, content)
    try:
        yield key
    except BaseException:
        try:
            unclaimed = not Avatar.objects.filter(pk=key).exists()
        except Error:
            logger.warning("%s may be an orphan; the sweep will tell in an hour", name)
        else:
            if unclaimed:
                default_storage.delete(name)
        raise


def sweep() -> int:
    """Delete the files that no row claims and that are older than an hour.

    Returns:
        How many were deleted.
    """
    pending = Avatar.objects.filter(state=Avatar.State.PENDING)
    swept = 0
    for folder, rows in (
        (ORIGINALS, pending),
        (PICTURES, Avatar.objects.exclude(state=Avatar.State.FAILED)),
        (REPORTS, Report.objects.exclude(state=Report.State.FAILED)),
    ):
        for batch in _batches(_files(folder), 500):
            keys = {key for name in batch if (key := _key(name))}
            # The listing comes first, the rows second: a row that commits between the
            # two is seen, and its file kept.
            claimed = set(rows.filter(pk__in=keys).values_list("pk", flat=True))
            swept += _delete_old(name for name in batch if _key(name) not in claimed)
    return swept


def _files(folder: str) -> list[str]:
    try:
        _, files = default_storage.listdir(folder)
    except FileNotFoundError:  # nothing was ever stored there
        return []
    return [f"{folder}/{name}" for name in files]


def _key(name: str) -> UUID | None:
    try:
        return UUID(name.rpartition("/")[2][:36])
    except ValueError:
        return None


def _delete_old(names: Iterable[str]) -> int:
    limit = timezone.now() - GRACE
    old = [name for name in names if _modified(name, default=limit) < limit]
    discard(old)
    for name in old:
        logger.info("swept %s: no row claims it", name)
    return len(old)


def _modified(name: str, default: datetime) -> datetime:
    try:
        return default_storage.get_modified_time(name)
    except FileNotFoundError:  # its transaction took it back meanwhile
        return default


def _batches(names: Iterable[str], size: int) -> Iterator[list[str]]:
    iterator = iter(names)
    while batch := list(islice(iterator, size)):
        yield batch
