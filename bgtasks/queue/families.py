"""Which task enqueued which: the children of a task are those that its runs have enqueued.

A run collects the ids, and they are written when its ending is recorded. So to enqueue inside a
task costs no statement more, and the children of a run that was lost with its worker are unknown.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from bgtasks.models import Child
from bgtasks.queue import database as db
from bgtasks.queue.ending import Ending

CHILDREN = Child._meta.db_table


def write(endings: Sequence[Ending]) -> None:
    """Store what these runs have enqueued. Without children, no statement is executed."""
    pairs = [(child, each.row.pk) for each in endings for child in each.children]
    if not pairs:
        return
    if db.on_postgresql():
        source = "SELECT * FROM unnest(%s::bigint[], %s::bigint[])"
        params = [db.numbers(column) for column in zip(*pairs, strict=True)]
    else:
        parts = ", ".join(f"json_extract(value, '$[{place}]')" for place in (0, 1))
        source, params = f"SELECT {parts} FROM json_each(%s)", [json.dumps(pairs)]
    db.execute(
        f"INSERT INTO {CHILDREN} (task_id, parent_id) {source} WHERE true "
        "ON CONFLICT (task_id) DO UPDATE SET parent_id = excluded.parent_id",
        params,
    )


def parent_of(task_id: int) -> int | None:
    """The id of the task that enqueued this one; None: none did, or that is not known (yet)."""
    found = Child.objects.using(db.alias()).filter(pk=task_id)
    return found.values_list("parent_id", flat=True).first()


def children_of(task_id: int, most: int) -> list[int]:
    """The ids of the tasks that this one has enqueued, the first ones first.

    Args:
        most: how many at most.
    """
    found = Child.objects.using(db.alias()).filter(parent_id=task_id).order_by("pk")
    return list(found.values_list("pk", flat=True)[:most])
