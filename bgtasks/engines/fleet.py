"""What a process of a fleet does: it takes a published row over, runs it, and records the ending.

`join` is called in the main process of a fleet's worker, before it forks those that run rows. Where
nobody has done that, each process that runs a row becomes a member of its own.
"""

from __future__ import annotations

import itertools
import os
import threading
from functools import partial
from multiprocessing.util import Finalize

from django.db import DatabaseError, InterfaceError

from bgtasks.engines.clerk import Clerk
from bgtasks.engines.member import Member
from bgtasks.logs import get_logger
from bgtasks.queue import claims, deliveries
from bgtasks.queue.claimed_row import ClaimedRow
from bgtasks.queue.claims import Claimant
from bgtasks.running import copies, executor
from bgtasks.running.isolation import Surroundings
from bgtasks.running.run import Runs
from bgtasks.tasks import registry
from bgtasks.worker.shared_state import begin_anew, has_room, set_limit

logger = get_logger(__name__)

# Seconds that a message waits for its process to be registered.
PATIENCE = 30.0
NO_SLOT = "no place for a further run, for the endings of many could not be recorded"
# How many rows a process can run at the same time that is a member meanwhile only.
VISITS = 100

_lock, _visiting = threading.Lock(), threading.Lock()
_visits = 0
_member: Member | None = None
_process: Process | None = None


def join(
    engine: str,
    processes: int = 1,
    threads: int = 1,
    *,
    chores: bool = True,
    may_kill: bool = False,
) -> Member:
    """Make this process a member, unless it or its parent is one.

    Args:
        engine: the fleet's name, for operators.
        processes: how many processes will run rows, for operators.
        threads: how many rows each of them can run at the same time.
        chores: whether it does what every worker does for all; see `bgtasks.supervisor.lease`.
        may_kill: whether this process itself may be killed if a run in it takes too long, or is
            revoked. It must run nothing else then.
    """
    global _member
    with _lock:
        if _member is None:
            for error in registry.import_task_modules():
                logger.error("%s", error, exc_info=error.__cause__)
            member = Member(engine, processes, threads, chores, may_kill)
            member.start()
            _member = member
            # Of processes that multiprocessing has started, too.
            Finalize(None, leave, exitpriority=10)
        return _member


def leave() -> None:
    """End the membership of this process, and hand back what its processes still hold."""
    global _member
    if _member is not None and _member.seats.is_main:
        flush()
        _member.leave()
        _member = None


def finish() -> None:
    """Note, in the main process, that the worker was asked to end when its runs have ended."""
    if _member is not None:
        _member.finish()


def is_main() -> bool:
    """Whether this process has joined itself, and not its parent."""
    return _member is not None and _member.seats.is_main


def may_end_here(at_once: bool) -> bool:
    """What a process that runs rows does if it gets a signal to end.

    If it runs a row, it goes on, unless it was asked to end at once: then it ends here, and its row
    runs again, as one that was stopped on purpose. If the main process has not called `finish`, it
    kills this one a moment later.

    Returns:
        Whether it runs no row, so that it may end in its own way.
    """
    if _process is None or not _process.is_busy:
        return True
    if at_once:
        _process.marks.stopping = True
        os._exit(1)
    _process.marks.retiring = True
    return False


def flush() -> None:
    """Write what this process has counted. Call it before the process ends."""
    if _process is not None:
        _process.clerk.flush()


def run(engine: str, row_id: int, token: str, threads: int = 1, *, may_kill: bool = False) -> bool:
    """Take a published row over, run it, and record how it ended.

    Args:
        engine: the fleet's name, if this process is no member yet; see `join`.
        row_id, token: of the message.
        threads, may_kill: as for `join`.

    Returns:
        False if the row was not run: it is not held by that claim any more, its task is unknown
        here, or the database does not answer.
    """
    global _process
    member = join(engine, threads=threads, chores=False, may_kill=may_kill)
    if not member.wait_until_registered(PATIENCE):
        logger.warning("Row %d is not run: the database does not answer.", row_id)
        return False
    with _lock:
        if (
            _process is None
            or _process.member is not member
            or _process.seat is not member.seats.mine
        ):
            _process = Process(member)
        process = _process
    return process.run(row_id, token)


