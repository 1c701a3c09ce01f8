"""The parent: starts children, renews their lease, reaps them, gives back what they held.

It runs no task and no thread, so nothing that a task does can keep it from its heartbeat.
"""

from __future__ import annotations

import logging
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import count
from types import FrameType

from django.db import DatabaseError, InterfaceError, connections

from bgtasks import conf
from bgtasks.clock import elapsed
from bgtasks.exceptions import LeaseLost
from bgtasks.queue import claims, rescue
from bgtasks.queue.claims import Claimant
from bgtasks.queue.listen import readable
from bgtasks.supervisor.child import SIGNALS, Child
from bgtasks.supervisor.lease import Lease
from bgtasks.supervisor.revocations import EVERY, Revocations
from bgtasks.tasks import policies, registry
from bgtasks.worker.options import Options

logger = logging.getLogger(__name__)

# A child that lives less than this long counts as crashing; the next one waits a while.
SHORT_LIFE = 5.0
# Seconds between looks for rows that a dead child's last claim left behind.
STRAYS = 60.0
FIRST_WAIT, LONGEST_WAIT = 0.1, 5.0
# The part of the grace period that coroutines have for cleaning up.
CLEANING_UP = 0.1
# Two signals within this many seconds are one.
TWICE = 1.0


Handler = Callable[[int, FrameType | None], None]


