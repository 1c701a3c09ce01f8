"""A row in a worker's hands, with what came with its claim."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from background_task.models import Task


@dataclass(slots=True, eq=False)
class ClaimedRow:
    """A row that a worker has claimed, on its way to the run.

    Attributes:
        row: as the claim returned it.
        claimed_at: when the claim was asked for, by `bgtasks.clock.elapsed`. A row that has waited
            long since then is confirmed before it starts; 0.0: confirm it in any case.
        options: what its call asked for besides; see `bgtasks.models.CallOptions`.
        is_coroutine: whether the event loop runs it, and not a thread.
    """

    row: Task
    claimed_at: float = 0.0
    options: Mapping[str, Any] = field(default_factory=dict)
    is_coroutine: bool = False

    @property
    def pk(self) -> int:
        return int(self.row.pk)


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
