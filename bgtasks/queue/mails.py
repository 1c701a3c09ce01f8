"""Mails that wait to be sent."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from itertools import count

from django.utils import timezone

from bgtasks.models import Mail, Task
from bgtasks.queue import database as db
from bgtasks.queue import enqueue

# The task that sends a mail. Its only argument is the mail's id.
TASK = "bgtasks.mail.send"
MAILS = Mail._meta.db_table

# How many mails one transaction deletes: on SQLite it keeps every other writer waiting.
BATCH = 500
# How many characters of mails one statement inserts. PostgreSQL takes up to a gigabyte, and a mail
# may have many megabytes.
STATEMENT = 4 * 1024 * 1024


# The lowest id that `new_ids` gives, above all that the database has counted to from 1. On SQLite
# the database counts on from the highest of ours, where an older version stores a mail after us.
FIRST_ID = 2**61


def new_ids() -> Iterator[int]:
    """Ids for mails that are stored together: consecutive ones, from a random one on.

    They are known before the mails are stored, and cost no statement.
    """
    return count(FIRST_ID + secrets.randbelow(FIRST_ID))


def store(bodies: Mapping[int, str]) -> list[int]:
    """Insert mails, each under its id; returns the ids, in the order of the bodies."""
    now = timezone.now()
    rows = [Mail(pk=mail_id, body=body, created_at=now) for mail_id, body in bodies.items()]
    at_once = max(1, STATEMENT // max(map(len, bodies.values()), default=1))
    # Unlike save(), bulk_create() sends no signals.
    Mail.objects.using(db.alias()).bulk_create(rows, batch_size=at_once)
    return [row.pk for row in rows]


def body(mail_id: int) -> str | None:
    """The body of a mail as it was stored; None if there is no such mail."""
    found = Mail.objects.using(db.alias()).filter(pk=mail_id)
    return found.values_list("body", flat=True).first()


def remove(mail_id: int) -> None:
    db.execute(f"DELETE FROM {MAILS} WHERE id = %s", [mail_id])


def prune(age: timedelta) -> Iterator[int]:
    """Delete mails older than ``age`` whose task is gone: it failed for good, or was deleted.

    A mail whose task is still in the queue stays, however old it is.

    Yields:
        The number of mails deleted, after each batch.
    """
    old = Mail.objects.using(db.alias()).filter(created_at__lt=timezone.now() - age).order_by("pk")
    last = 0
    while batch := list(old.filter(pk__gt=last).values_list("pk", flat=True)[:BATCH]):
        last = batch[-1]
        waiting = _waiting(batch)
        if stray := [pk for pk in batch if pk not in waiting]:
            old.filter(pk__in=stray).order_by().delete()
            yield len(stray)


def _waiting(mail_ids: Sequence[int]) -> set[int]:
    """The ids of those mails that have a task in the queue."""
    hashes = {enqueue.fingerprint(TASK, enqueue.parameters(TASK, [pk], {})): pk for pk in mail_ids}
    rows = Task.objects.using(db.alias()).filter(task_hash__in=list(hashes))
    return {hashes[found] for found in rows.values_list("task_hash", flat=True)}
