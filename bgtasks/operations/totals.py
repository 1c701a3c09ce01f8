"""How many runs have ended since the counters began. These numbers never go down."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from bgtasks.models import CELLS, HISTOGRAMS, SUMS
from bgtasks.queue import database as db
from bgtasks.queue.counters import COUNTERS, ENDINGS, TOTAL

# Of how many tasks, each in each of its queues, the totals are read at most.
MOST = 1_000


@dataclass(frozen=True)
class Histogram:
    """How long runs took, or waited.

    Attributes:
        cells: how many fell into each cell; see `bgtasks.models.Counter`.
        sum: of all of them, in seconds.
    """

    cells: tuple[int, ...]
    sum: float


@dataclass(frozen=True)
class Total:
    """The runs of a task in a queue.

    Attributes:
        queue: "" for none.
        name: the task's.
        endings: how many there were of each of `bgtasks.queue.counters.ENDINGS`.
    """

    queue: str
    name: str
    endings: dict[str, int]
    waited: Histogram
    ran: Histogram


def totals() -> list[Total]:
    """The totals by queue and task."""
    columns = ", ".join(["queue", "name", *ENDINGS, *SUMS, *HISTOGRAMS])
    rows = db.fetch(
        f"SELECT {columns} FROM {COUNTERS} WHERE width = {TOTAL} AND start = 0 "
        f"ORDER BY queue, name LIMIT {MOST}"
    )
    return [_total(queue, name, counted) for queue, name, *counted in rows]


def _total(queue: str, name: str, counted: list[Any]) -> Total:
    endings, rest = counted[: len(ENDINGS)], counted[len(ENDINGS) :]
    (waited, ran), cells = rest[: len(SUMS)], rest[len(SUMS) :]
    return Total(
        queue,
        name,
        dict(zip(ENDINGS, endings, strict=True)),
        Histogram(tuple(cells[:CELLS]), waited),
        Histogram(tuple(cells[CELLS:]), ran),
    )