class Supervisor:
    """Runs ``options.processes`` children until it is told to stop."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._lease = Lease(options)
        self._numbers = count(1)
        self._children: list[Child] = []
        self._dead: list[tuple[Child, str]] = []  # whose rows are still to be taken back
        self._spawn_at = self._bury_at = 0.0
        self._crashes = 0
        self._drained = 0  # children that ended because they found nothing
        self._rounds = 0  # how often all of them did
        self._strays_at = 0.0
        self._revocations = Revocations()
        self._stopping = False
        self._told_at = 0.0
        self._deadline: float | None = None
        self._slow = False
        self._said = ""
        self._limited = False

    def run(self) -> None:
        """Run until stopped, drained or out of time."""
        ends_at = elapsed() + self._options.duration if self._options.duration else None
        with _handling(self._handle) as wait:
            if not self._acquire(wait, ends_at):
                return
            self._say("ready")
            while not self._done():
                if ends_at is not None and elapsed() >= ends_at:
                    # Whatever is running may take as long as it needs.
                    self._stopping, ends_at = True, None
                if self._stopping:
                    self._say("stopping: what runs may finish, unless I am told again")
                self._spawn_missing()
                wait(min(self._supervise(), _until(ends_at)))
            _leave(self._lease)
            self._say("stopped")

    def _say(self, what: str) -> None:
        """Log what the worker does, once."""
        if what == self._said:
            return
        self._said = what
        told = self._options
        queues = f"queues {', '.join(told.queues)}" if told.queues else "all queues"
        logger.info(
            "Worker %s (process %d) is %s. Processes: %d, threads: %d, %s.",
            self._lease.name, os.getpid(), what, told.processes, told.threads, queues,
        )  # fmt: skip

    # --- one turn

    def _supervise(self) -> float:
        """Everything that may be due; returns seconds until something is again."""
        self._reap()
        self._enforce_limits()
        self._tell_children()
        try:
            self._lease.keep()  # before what may take its time, and after it
            self._bury()
            self._release_strays()
            self._revoke()
            due = self._lease.keep()
            if self._lease.take_rows_to_run():
                self._poke_children()
        except LeaseLost as error:
            self._start_over(error)
            due = 0.0
        except Exception:  # of ours or of a receiver; the children live by our heartbeat
            logger.exception("The supervisor goes on after an error.")
            connections.close_all()
            due = 1.0
        if not (self._children or self._missing()):
            return 0.1 if self._dead else 0.0
        if self._dead or self._deadline is not None:
            due = min(due, 0.1)
        due = min(due, _until(self._strays_at))
        spawn_at = self._spawn_at if self._missing() else None
        return min(due, self._look_every(), _until(spawn_at))

    def _done(self) -> bool:
        if self._children or self._dead:
            return False
        if self._options.drain and not self._stopping:
            with suppress(DatabaseError, InterfaceError):
                if not claims.ready(registry.names(), self._options.queues):
                    self._stopping = True  # a signal may have said so meanwhile
            if self._drained and not self._stopping:
                # Enqueued after they had looked; or held by somebody's transaction, so that the
                # next ones will find nothing either. Do not fork for that again and again.
                self._drained = 0
                self._rounds += 1
                self._spawn_at = elapsed() + min(LONGEST_WAIT, 0.01 * 2 ** min(self._rounds, 10))
        return self._stopping

    # --- children

    def _missing(self) -> int:
        if self._stopping:
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
            child = Child.fork(claimant, self._options, self._children, self._slow)
        except OSError as error:
            logger.error("Cannot start a child: %s. Trying again.", error)
            self._spawn_at = elapsed() + LONGEST_WAIT
        else:
            self._children.append(child)
            child.marks.slow = self._slow  # a signal may have changed it during the fork

    def _reap(self) -> None:
        for child in list(self._children):
            status = child.wait()
            if status is None:
                continue
            if os.WIFSTOPPED(status):
                # It holds rows and does nothing with them. What stopped it will not mind.
                logger.warning("Child %d was stopped by a signal; ending it.", child.pid)
                child.end()
                continue
            self._children.remove(child)
            self._dead.append((child, child.story(status)))
            child.failed = bool(status)
            if child.failed:
                self._slow_down_spawning(child)
            elif self._options.drain:
                self._drained += 1

    def _slow_down_spawning(self, child: Child) -> None:
        """The first replacement comes at once; those of children that soon crash again wait."""
        short = elapsed() - child.started < SHORT_LIFE
        self._crashes = self._crashes + 1 if short else 0
        if self._crashes > 1:
            wait = min(LONGEST_WAIT, FIRST_WAIT * 2 ** min(self._crashes - 2, 10))
            self._spawn_at = elapsed() + wait

    def _bury(self) -> None:
        """Give back what dead children held. Without a database, later."""
        while self._dead and elapsed() >= self._bury_at:
            child, story = self._dead[0]
            try:
                self._lease.limit_waits()
                count = _rescue(child, story, self._lease)
            except (DatabaseError, InterfaceError) as error:
                logger.warning("The tasks of %s are given back later: %s", story, error)
                connections.close_all()
                self._bury_at = elapsed() + 1.0
                self._dead.append(self._dead.pop(0))  # the others may be luckier
                return
            if count or child.failed:
                logger.warning("%s. Tasks taken back: %d.", story, count)
            self._dead.pop(0)
            child.forget()
            self._poke_children()
            self._strays_at = min(self._strays_at, elapsed() + 1.0)

    def _release_strays(self) -> None:
        """A claim that was under way when its child died may have come through after all."""
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
        """How often to look for overdue tasks: only where some have a limit."""
        if not self._children:
            return 5.0
        if self._limited or any(child.retiring_since is not None for child in self._children):
            return 0.2
        return EVERY

    def _revoke(self) -> None:
        """End the runs that were called off. Their outcomes are written, their claims lost."""
        try:
            self._lease.limit_waits()
            marked = self._revocations.heed(
                self._lease.name, [child.marks for child in self._children]
            )
        except (DatabaseError, InterfaceError):  # the lease tells of that
            connections.close_all()
            return
        for child in self._children:
            if child.marks in marked:
                logger.warning("Ending tasks of process %d that were revoked.", child.pid)
                child.poke()

    def _enforce_limits(self) -> None:
        """End a child whose task runs too long: a thread cannot be stopped from outside.

        Its other tasks get the grace period to finish first.
        """
        for child in self._children:
            overdue = child.marks.overdue()
            if not overdue and child.retiring_since is None:
                continue
            if not overdue:  # it came to an end after all
                child.retire(False)
                continue
            if child.retiring_since is None:
                child.retire(True)
            neighbours = child.marks.begun() - overdue.keys()
            if not neighbours or elapsed() > (child.retiring_since or 0) + conf.grace():
                child.timed_out = overdue
                child.end()

    # --- the end

    def _tell_children(self) -> None:
        """Once we are stopping, tell them; when the grace period is over, end them.

        Coroutines are cancelled before that, and have the rest of it to clean up.
        """
        for child in self._children if self._stopping else ():
            child.tell()
            if self._deadline is None:
                continue
            if elapsed() >= self._deadline - conf.grace() * CLEANING_UP:
                child.cancel()
            if elapsed() >= self._deadline:
                child.end()

    def _start_over(self, error: LeaseLost) -> None:
        """Others took our rows. What our children run now is no longer ours to finish."""
        logger.error("%s Ending its children and starting anew.", error)
        for child in self._children:
            child.end()
        while self._children:
            self._reap()
            time.sleep(0.01)
        with suppress(LeaseLost):
            self._bury()
        with suppress(DatabaseError, InterfaceError):
            self._lease.acquire()

    def _acquire(self, wait: Callable[[float], None], ends_at: float | None) -> bool:
        """Register, waiting for the database if need be. Returns whether to go on."""

        def over() -> bool:
            return self._stopping or (ends_at is not None and elapsed() >= ends_at)

        if not self._lease.acquire_patiently(wait, over):
            return False
        # Before anything is run: what a worker that died here has left behind.
        self._lease.keep()
        return True

    # --- signals

    def _handle(self, signum: int, frame: FrameType | None) -> None:
        """Note what a signal asks for; the loop does it."""
        if signum in {signal.SIGUSR1, signal.SIGUSR2}:
            self._slow = signum == signal.SIGUSR2
            for child in self._children:
                child.marks.slow = self._slow
        elif signum != signal.SIGCHLD:
            self._stopping = True
            now = elapsed()
            if self._deadline is None:
                self._told_at, self._deadline = now, now + conf.grace()
                for child in self._children:  # the loop may be waiting for the database
                    child.tell()
            # The second time means at once; but a terminal and a process manager may each
            # pass on the same Ctrl-C.
            elif now - self._told_at > TWICE:
                self._deadline = now


@contextmanager
def _handling(handle: Handler) -> Iterator[Callable[[float], None]]:
    """Have signals handled; yields a function that sleeps until one comes or a time is over."""
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    os.set_blocking(writer, False)
    handlers = {number: signal.getsignal(number) for number in SIGNALS}
    for number, handler in handlers.items():
        # Under nohup the hangup stays ignored.
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
        for number, handler in handlers.items():
            signal.signal(number, handler)
        os.close(reader)
        os.close(writer)


def _rescue(child: Child, story: str, lease: Lease) -> int:
    """Take back the rows of a dead child; returns how many there were."""
    count = 0
    for rows in rescue.rescue_in_steps(
        child.claimant.prefix,
        story,
        begun=child.marks.begun(),
        timed_out=child.timed_out,
        stopped=child.ended,
    ):
        count += rows
        lease.pulse()
    return count


def _leave(lease: Lease) -> None:
    try:
        lease.release()
    except (DatabaseError, InterfaceError) as error:
        logger.warning("Left without signing off (%s); others will notice.", error)
    connections.close_all()


def _until(moment: float | None) -> float:
    """Seconds until a moment; a while if there is none."""
    return 5.0 if moment is None else max(0.0, moment - elapsed())
