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

    One is made for every row, so that it is a plain class with slots.

    Attributes:
        row: as the claim returned it.
        pk: the row's id; Django's own attribute is slow to ask for.
        claimed_at: when the claim was asked for, by `bgtasks.clock.elapsed`. A row that has waited
            long since then is confirmed before it starts; 0.0: confirm it in any case.
        options: what its call asked for besides; see `bgtasks.models.CallOptions`.
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
    """The options that a row has, from their text in the database; empty for None.

    What cannot be read becomes the option ``broken``: the run fails for it, and no other row's.
    """
    if text is None:
        return {}
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        return {"broken": str(error)}
    return found if isinstance(found, dict) else {"broken": "it is not a JSON object"}
