"""Rows that wait for nobody: no worker lives, none serves their queue, or none knows the task.

That is the commonest mistake with a queue, so it is said wherever somebody may see it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.utils import timezone

from bgtasks.models import Worker
from bgtasks.operations.times import at
from bgtasks.queue import database as db
from bgtasks.queue import workers
from bgtasks.queue.indexes import FREE
from bgtasks.queue.pauses import NOT_PAUSED

# A row that is due counts when it has waited for so many seconds.
PATIENCE = 5.0
# Seconds that stand for a lease in the workers' table that makes no sense.
LEASE = 15.0
# How many of the waiting rows are searched. What nobody runs stays in the queue while the others
# are run, so it is found sooner or later.
AMONG = 10_000
COMMAND = "python manage.py process_tasks"


@dataclass(frozen=True)
class Unserved:
    """Rows that wait for nobody.

    Attributes:
        queue: their queue; empty for none.
        names: the names of their tasks; empty: those of all tasks in the queue.
        since: since when the first of them is due.
        reason: why nobody runs them, in a sentence.
        remedy: what to do, in a sentence.
    """

    queue: str
    names: tuple[str, ...]
    since: datetime
    reason: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.reason} {self.remedy}"


def unserved(patience: float = PATIENCE) -> list[Unserved]:
    """What waits for nobody, and why; empty if all that waits will be run.

    Args:
        patience: seconds for which a row must have been due.
    """
    there = serving()
    troubles = [trouble for worker in there for trouble in _troubles(worker)]
    due = _due(timezone.now() - timedelta(seconds=patience))
    if not due:
        return troubles  # what was sent to a fleet is not due any more
    if not there:
        first = min(since for _, _, since in due)
        return [Unserved("", (), first, "Tasks wait, and no worker runs.", f"Start `{COMMAND}`.")]
    return [*_queues(due, there), *_names(due, there), *troubles]


def _due(before: datetime) -> list[tuple[str, str, datetime]]:
    """The queue and the name of tasks that wait, and since when the first of each is due."""
    some = (
        f"SELECT queue, task_name, {db.date_or_null('run_at')} AS since FROM {db.TASKS} "
        f"WHERE {FREE} AND run_at <= %s AND {NOT_PAUSED} LIMIT {AMONG}"
    )
    sql = (
        f"SELECT COALESCE(queue, ''), task_name, MIN(since) FROM ({some}) AS due "
        "WHERE since IS NOT NULL GROUP BY 1, 2 ORDER BY 3"
    )
    rows = db.fetch(sql, [db.moment(before)])
    found = [(queue, name, db.read_date(since)) for queue, name, since in rows]
    return [(queue, name, since) for queue, name, since in found if since is not None]


def living() -> list[Worker]:
    """The workers whose lease has not run out."""
    names = [peer.name for peer in workers.peers("", LEASE) if peer.left is None or peer.left > 0]
    rows = Worker.objects.using(db.alias()).filter(pk__in=names)
    return list(rows.only("queues", "names", "status"))


def serving() -> list[Worker]:
    """The living workers that claim rows. Those of a fleet only run what a worker has sent them."""
    return [each for each in living() if "fleet" not in (each.status or {})]


def _troubles(worker: Worker) -> Iterator[Unserved]:
    """What a worker says that keeps it from its work."""
    for since, reason, remedy in (worker.status or {}).get("troubles", []):
        yield Unserved("", (), at(since), reason, remedy)


def _queues(
    due: Sequence[tuple[str, str, datetime]], there: Collection[Worker]
) -> Iterator[Unserved]:
    first: dict[str, datetime] = {}
    for queue, _, since in due:
        if not any(_serves(worker, queue) for worker in there):
            first.setdefault(queue, since)
    for queue, since in first.items():
        if queue:
            reason = f"Tasks wait in the queue {queue}, and no worker that runs serves it."
            remedy = f"Start `{COMMAND} --queue {queue}`, or a worker without --queue."
        else:
            reason = "Tasks without a queue wait, and each worker that runs serves some queue only."
            remedy = f"Start `{COMMAND}`, without --queue."
        yield Unserved(queue, (), since, reason, remedy)


def _names(
    due: Sequence[tuple[str, str, datetime]], there: Collection[Worker]
) -> Iterator[Unserved]:
    for queue, name, since in due:
        serving = [worker for worker in there if _serves(worker, queue)]
        if serving and not any(_knows(worker, name) for worker in serving):
            yield Unserved(
                queue,
                (name,),
                since,
                f"Tasks {name} wait, and no worker that runs knows this task.",
                "Restart the workers if the task is newer than they are. They import the tasks.py "
                "of each app in INSTALLED_APPS: if it is in another module, import it there.",
            )


def _serves(worker: Worker, queue: str) -> bool:
    return not worker.queues or queue in worker.queues


def _knows(worker: Worker, name: str) -> bool:
    return worker.names is None or name in worker.names
