"""All tasks that match a filter, in batches, however many they are."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from bgtasks.clock import elapsed
from bgtasks.operations import task_list
from bgtasks.operations.states import QUEUED, State
from bgtasks.operations.task_list import Filter
from bgtasks.queue import acting

# The states of what can be cancelled, and of what can be retried.
CANCELLABLE = frozenset(QUEUED)
RETRIABLE = frozenset({State.FAILED, State.CANCELLED})


# Up to how many tasks are counted, and the seconds that this may take.
MOST, SECONDS = 10_000, 0.5


def narrowed(wanted: Filter, states: frozenset[State]) -> Filter | None:
    """The filter for those that match and whose state is one of `states`; None: there are none."""
    possible = (wanted.states or frozenset(State)) & states
    return replace(wanted, states=possible) if possible else None


@dataclass(frozen=True)
class Count:
    """How many tasks match.

    Attributes:
        number: of those that were counted.
        more: there may be more: only so many were counted, or for so long.
    """

    number: int
    more: bool


def count(wanted: Filter, states: frozenset[State]) -> Count:
    """Count tasks that match, up to `MOST` and for about `SECONDS`: it never reads all of them."""
    if (chosen := narrowed(wanted, states)) is None:
        return Count(0, more=False)
    began, number, before = elapsed(), 0, None
    while True:
        ids, before = task_list.ids(chosen, before, min(2000, MOST - number))
        number += len(ids)
        if before is None or number >= MOST or elapsed() - began > SECONDS:
            return Count(number, more=before is not None)


def batches(wanted: Filter, states: frozenset[State]) -> Iterator[list[int]]:
    """The ids of the tasks that match, and whose state is one of `states`, a batch at a time.

    Tasks that are enqueued while this is iterated are not among them.
    """
    chosen, before = narrowed(wanted, states), None
    while chosen:
        ids, before = task_list.ids(chosen, before, acting.batch())
        if ids:
            yield ids
        if before is None:
            return
