"""A claimed row made ready to run: its function, its limit and its `CurrentTask`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from inspect import iscoroutinefunction
from typing import Any

from background_task.models import Task

from bgtasks import conf
from bgtasks.queue import call_options
from bgtasks.queue.claimed_row import ClaimedRow
from bgtasks.tasks import policies, registry
from bgtasks.tasks.current import CurrentTask, Reports


@dataclass(slots=True, eq=False)
class Run:
    """One attempt of a row, before it starts.

    Attributes:
        claimed: the row, with the options of its call.
        function: the task's function.
        limit: seconds that it may take; None for no limit.
        task: what the function finds as the current task.
        atomic: whether its success is recorded in the transaction of what it writes.
        cancels_itself: whether its function is a coroutine function, which is cancelled when its
            limit is over, and may clean up.
        on_begin: called when the function of an atomic run is about to be called: until then it may
            have waited for others.
    """

    claimed: ClaimedRow
    function: Callable[..., Any]
    limit: float | None
    task: CurrentTask
    atomic: bool = False
    cancels_itself: bool = False
    on_begin: Callable[[], None] | None = None

    def begin(self) -> None:
        """Let its time begin now: an atomic run may have had to wait until now."""
        self.task.begin(self.limit)
        if self.on_begin:
            self.on_begin()

    def ended_after(self) -> float | None:
        """Seconds after which its process is ended if it has not ended; None: it is not."""
        if self.limit and self.cancels_itself:
            return self.limit + conf.grace()
        return self.limit


class Runs:
    """Makes the runs of claimed rows: for workers, for tests, and for calls that run at once.

    Args:
        reports: takes the current tasks that have reported their progress.
        lonely: whether its worker runs one task at a time.
    """

    def __init__(self, reports: Reports | None = None, lonely: bool = False) -> None:
        self._reports = reports
        self._lonely = lonely
        self._found: dict[str, tuple[Callable[..., Any], float | None, bool, bool]] = {}

    def of(self, claimed: ClaimedRow, function: Callable[..., Any] | None = None) -> Run:
        """The run of a claimed row.

        Args:
            function: the task's function; None: the one that is registered. It is kept: later
                rows of the same task run the same one.

        Raises:
            KeyError: this process knows no task of that name.
        """
        name = claimed.row.task_name
        found = self._found.get(name)
        if found is None:
            function = function or registry.find(name).task_function
            policy = policies.of(name)
            cancels_itself = iscoroutinefunction(function)
            found = self._found[name] = function, policy.limit, policy.atomic, cancels_itself
        function, limit, atomic, cancels_itself = found
        limit = claimed.options.get("timeout") or limit
        lonely = self._lonely and not claimed.is_coroutine
        current = CurrentTask(claimed.row, limit, self._reports, lonely)
        return Run(claimed, function, limit, current, atomic, cancels_itself)


def claimed_here(row: Task) -> ClaimedRow:
    """A `ClaimedRow` of a row that was claimed without a `Frontier`: its options are read here."""
    return ClaimedRow(row, options=call_options.load(row))
