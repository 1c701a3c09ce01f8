"""What one run of a row came to, before it is recorded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from background_task.models import Task

from bgtasks.models import Attempt
from bgtasks.tasks import policies


@dataclass(slots=True)
class Ending:
    """How a run ended.

    Attributes:
        row: the row, held by the claim that ran it.
        state: what the attempt came to; None is success.
        error: what to tell of a run that did not succeed, a traceback as a rule.
        delay: try again after this long; None is never.
        mark: where its start is marked (see `bgtasks.worker.shared_state`), if it is.
        result: what it returned, as JSON; None for None.
        exception: what it raised, as `bgtasks.serialize.remote_errors.describe` gives it.
        started_at: when this attempt began; None if it did not.
        cancelled: it is not wanted any more; `error` says why.
        options: what the row's call asked for; None if that was not read, empty for nothing.
        snoozed: it has not been run, as it were, and comes back after `delay`.
    """

    row: Task
    state: Attempt.State | None = None
    error: str = ""
    delay: timedelta | None = None
    mark: int | None = None
    result: str | None = None
    exception: str | None = None
    started_at: datetime | None = None
    cancelled: bool = False
    snoozed: bool = False
    options: Mapping[str, Any] | None = None

    @property
    def again(self) -> bool:
        return self.state is not None and self.delay is not None

    @property
    def succeeded(self) -> bool:
        return self.state is None and not self.cancelled

    @property
    def alone(self) -> bool:
        """Whether this must be recorded by itself, also where nobody listens."""
        plain = self.succeeded and not self.snoozed and self.row.repeat == 0
        return not plain or "then" in (self.options or {})


def stopped_run(row: Task, story: str) -> Ending:
    """The ending of a run that was made to end, and is not to blame: it runs again at once.

    Unless it must not run twice.
    """
    if policies.of(row.task_name).on_worker_lost == "fail":
        story += ' It is not run again, for it says on_worker_lost="fail".'
        return Ending(row, Attempt.State.STOPPED, f"Stopped: {story}")
    return Ending(row, Attempt.State.STOPPED, f"Stopped: {story}", timedelta(0))