def visit(engine: str, row_id: int, token: str, *, may_kill: bool = False) -> bool:
    """Do what `run` does, and be a member meanwhile only.

    It is for processes of which nobody knows when they end. Unless their parent is a member, to
    join and to leave takes some statements more for each row.
    """
    global _visits
    with _visiting:
        _visits += 1
    try:
        return run(engine, row_id, token, threads=VISITS, may_kill=may_kill)
    finally:
        with _visiting:
            _visits -= 1
            if not _visits:
                leave()


class Taking:
    """A row that is being taken over, between the clerk's thread and the one that runs it.

    Attributes:
        claimed: the row, once it is taken over and marked as begun.
        given_up: whether the thread does not wait any more, and will not run it.
    """

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.claimed: ClaimedRow | None = None
        self.mark: int | None = None
        self.given_up = False


class Process:
    """What a process keeps between its runs."""

    def __init__(self, member: Member) -> None:
        self.member = member
        self.seat = member.seats.mine
        self.marks = self.seat.marks
        self.clerk = Clerk(member.name, self.marks, self._release_strays)
        self._runs = Runs(self.clerk)
        self._numbers = itertools.count(1)
        self._runs_now = 0

    def run(self, row_id: int, token: str) -> bool:
        """See the function of this name."""
        taking = Taking()
        try:
            self.clerk.call(lambda: self._take_over(taking, row_id, token))
        except BaseException as error:
            self._give_up(taking)
            if isinstance(error, DatabaseError | InterfaceError):
                logger.warning("Row %d was not taken over: %s", row_id, error)
                return False
            raise
        if taking.claimed is None or taking.mark is None:
            return False
        self._run(taking.claimed, taking.mark)
        return True

    # --- in the clerk's thread

    def _take_over(self, taking: Taking, row_id: int, token: str) -> None:
        worker = self.member.name
        if not has_room(self.marks):
            logger.error("This process has %s. It runs nothing more: restart it.", NO_SLOT)
            return
        claim = Claimant(worker, self.seat.number).claim(next(self._numbers))
        claimed = deliveries.take_over(row_id, token, claim, worker)
        if claimed is None:
            logger.debug("The message for row %d is void.", row_id)
        elif claimed.row.task_name not in registry.names():
            name = claimed.row.task_name
            logger.error("Task %s is unknown here; its row is handed back.", name)
            claims.release([claimed.row], claims.SUSPECTS_WAIT)
        else:
            self._mark(taking, claimed)

    def _mark(self, taking: Taking, claimed: ClaimedRow) -> None:
        with taking.lock:
            if not taking.given_up:
                taking.mark = self.marks.begin(claimed.pk, None)
                taking.claimed = claimed
                return
        claims.release([claimed.row])

    def _release_strays(self) -> None:
        """Hand back rows that this process holds and does not run."""
        claims.release_unknown(self.seat.prefix(self.member.name), self.marks.begun())

    # --- in the thread that runs the row

    def _give_up(self, taking: Taking) -> None:
        """Do not run the row, whether it is taken over already or will be."""
        with taking.lock:
            taking.given_up = True
            if taking.mark is not None:
                self.marks.end([taking.mark])
        self.clerk.look_for_strays()

    def _run(self, claimed: ClaimedRow, mark: int) -> None:
        run = self._runs.of(claimed)
        limit = run.ended_after()
        # The mark must not be absent for a moment: a row without one is taken for a stray.
        if limit and run.atomic:
            run.on_begin = partial(begin_anew, self.marks, mark, limit)
        elif limit:
            set_limit(self.marks, mark, limit)
        self._runs_now += 1
        try:
            with copies.abandoning(self.member.abandon):
                ending = executor.run(run, Surroundings(ours=True))
        finally:
            self._runs_now -= 1
        self.marks.ran(mark)
        ending.mark = mark
        self.clerk.record(ending)

    @property
    def is_busy(self) -> bool:
        """Whether it runs a row."""
        return self._runs_now > 0
