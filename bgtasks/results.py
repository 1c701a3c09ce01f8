"""What became of a call: its state, what it returned or raised, how far it has come."""

from __future__ import annotations

from functools import partial
from typing import Any

from asgiref.sync import sync_to_async

from bgtasks.clock import elapsed
from bgtasks.exceptions import NotRetried, ResultTimeout, TaskRevoked, UnknownResult, WouldBlock
from bgtasks.logs import get_logger
from bgtasks.models import CompletedTask, Outcome, Worker
from bgtasks.queue import database as db
from bgtasks.queue import outcomes, progress, retrying
from bgtasks.queue.listen import listener, wait_for_change
from bgtasks.queue.notify import ENDED_CHANNEL
from bgtasks.serialize import remote_errors
from bgtasks.tasks.current import Progress, current_task
from bgtasks.waiters.thread import waiting_for

logger = get_logger(__name__)

PENDING, STARTED, SUCCESS, FAILURE = "PENDING", "STARTED", "SUCCESS", "FAILURE"
# The first and the longest poll interval, in seconds, of who waits for a result. The database is
# asked even without a notification, for one may be lost.
FIRST_POLL, LONGEST_POLL = 0.05, 1.0
# The poll interval of a coroutine, in seconds. `bgtasks.waiters` wakes it when the task has ended;
# it polls only to find out whether the row was deleted.
COROUTINE_POLL = 5.0


class AsyncResult:
    """The result of a call, which may still be to come. Each access reads it from the database.

    Args:
        id: the id of the row that the call inserted, as a number or as text; or the row itself.

    Raises:
        UnknownResult: ``id`` is no number, or a completed row, which has an id of its own.
    """

    def __init__(self, id: int | str | Any) -> None:  # noqa: A002
        if isinstance(id, CompletedTask):
            raise UnknownResult(
                "A completed row has an id of its own. The task's is that of its Outcome: "
                f"Outcome.objects.get(completed_id={id.pk}).task_id"
            )
        try:
            # A dialect may have an id of another type.
            self.id = self._row_id = int(getattr(id, "pk", id))
        except (TypeError, ValueError):  # it may come from a URL
            raise UnknownResult(f"There is no task {id!r}: the ids are numbers.") from None

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {self.id}>"

    def __str__(self) -> str:
        """The id, so that a result that is stored as a text is found again by that text."""
        return str(self.id)

    def __eq__(self, other: object) -> bool:
        """Whether the other is a result with the same id, or that id itself."""
        if isinstance(other, AsyncResult):
            return self.id == other.id
        return self.id == other if isinstance(other, type(self.id)) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.id)

    def _find(self) -> outcomes.State:
        state = outcomes.find(self._row_id)
        if state is None:
            raise UnknownResult(
                f"There is no task {self.id}, nor an outcome of it. It was never committed, or its "
                "row was deleted, or its outcome was pruned (BGTASKS_RETENTION says when)."
            )
        return state

    @property
    def status(self) -> str:
        """PENDING (also: to be tried again), STARTED (a worker has it), SUCCESS or FAILURE.

        Raises:
            UnknownResult: there is no such task, or not any more. So do all members below, but
                for `progress`, `revoke` and `forget`.
        """
        return _status(self._find())

    @property
    def attempts(self) -> int:
        """How many runs there were, with the one under way."""
        return self._find().attempts

    @property
    def result(self) -> Any:
        """What the task returned, or the exception that it raised; None until it has ended.

        Raises:
            UnreadableResult: what is stored of the result cannot be read.
        """
        state = self._find()
        return None if state.outcome is None else _taken(state, propagate=False)

    @property
    def traceback(self) -> str | None:
        """The text that is kept of a failure, as a rule a traceback; None if it has not failed."""
        state = self._find()
        return outcomes.story(state.completed_id) if _status(state) == FAILURE else None

    @property
    def progress(self) -> Progress | None:
        """The progress that the task has reported last; None if it has reported none."""
        return progress.read(self._row_id)

    def ready(self) -> bool:
        """Whether the task has ended."""
        return self._find().outcome is not None

    def successful(self) -> bool:
        return self.status == SUCCESS

    def failed(self) -> bool:
        """Whether the task has failed for good, or was cancelled."""
        return self.status == FAILURE

    def cancelled(self) -> bool:
        """Whether the task was revoked, expired, or cancelled itself. `failed` is true then too."""
        return self._find().outcome == Outcome.State.CANCELLED

    def get(self, timeout: float | None = None, propagate: bool = True) -> Any:
        """Wait until the task has ended, and return what it returned.

        Args:
            timeout: seconds to wait at most; None: for ever.
            propagate: raise what the task raised, with the worker's traceback as its cause;
                else return the exception.

        Raises:
            ResultTimeout: it has not ended in time.
            TaskFailed: it failed, and its own exception cannot be made here.
            TaskRevoked: it was revoked, expired, or cancelled itself.
            UnreadableResult: it succeeded, and what is stored of its result cannot be read.
            WouldBlock: the call would wait for ever, because it is inside a transaction, or
                inside a task that has the only worker.
            UnknownResult: there is no such task.
        """
        until = None if timeout is None else elapsed() + timeout
        state = _find_or_refuse(self)
        if state.outcome is None:
            state = _wait(self, until, timeout)
        return _taken(state, propagate)

    async def aget(self, timeout: float | None = None, propagate: bool = True) -> Any:
        """Like `get`, for coroutines: the event loop goes on, and takes no thread for waiting."""
        until = None if timeout is None else elapsed() + timeout
        find = sync_to_async(partial(_find_or_refuse, self))
        if (state := await find()).outcome is None:
            with waiting_for(self._row_id) as waiter:
                while (state := await find()).outcome is None:
                    left = COROUTINE_POLL if until is None else until - elapsed()
                    if left <= 0:
                        raise await sync_to_async(_too_late)(self.id, state, timeout)
                    await waiter.wait(min(left, COROUTINE_POLL))
        return await sync_to_async(_taken)(state, propagate)

    def revoke(self, terminate: bool = False) -> bool:
        """Cancel the task, unless it has ended or a worker has it.

        Args:
            terminate: cancel it also if a worker has it. A coroutine is cancelled there. A plain
                function is ended with its process, after other tasks in that process have had the
                grace period to end.

        Returns:
            Whether the task was cancelled. If so, its outcome says so from now on.
        """
        return outcomes.revoke(self._row_id, terminate)

    def retry(self, by: str = "") -> AsyncResult:
        """Enqueue the task again, which has failed or was cancelled, to run now.

        Its outcome stays. A task is retried once; retry the new one if that fails too.

        Args:
            by: who does it, for the log of actions.

        Returns:
            The result of the new task, which has the same arguments and options.

        Raises:
            NotRetried: it cannot be retried, or was retried before; the message says why.
        """
        retried = retrying.retry([self._row_id], by)
        if reason := retried.refused.get(self._row_id):
            raise NotRetried(f"Task {self.id} is not retried: {reason}.")
        return type(self)(retried.ids[self._row_id])

    def forget(self) -> bool:
        """Delete what is kept of the task, if it has ended. By age it would be pruned anyway.

        Returns:
            Whether there was something to delete.
        """
        return outcomes.forget(self._row_id)


