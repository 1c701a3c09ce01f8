"""A forked worker, as its parent sees it, and how it is forked."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial
from types import FrameType

from django.db import connections

from bgtasks import logs
from bgtasks.clock import elapsed
from bgtasks.logs import get_logger
from bgtasks.queue import patience
from bgtasks.queue.claims import Claimant
from bgtasks.running import copies
from bgtasks.signals import worker_started
from bgtasks.worker.lane import slots_for
from bgtasks.worker.options import Options
from bgtasks.worker.shared_state import Marks
from bgtasks.worker.worker import Worker

logger = get_logger(__name__)

CRASHED = 70  # EX_SOFTWARE of sysexits.h

# The signals that the parent handles. A child handles only SIGTERM of them.
SIGNALS = [
    getattr(signal, name)
    for name in (
        "SIGTERM",
        "SIGINT",
        "SIGTSTP",
        "SIGHUP",
        "SIGUSR1",
        "SIGUSR2",
        "SIGALRM",
        "SIGCHLD",
    )
    if hasattr(signal, name)
]

# What `os.waitid` says of a process that was stopped, and not ended.
STOPS = {getattr(os, name) for name in ("CLD_STOPPED", "CLD_TRAPPED") if hasattr(os, name)}


class Child:
    """A forked worker, as its parent sees it.

    Attributes:
        claimant: the name that stands in its claims.
        pid: its process id.
        marks: the memory that it shares with its parent.
        started: when it was forked, by `bgtasks.clock.elapsed`.
        stop_requested: whether it was asked to end.
        retiring_since: since when it starts no more rows, because a run in it is overdue; None if
            it does start rows.
        timed_out: the overdue rows for which the parent has killed it, with their limits in
            seconds; 0 for one that was revoked.
        ended: whether the parent has killed it. If so, its other tasks are not suspected of it.
        stopped_by: the number of the signal that has stopped it, for which the parent has killed
            it; 0 if it was not stopped.
        failed: whether it ended with another status than 0.
    """

    def __init__(self, claimant: Claimant, pid: int, pipe: int, marks: Marks) -> None:
        self.claimant = claimant
        self.pid = pid
        self.marks = marks
        self.started = elapsed()
        self.stop_requested = False
        self.retiring_since: float | None = None
        self.timed_out: dict[int, float] = {}
        self.ended = False
        self.stopped_by = 0
        self.failed = False
        self._pipe = pipe

    @classmethod
    def fork(
        cls,
        claimant: Claimant,
        options: Options,
        siblings: Iterable[Child],
        slow: bool,
        abandon: Callable[[], None],
    ) -> Child:
        """Start a child. This returns in the parent only.

        Args:
            claimant: the name for its claims.
            options: the options of ``process_tasks``.
            siblings: the other living children.
            slow: whether it is to pause between tasks (SIGUSR2).
            abandon: what a copy of the child calls that a task forks.

        Raises:
            OSError: there is no memory for it, or there are too many processes.
        """
        marks = Marks(slots_for(options))
        marks.slow = slow
        reader, writer = os.pipe()
        os.set_blocking(writer, False)
        _close_connections()
        logs.flush_output()  # else the child would write it again
        # Signals are blocked until the child has its own handlers.
        blocked = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        try:
            with logs.no_record_half_written():
                pid = os.fork()
        except OSError:
            os.close(writer)
            marks.close()
            raise
        else:
            if pid == 0:
                # A child notices the parent's death when the last writing end of its pipe is
                # closed. So no other process than the parent may have one open.
                for pipe in (writer, *(sibling._pipe for sibling in siblings)):
                    os.close(pipe)
                _live(claimant, marks, options, reader, abandon)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
            os.close(reader)
        return cls(claimant, pid, writer, marks)

    def wait(self) -> int | None:
        """Its status, as `os.waitpid` gives it, if it has ended or was stopped; None if it runs.

        If it has ended, what its tasks have started is killed.
        """
        try:
            if hasattr(os, "waitid"):  # not on macOS before Python 3.13
                options = os.WEXITED | os.WSTOPPED | os.WNOHANG | os.WNOWAIT
                found = os.waitid(os.P_PID, self.pid, options)
                if found is None:
                    return None
                # Until it is waited for, nobody else has its number.
                if found.si_code not in STOPS:
                    self._kill_group()
            pid, status = os.waitpid(self.pid, os.WNOHANG | os.WUNTRACED)
        except ChildProcessError:  # other code of this process has waited for it
            return 0
        return status if pid else None

    def stop(self) -> None:
        """Ask it, once, to end as soon as its running tasks have ended."""
        if not self.stop_requested:
            self.stop_requested = True
            self.marks.stopping = True
            # A task may have replaced the child's handler of this signal, so there is the mark too.
            self._signal(signal.SIGTERM)
            self.poke()

    def cancel(self) -> None:
        """Have it cancel its coroutines."""
        if not self.marks.cancelling:
            self.marks.cancelling = True
            self.poke()

    def end(self) -> None:
        """Kill it now, and what its tasks have started."""
        self.ended = True
        self._kill_group()
        self._signal(signal.SIGKILL)

    def end_stopped(self, signum: int) -> None:
        """Kill it as `end` does, because a signal has stopped it: it cannot run the rows it holds.

        One of its tasks may have done that, so these are suspected of it.
        """
        self.stopped_by = signum
        self.end()

    def poke(self) -> None:
        """Wake its keeper, which polls the queue and reads the shared memory."""
        with suppress(BrokenPipeError, BlockingIOError):
            os.write(self._pipe, b".")

    def retire(self, retiring: bool) -> None:
        """Have it start no more rows, or start rows again."""
        self.retiring_since = elapsed() if retiring else None
        self.marks.retiring = retiring
        self.poke()

    def forget(self) -> None:
        """Free what the parent has of a child that is dead and whose rows are taken back."""
        os.close(self._pipe)
        self.marks.close()

    def story(self, status: int) -> str:
        """What became of it, in words: the beginning of a sentence.

        Args:
            status: what `wait` returned.
        """
        who = f"worker process {self.pid} on {socket.gethostname()}"
        if self.timed_out:
            why = "ran too long" if any(self.timed_out.values()) else "was revoked"
            return f"{who} was ended, for one of its tasks {why}"
        if self.stopped_by:
            return f"{who} was stopped by {_name(self.stopped_by)} and ended by its supervisor"
        if self.ended:
            return f"{who} was ended by its supervisor"
        if os.WIFSIGNALED(status):
            return f"{who} was killed by {_name(os.WTERMSIG(status))}"
        return f"{who} exited with status {os.WEXITSTATUS(status)}"

    def _signal(self, signum: int) -> None:
        with suppress(ProcessLookupError):
            os.kill(self.pid, signum)

    def _kill_group(self) -> None:
        """Kill the processes of its group: itself, and those that its tasks have started."""
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)


def _name(signum: int) -> str:
    names = {each.value: each.name for each in signal.Signals}
    return names.get(signum, f"signal {signum}")


def _live(
    claimant: Claimant,
    marks: Marks,
    options: Options,
    reader: int,
    abandon: Callable[[], None],
) -> None:
    """What a child process does, from the fork to its exit. It never returns."""
    code = CRASHED
    try:
        # What its tasks start is in its session, and so in its group, and is killed with it. What
        # has no terminal is not stopped by reading from one.
        os.setsid()
        patience.forget()
        signal.set_wakeup_fd(-1)
        worker = Worker(claimant, marks, options, reader, crash_status=CRASHED)
        for number in SIGNALS:
            signal.signal(number, _leave_it_to_the_parent)
        signal.signal(signal.SIGTERM, worker.stop)
        for number in (signal.SIGALRM, signal.SIGCHLD):
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
        if not worker_started.receivers:  # one of them may start the project's log anew
            logs.show_what_no_listener_logs()
        with copies.abandoning(abandon, partial(_default_signals, worker)):
            code = 0 if worker.run() else 1
    except BaseException:
        logger.exception("A child of the supervisor ends.")
    finally:
        try:
            logs.write_the_rest()
        finally:
            os._exit(code)  # if the child returned from here, it would go on as a second supervisor


def _default_signals(worker: Worker) -> None:
    """In a copy that a task has forked, undo the handlers of its worker, but not those of tasks."""
    for number in SIGNALS:
        if signal.getsignal(number) in (worker.stop, _leave_it_to_the_parent):
            default = signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
            signal.signal(number, default)


def _leave_it_to_the_parent(signum: int, frame: FrameType | None) -> None:
    """Does nothing. SIG_IGN would do so too, but the subprocesses of tasks would inherit it."""


def _close_connections() -> None:
    """Close all connections before a fork: if the child closed one, it would end the parent's too.

    When Django closes a connection of a pool, the pool keeps it open. So pools are closed as well.
    """
    connections.close_all()
    for connection in connections.all(initialized_only=True):
        if hasattr(connection, "close_pool"):
            connection.close_pool()
