"""The parent process: it starts children, renews their lease, reaps them, takes their rows back.

It runs no task and no thread, so nothing that a task does can keep it from its heartbeat.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import count
from types import FrameType
from typing import NoReturn

from django.db import DatabaseError, InterfaceError, connections

from bgtasks import conf
from bgtasks.clock import elapsed
from bgtasks.exceptions import LeaseLost
from bgtasks.logs import get_logger
from bgtasks.queue import claims, patience, rescue
from bgtasks.queue.claims import Claimant
from bgtasks.queue.listen import readable
from bgtasks.supervisor import announcing, status
from bgtasks.supervisor.child import SIGNALS, Child
from bgtasks.supervisor.lease import Lease
from bgtasks.supervisor.revocations import CHECK_EVERY, Revocations
from bgtasks.supervisor.stop import Stop
from bgtasks.tasks import policies, registry
from bgtasks.worker.options import Options
from bgtasks.worker.shared_state import running

logger = get_logger(__name__)

# If children fail one after another and live for less than so many seconds, replacements wait.
SHORT_LIFE = 5.0
# The seconds that a replacement waits: they double with each such child, from the first number to
# the second.
FIRST_WAIT, LONGEST_WAIT = 0.1, 5.0
# Seconds between searches for rows that a child has claimed whose rows were taken back before.
STRAYS = 60.0
# How much of the grace period coroutines have to clean up after they were cancelled: a tenth.
CLEANING_UP = 0.1

Handler = Callable[[int, FrameType | None], None]


class Supervisor:
    """Runs ``options.processes`` children and restarts those that die. See `run`."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._lease = Lease(options, lambda: status.of(self._stop.wanted, self._children))
        self._numbers = count(1)
        self._children: list[Child] = []
        self._dead: list[tuple[Child, str]] = []  # whose rows are still to be taken back
        self._spawn_at = self._bury_at = 0.0
        self._crashes = 0
        self._drained = 0  # children that have ended because they found the queue drained
        self._rounds = 0  # how often all children have, although there were rows
        self._strays_at = 0.0
        self._revocations = Revocations()
        self._stop = Stop()
        self._slow = False
        self._has_said = False  # that it is stopping
        self._limited = False

    def run(self) -> None:
        """Run until it is stopped, the queue is drained, or the duration is over."""
        ends_at = elapsed() + self._options.duration if self._options.duration else None
        with _handling(self._handle) as wait, patience.limited(0.5):
            if not self._acquire(wait, ends_at):
                return
            announcing.ready(self._lease.name, self._options)
            self._lease.tell()
            while not self._done():
                if ends_at is not None and elapsed() >= ends_at:
                    # This sets no deadline: running tasks may take as long as they need.
                    self._stop.wanted, ends_at = True, None
                if self._stop.wanted:
                    self._say_what_still_runs()
                self._spawn_missing()
                wait(min(self._supervise(), _until(ends_at)))
            _leave(self._lease)
            announcing.stopped(self._lease.name)

    def _say_what_still_runs(self) -> None:
        """Log, once, that this worker is stopping, and what it waits for."""
        if self._has_said:
            return
        self._has_said = True
        self._lease.tell()
        still: dict[int, float] = {}
        for child in self._children:
            still |= running(child.marks)
        if self._stop.deadline is None:  # nobody has sent a signal: the duration is over
            announcing.stopping(self._lease.name, still, None, "")
            return
        patience = max(0.0, self._stop.deadline - elapsed())
        announcing.stopping(self._lease.name, still, patience, "A second signal ends it at once.")

    # --- one turn

    def _supervise(self) -> float:
        """Do everything that is due. Returns the seconds until something may be due again."""
        self._reap()
        self._enforce_limits()
        self._stop_children()
        try:
            self._lease.keep()  # it is called twice, because what stands between may take long
            self._bury()
            self._release_strays()
            self._revoke()
            due = self._lease.keep()
            if self._lease.take_rows_to_run():
                self._poke_children()
        except LeaseLost as error:
            self._start_over(error)
            due = 0.0
        # An error of bgtasks itself, or of a receiver. The heartbeats have to go on, for without
        # them other workers would take the children's rows.
        except Exception:
            logger.exception("The supervisor goes on after an error.")
            connections.close_all()
            due = 1.0
        if not (self._children or self._missing()):
            return 0.1 if self._dead else 0.0
        if self._dead or self._stop.deadline is not None:
            due = min(due, 0.1)
        due = min(due, _until(self._strays_at))
        spawn_at = self._spawn_at if self._missing() else None
        return min(due, self._look_every(), _until(spawn_at))

    def _done(self) -> bool:
        """Whether it is stopping and has no more children; with ``--drain``, whether to stop."""
        if self._children or self._dead:
            return False
        if self._options.drain and not self._stop.wanted:
            with suppress(DatabaseError, InterfaceError):
                if not claims.ready(registry.names(), self._options.queues):
                    self._stop.wanted = True
            # During the query a signal may have come and set `_stop.wanted`.
            if self._drained and not self._stop.wanted:
                # There are rows, though the children found none. Either they were enqueued after
                # that, or another transaction has locked them, and new children will find none
                # either. So each time the wait before the next fork is longer.
                self._drained = 0
                self._rounds += 1
                self._spawn_at = elapsed() + min(LONGEST_WAIT, 0.01 * 2 ** min(self._rounds, 10))
        return self._stop.wanted

    # --- children

    def _missing(self) -> int:
        """How many children are to be started."""
        if self._stop.wanted:
            return 0
        return self._options.processes - len(self._children) - self._drained

    def _spawn_missing(self) -> None:
        if elapsed() < self._spawn_at:
            return
        while self._missing() > 0 and elapsed() >= self._spawn_at:
            self._spawn()

    def _spawn(self) -> None:
        self._limited = any(policies.of(name).limit for name in registry.names())
        claimant = Claimant(self._lease.name, next(self._numbers))
        try:
            child = Child.fork(
                claimant, self._options, self._children, self._slow, self._lease.abandon
            )
        except OSError as error:
            logger.error("Cannot start a child: %s. Trying again.", error)
            self._spawn_at = elapsed() + LONGEST_WAIT
        else:
            self._children.append(child)
            child.marks.slow = self._slow  # a signal may have changed it during the fork

    def _reap(self) -> None:
        """Notice which children have ended."""
        for child in list(self._children):
            status = child.wait()
            if status is None:
                continue
            if os.WIFSTOPPED(status):
                logger.warning("Child %d was stopped by a signal; ending it.", child.pid)
                child.end_stopped(os.WSTOPSIG(status))
                continue
            self._children.remove(child)
            self._dead.append((child, child.story(status)))
            child.failed = bool(status)
            if child.failed:
                self._slow_down_spawning(child)
            elif self._options.drain:
                self._drained += 1

    def _slow_down_spawning(self, child: Child) -> None:
        """Have the replacement of a failed child wait, if it and the one before lived shortly."""
        short = elapsed() - child.started < SHORT_LIFE
        self._crashes = self._crashes + 1 if short else 0
        if self._crashes > 1:
            wait = min(LONGEST_WAIT, FIRST_WAIT * 2 ** min(self._crashes - 2, 10))
            self._spawn_at = elapsed() + wait

    def _bury(self) -> None:
        """Take back the rows of dead children; if the database does not answer, try again later."""
        while self._dead and elapsed() >= self._bury_at:
            child, story = self._dead[0]
            try:
                self._lease.limit_waits()
                count = _rescue(child, story, self._lease)
            except (DatabaseError, InterfaceError) as error:
                logger.warning("The tasks of %s are given back later: %s", story, error)
                connections.close_all()
                self._bury_at = elapsed() + 1.0
                # Only the rows of this child may be locked. So the next try begins with another.
                self._dead.append(self._dead.pop(0))
                return
            if count or child.failed:
                logger.warning("%s. Tasks taken back: %d.", story, count)
            self._dead.pop(0)
            child.forget()
            self._poke_children()
            self._strays_at = min(self._strays_at, elapsed() + 1.0)

    def _release_strays(self) -> None:
        """Take back rows of children that are dead and were buried, if they have any.

        A claim that was under way when its child died may have been committed after that.
        """
        if elapsed() < self._strays_at:
            return
        self._strays_at = elapsed() + STRAYS
        known = [*self._children, *(child for child, _ in self._dead)]
        numbers = [child.claimant.child for child in known]
        try:
            self._lease.limit_waits()
            if rescue.release_strays(self._lease.name, numbers):
                self._poke_children()
        except (DatabaseError, InterfaceError):
            self._strays_at = elapsed() + 1.0
            connections.close_all()

    def _poke_children(self) -> None:
        for child in self._children:
            child.poke()

    # --- time-outs

    def _look_every(self) -> float:
        """The most seconds until the next turn: few if overdue runs have to be noticed."""
        if not self._children:
            return 5.0
        if self._limited or any(child.retiring_since is not None for child in self._children):
            return 0.2
        return CHECK_EVERY

    def _revoke(self) -> None:
        """Have the children end runs that were revoked. Their outcomes are written already."""
        try:
            self._lease.limit_waits()
            marked = self._revocations.heed(
                self._lease.name, [child.marks for child in self._children]
            )
        except (DatabaseError, InterfaceError):  # `Lease.keep` will notice that and log it
            connections.close_all()
            return
        for child in self._children:
            if child.marks in marked:
                logger.warning("Ending tasks of process %d that were revoked.", child.pid)
                child.poke()

    def _enforce_limits(self) -> None:
        """Kill a child in which a run is overdue, for a thread cannot be stopped from outside.

        Before that, its other running tasks have the grace period to finish.
        """
        for child in self._children:
            overdue = child.marks.overdue()
            if not overdue and child.retiring_since is None:
                continue
            if not overdue:  # the run has ended before the child was killed
                child.retire(False)
                continue
            if child.retiring_since is None:
                child.retire(True)
            neighbours = child.marks.begun() - overdue.keys()
            if not neighbours or elapsed() > (child.retiring_since or 0) + conf.grace():
                child.timed_out = overdue
                child.end()

    # --- the end

    def _stop_children(self) -> None:
        """If we are stopping, stop the children, and kill them when the grace period is over.

        Shortly before that they cancel their coroutines, which have the rest of it to clean up.
        """
        for child in self._children if self._stop.wanted else ():
            child.stop()
            if self._stop.deadline is None:
                continue
            if elapsed() >= self._stop.deadline - conf.grace() * CLEANING_UP:
                child.cancel()
            if elapsed() >= self._stop.deadline:
                child.end()

    def _start_over(self, error: LeaseLost) -> None:
        """Kill the children, whose rows other workers have now, and register as a new worker."""
        logger.error("%s Ending its children and starting anew.", error)
        for child in self._children:
            child.end()
        while self._children:
            self._reap()
            time.sleep(0.01)
        with suppress(LeaseLost):
            self._bury()
        # Without a registration, the next turn finds the lease lost and comes here again.
        with suppress(DatabaseError, InterfaceError, LeaseLost):
            self._lease.acquire()

    def _acquire(self, wait: Callable[[float], None], ends_at: float | None) -> bool:
        """Register as a worker, and wait for the database if it does not answer.

        Args:
            wait: waits so many seconds, or until a signal comes.
            ends_at: when the duration is over, by `elapsed`; None if there is none.

        Returns:
            False if it was stopped, or the duration is over, before the database answered.
        """

        def over() -> bool:
            return self._stop.wanted or (ends_at is not None and elapsed() >= ends_at)

        while self._lease.acquire_patiently(wait, over):
            # Before the first child starts, take back the rows of a worker that has died on this
            # host. A process that did not run for a while may have been declared dead itself.
            try:
                self._lease.keep()
            except LeaseLost as error:
                logger.warning("%s It registers anew.", error)
                wait(1.0)
                continue
            return True
        return False

    # --- signals

    def _handle(self, signum: int, frame: FrameType | None) -> None:
        """Note what a signal asks for. The loop in `run` does it."""
        if signum in {signal.SIGUSR1, signal.SIGUSR2}:
            self._slow = signum == signal.SIGUSR2
            for child in self._children:
                child.marks.slow = self._slow
        elif signum == signal.SIGALRM:
            _give_up(self._children, self._lease.name)
        elif signum != signal.SIGCHLD:
            self._stop.signalled(signum)
            for child in self._children:  # at once, as the loop may be waiting for the database
                child.stop()


