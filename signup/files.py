"""The names of uploads and of made files in the storage, and the sweep that deletes orphans.

Every file is named after the row that it belongs to. So the sweep can see which files have no
row: their process was killed before its transaction committed. Only the API of Django's storages
is used, never a path, because web and worker may run on hosts that share no disk.
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

# A file is written before the transaction commits that writes its row. A file of this age that has
# no row will never have one: no transaction takes so long.
GRACE = timedelta(hours=1)


def original_name(key: UUID) -> str:
    """The name of an upload. It is private, and removed when its pictures have been made."""
    return f"{ORIGINALS}/{key}"


def picture_name(key: UUID, size: int) -> str:
    return f"{PICTURES}/{key}_{size}.webp"


def report_name(key: UUID) -> str:
    return f"{REPORTS}/{key}.xlsx"


def names_of(work: Work) -> list[str]:
    """The names of all files that the storage may have for this row."""
    if isinstance(work, Avatar):
        return [original_name(work.pk), *(picture_name(work.pk, size) for size in Avatar.SIZES)]
    return [report_name(work.pk)]


def put(name: str, content: bytes | File) -> None:
    """Write a file under exactly this name. It replaces one that an earlier attempt has left.

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
    """Store an upload before the transaction inside, and delete it if that rolls back.

    If the connection dies during the commit, nobody knows whether the transaction was committed.
    So after any error the database is asked whether the row is there. If it does not answer, the
    file stays, and the sweep will delete it if it has no row.

    Yields:
        The primary key for the avatar's row.
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
            logger.warning("%s may be an orphan; if so, the sweep will delete it", name)
        else:
            if unclaimed:
                default_storage.delete(name)
        raise


def sweep() -> int:
    """Delete the files that have no row and are older than an hour.

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
            # The rows are read after the files were listed. So a row that commits in between is
            # seen, and its file is kept.
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
    except FileNotFoundError:  # its own process has deleted it meanwhile
        return default


def _batches(names: Iterable[str], size: int) -> Iterator[list[str]]:
    iterator = iter(names)
    while batch := list(islice(iterator, size)):
        yield batch
