"""The runs of a row that did not succeed."""

from __future__ import annotations

from bgtasks.models import Attempt
from bgtasks.queue import database as db


def of(task_id: int, most: int) -> list[Attempt]:
    """The runs that did not succeed, among the first ``most`` of a row, in their order.

    Runs of an older row may stand under the same id, if the task table was emptied and its ids
    began anew. Each run of the row itself that did not succeed has been recorded later than those.
    So of each number, the last one counts.
    """
    if most < 1:
        return []
    found = Attempt.objects.using(db.alias()).filter(task_id=task_id, number__lte=most)
    if most >= db.MOST_ATTEMPTS:  # from there on, all runs have the same number
        return list(found.order_by("number", "pk"))
    return list({attempt.number: attempt for attempt in found.order_by("number", "pk")}.values())
