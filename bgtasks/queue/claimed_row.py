"""A row in a worker's hands, with what came with its claim."""

from __future__ import annotations

import json
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from background_task.models import CompletedTask, Task

from bgtasks.exceptions import BrokenRow
from bgtasks.serialize import codec

NO_OPTIONS: Mapping[str, Any] = MappingProxyType({})


class ClaimedRow:
    """A row that a worker has claimed, on its way to the run.

    It is a plain class with slots, because one is made for every row.

    Attributes:
        row: the row as the claim returned it.
        pk: the row's id, kept here because ``row.pk`` is slow: it finds out which column that is.
        claimed_at: when the claim was sent to the database, in seconds of
            `bgtasks.clock.elapsed`. A row that has waited long since then is confirmed before it
            starts; one with 0.0 is confirmed in any case.
        options: the options of its call; see `bgtasks.models.CallOptions`.
        due: when it was due, as the database writes a date; empty: that was not read.
        is_coroutine: whether the event loop runs it, and not a thread.
    """

    __slots__ = ("claimed_at", "due", "is_coroutine", "options", "pk", "row")

    def __init__(
        self,
        row: Task,
        claimed_at: float = 0.0,
        options: Mapping[str, Any] = NO_OPTIONS,
        due: str = "",
    ) -> None:
        self.row = row
        self.pk: int = row.id
        self.claimed_at = claimed_at
        self.options = options
        self.due = due
        self.is_coroutine = False


def arguments_of(row: Task | CompletedTask) -> tuple[list[Any], dict[str, Any]]:
    """The positional and the keyword arguments that a row carries.

    Raises:
        BrokenRow: they cannot be read.
    """
    try:
        return codec.load_call(row.task_params)
    except ValueError as error:
        raise BrokenRow(
            f"The arguments of task {row.task_name} (id {row.pk}) cannot be read: {error}. "
            "A row carries a JSON list of a list and a dict."
        ) from None


# With this begins the text of the arguments of a row that has options. JSON allows it there, so
# that a worker of upstream reads the arguments all the same.
MARK = " "
# This stands in options whose row has the mark. Those of versions before the mark do not have it.
MARKED = "marked"


def read_options(text: str | None, params: str) -> dict[str, Any]:
    """Read a row's options from their text in the database; None gives an empty dict.

    A text that cannot be read gives the option ``broken`` with the reason. Then only the run of
    this row fails, and not the claim of a whole batch.

    The table of options names a row by its id alone. If the task table was emptied and its ids
    began anew, there may be options of an older row: a row without the mark has none of its own.

    Args:
        params: the text of the row's arguments.
    """
    if text is None:
        return {}
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        return {"broken": str(error)}
    if not isinstance(found, dict):
        return {"broken": "it is not a JSON object"}
    return found if not found.pop(MARKED, False) or params.startswith(MARK) else {}
