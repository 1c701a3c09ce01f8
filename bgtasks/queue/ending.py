"""What one run of a row came to, until it is recorded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
        state: how the attempt failed; None: it did not fail.
        error: the text kept for a run that did not succeed: a traceback as a rule.
        delay: how long until the row is tried again; None: it is not.
        mark: where the start of the run is marked (see `bgtasks.worker.shared_state`), if it is.
        result: what the function returned, as JSON; None for None.
        exception: what it raised, as `bgtasks.serialize.remote_errors.describe` gives it.
        started_at: when this attempt began; None if it did not begin.
        cancelled: the row ends without success and is not tried again; `error` says why.
        options: the options of the row's call; None: they were not read.
        snoozed: this run is not counted as an attempt, and the row is ready again after `delay`.
        waited: for how many seconds the row was due when it started; None: that is not known.
        ran: for how many seconds it ran; None: that is not known.
        is_logged: the log has said already how this run ended.
        children: the ids of the tasks that this run has enqueued.
        recorded: True: it is recorded, in the transaction of its run; False: it cannot be, as our
            claim did not hold the row any more; None: it waits to be recorded.
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
    waited: float | None = None
    ran: float | None = None
    is_logged: bool = False
    children: Sequence[int] = ()
    recorded: bool | None = None

    @property
    def again(self) -> bool:
        return self.state is not None and self.delay is not None

    @property
    def succeeded(self) -> bool:
        return self.state is None and not self.cancelled

    @property
    def alone(self) -> bool:
        """Whether this must be recorded in a transaction of its own, even without receivers."""
        plain = self.succeeded and not self.snoozed and self.row.repeat == 0
        return not plain or "then" in (self.options or {})


def stopped_run(row: Task, story: str) -> Ending:
    """The ending of a run that the worker ended though the run did no wrong.

    The row runs again at once, unless its task says ``on_worker_lost="fail"``.

    Args:
        story: why the run was ended, as a sentence.
    """
    if policies.of(row.task_name).on_worker_lost == "fail":
        story += ' It is not run again, for it says on_worker_lost="fail".'
        return Ending(row, Attempt.State.STOPPED, f"Stopped: {story}")
    return Ending(row, Attempt.State.STOPPED, f"Stopped: {story}", timedelta(0))