@contextmanager
def _handling(handle: Handler) -> Iterator[Callable[[float], None]]:
    """Within this context, have signals handled.

    Yields:
        A function that sleeps for so many seconds, or until a signal comes.
    """
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    os.set_blocking(writer, False)
    handlers = {number: signal.getsignal(number) for number in SIGNALS}
    for number, handler in handlers.items():
        # nohup has set SIGHUP to be ignored, and so it stays.
        if number != signal.SIGHUP or handler is not signal.SIG_IGN:
            signal.signal(number, handle)
    wakeup = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)

    def wait(timeout: float) -> None:
        if readable(reader, timeout):
            os.read(reader, 4096)

    try:
        yield wait
    finally:
        signal.set_wakeup_fd(wakeup)
        # Until the last of our handlers is gone, a signal may set the timer, and the one for
        # SIGALRM must not be gone before that.
        alarm = handlers.pop(signal.SIGALRM)
        for number, handler in handlers.items():
            signal.signal(number, handler)
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, alarm)
        os.close(reader)
        os.close(writer)


def _rescue(child: Child, story: str, lease: Lease) -> int:
    """Take back the rows of a dead child, with heartbeats in between. Returns their number."""
    count = 0
    for rows in rescue.rescue_in_steps(
        child.claimant.prefix,
        story,
        begun=child.marks.begun(),
        timed_out=child.timed_out,
        stopped=child.ended and not child.stopped_by,
    ):
        count += rows
        lease.pulse()
    return count


def _give_up(children: Sequence[Child], name: str) -> NoReturn:
    """Kill the children and exit. The loop has not come to that: it waits for the database."""
    for child in children:
        child.end()
    logger.error(
        "Worker %s ends without having left the workers' table: the database has not answered for "
        "too long. Other workers take back its tasks when its lease has run out.",
        name,
    )
    os._exit(1)


def _leave(lease: Lease) -> None:
    """Leave the workers' table, if the database answers."""
    try:
        lease.release()
    except (DatabaseError, InterfaceError) as error:
        logger.warning(
            "This worker could not leave the workers' table (%s). Others will notice that its "
            "lease has run out.",
            error,
        )
    connections.close_all()


def _until(moment: float | None) -> float:
    """Seconds until a moment by `elapsed`; 5 if there is none."""
    return 5.0 if moment is None else max(0.0, moment - elapsed())
