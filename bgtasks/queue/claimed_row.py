"""A row in a worker's hands, with what came with its claim."""

from __future__ import annotations

import json
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from background_task.models import Task

NO_OPTIONS: Mapping[str, Any] = MappingProxyType({})


class ClaimedRow:
    """A row that a worker has claimed, on its way to the run.

    It is a plain class with slots, because one is made for every row.

    Attributes:
        row: the row as the claim returned it.
        pk: the row's id, kept here because ``row.pk`` is slow.
        claimed_at: when the claim was sent to the database, in seconds of
            `bgtasks.clock.elapsed`. A row that has waited long since then is confirmed before it
            starts; one with 0.0 is confirmed in any case.
        options: the options of its call; see `bgtasks.models.CallOptions`.
        is_coroutine: whether the event loop runs it, and not a thread.
    """

    __slots__ = ("claimed_at", "is_coroutine", "options", "pk", "row")

    def __init__(
        self, row: Task, claimed_at: float = 0.0, options: Mapping[str, Any] = NO_OPTIONS
    ) -> None:
        self.row = row
        self.pk: int = row.pk
        self.claimed_at = claimed_at
        self.options = options
        self.is_coroutine = False


def read_options(text: str | None) -> dict[str, Any]:
    """Read a row's options from their text in the database; None gives an empty dict.

    A text that cannot be read gives the option ``broken`` with the reason. Then only the run of
    this row fails, and not the claim of a whole batch.
    """
    if text is None:
        return {}
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        return {"broken": str(error)}
    return found if isinstance(found, dict) else {"broken": "it is not a JSON object"}
