"""When a row was enqueued: its table has no column for that, so workers note how far its ids are.

Every few seconds each worker looks which id was given out last. If that is another one than at its
look before, it notes the id and the moments of both looks. Nobody who enqueues does any of this.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.utils import timezone

from bgtasks.models import IdMark
from bgtasks.queue import database as db
from bgtasks.queue import partitions, sequences

MARKS = IdMark._meta.db_table
# Seconds between two looks of a worker.
EVERY = 5.0
# For how long marks are kept at most, for outcomes may be kept for ever.
LONGEST_KEPT = timedelta(days=90)
# How many rows one transaction deletes.
BATCH = 500
# A mark above the last id that was made so many seconds ago is from before the ids began anew. A
# younger one may have been made by another worker since this one has looked.
STALE = 60

_ADD = (
    f"INSERT INTO {MARKS} (task_id, at, after) SELECT %s, %s, %s "
    f"WHERE NOT EXISTS (SELECT 1 FROM {MARKS} WHERE task_id >= %s) ON CONFLICT DO NOTHING"
)


class IdWatch:
    """What one worker has seen of the ids."""

    def __init__(self) -> None:
        self._last: int | None = None
        self._looked_at: Any = None

    def look(self) -> None:
        """Note the last id that was given out, if it is another one than at the look before."""
        given_out, params = db.last_id(db.TASKS)
        ((last, now),) = db.fetch(f"SELECT {given_out}, {db.clock()}", params)
        if last != self._last:
            # No index spans the outcomes if they are in several tables. (A role that may not read
            # the sequence sees the highest id in the table instead, which falls when that row ends.
            # Such a role has no partitions, and nothing is done for it.)
            gone_back = self._last is not None and last < self._last
            if gone_back and partitions.place() != partitions.MAIN:
                sequences.lift(db.connection())
            db.execute(
                f"DELETE FROM {MARKS} WHERE task_id > %s AND {db.age('at')} > {STALE}", [last]
            )
            db.execute(_ADD, [last, now, self._looked_at, last])
        self._last, self._looked_at = last, now


@dataclass(frozen=True)
class Span:
    """Between which moments a row was enqueued. Both are by the database's clock.

    Attributes:
        after: None: not known.
        by: None: not known yet.
    """

    after: datetime | None
    by: datetime | None


def enqueued(task_id: int) -> Span:
    """When a row was enqueued, as far as the workers that ran then have seen it."""
    marks = IdMark.objects.using(db.alias())
    below = marks.filter(pk__lt=task_id).order_by("-pk").first()
    above = marks.filter(pk__gte=task_id).order_by("pk").first()
    after = [each for each in (below and below.at, above and above.after) if each]
    return Span(max(after, default=None), above.at if above else None)


def prune(age: timedelta | None) -> Iterator[int]:
    """Delete marks that are too old.

    Args:
        age: how long the outcomes are kept; None: for ever.

    Yields:
        The number of marks deleted, after each batch.
    """
    before = timezone.now() - min(age or LONGEST_KEPT, LONGEST_KEPT)
    old = IdMark.objects.using(db.alias()).filter(at__lt=before)
    while batch := list(old.values_list("pk", flat=True)[:BATCH]):
        IdMark.objects.using(db.alias()).filter(pk__in=batch).delete()
        yield len(batch)
