"""The runs of a row that did not succeed.

Runs of an older row may stand under the same id, if the task table was emptied and its ids began
anew. Each run of the row itself that did not succeed has been recorded later than those. So of each
number, the last one counts.
"""

from __future__ import annotations

from django.db.models import QuerySet

from bgtasks.models import Attempt
from bgtasks.queue import database as db


def of(task_id: int, most: int) -> list[Attempt]:
    """The runs that did not succeed, among the first ``most`` of a row, in their order."""
    return _last_of_each_number(_recorded(task_id, most), most)


def count(task_id: int, most: int, state: Attempt.State) -> int:
    """How many of those runs ended in this state."""
    # No dates are fetched: one that Python cannot hold would make the whole fetch fail.
    found = _last_of_each_number(_recorded(task_id, most).only("number", "state"), most)
    return sum(attempt.state == state for attempt in found)


def _recorded(task_id: int, most: int) -> QuerySet[Attempt]:
    rows = Attempt.objects.using(db.alias()).filter(task_id=task_id, number__lte=most)
    return rows.order_by("number", "pk") if most >= 1 else rows.none()


def _last_of_each_number(rows: QuerySet[Attempt], most: int) -> list[Attempt]:
    if most >= db.MOST_ATTEMPTS:  # from there on, all runs have the same number
        return list(rows)
    return list({attempt.number: attempt for attempt in rows}.values())