def _find_or_refuse(result: AsyncResult) -> outcomes.State:
    """The state of the task.

    Raises:
        UnknownResult: there is no such task.
        WouldBlock: the task has not ended, and would not end while somebody waits here.
    """
    state = result._find()
    if state.outcome is None:
        _refuse_to_block(result)
    return state


def _wait(result: AsyncResult, until: float | None, timeout: float | None) -> outcomes.State:
    listening = listener(ENDED_CHANNEL)
    wait = FIRST_POLL
    try:
        listening.prepare()  # before the first read: what ends after that is notified
        while (state := result._find()).outcome is None:
            left = wait if until is None else min(wait, until - elapsed())
            if left <= 0:
                raise _too_late(result.id, state, timeout)
            changed = listening.prepare() or wait_for_change(listening, left)
            if not (changed and listening.is_told):
                if (
                    wait < LONGEST_POLL <= wait * 2
                    and not Worker.objects.using(db.alias()).exists()
                ):
                    logger.warning("get() waits for task %s. %s", result.id, _workers())
                wait = min(LONGEST_POLL, wait * 2)
        return state
    finally:
        listening.close()


def _taken(state: outcomes.State, propagate: bool) -> Any:
    if state.outcome == Outcome.State.SUCCEEDED:
        return outcomes.value(state.task_id, state.result)
    error = _error(state)
    if propagate:
        raise error
    return error


def _too_late(task_id: int, state: outcomes.State, timeout: float | None) -> ResultTimeout:
    text = f"Task {task_id} has not ended within {timeout} s; it is {_status(state)}"
    if state.running:
        return ResultTimeout(f"{text}: a worker has it.")
    if state.attempts:
        return ResultTimeout(
            f"{text}: attempt {state.attempts} did not succeed "
            f"({outcomes.trouble(task_id)}), and it waits to be tried again."
        )
    return ResultTimeout(f"{text}, and was not tried yet. {_workers()}")


def _workers() -> str:
    """A sentence for error texts: whether any worker runs."""
    if Worker.objects.using(db.alias()).exists():
        return (
            "The workers that run are busy, serve other queues, or do not know it, which they do "
            "if a tasks.py imports its module."
        )
    return "No worker runs: start `manage.py process_tasks`."


def _status(state: outcomes.State) -> str:
    if state.outcome is None:
        return STARTED if state.running else PENDING
    return SUCCESS if state.outcome == Outcome.State.SUCCEEDED else FAILURE


def _error(state: outcomes.State) -> Exception:
    text = outcomes.story(state.completed_id)
    if state.outcome == Outcome.State.CANCELLED:
        return TaskRevoked(text or "Cancelled.")
    return remote_errors.rebuild(state.exception, text)


def _refuse_to_block(result: AsyncResult) -> None:
    """Refuse to wait where that would last for ever.

    Raises:
        WouldBlock: we are inside a transaction, or inside a task that has the only worker.
    """
    if db.connection().in_atomic_block:
        raise WouldBlock(
            f"get() of task {result.id} inside a transaction: what was enqueued in it does not "
            "exist for workers before it commits, and what they write may not be seen in it. Call "
            "get() after the transaction; in a test, bgtasks.testing.run_pending() before it."
        )
    task = current_task()
    if task is None or not task.lonely:
        return
    if Worker.objects.using(db.alias()).count() < 2:
        raise WouldBlock(
            f"get() of task {result.id} inside task {task.name}: its worker runs one task at a "
            "time, and there is no other. Start process_tasks with --threads or --processes, or "
            "enqueue from the first task what is to come after it."
        )
