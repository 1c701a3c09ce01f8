"""A forked worker: how it comes into being, and what its parent knows of it."""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys
from collections.abc import Iterable
from contextlib import suppress
from types import FrameType

from django.db import connections

from bgtasks.clock import elapsed
from bgtasks.queue.claims import Claimant
from bgtasks.worker.lane import slots_for
from bgtasks.worker.options import Options
from bgtasks.worker.shared_state import Marks
from bgtasks.worker.worker import Worker

logger = logging.getLogger(__name__)

CRASHED = 70  # EX_SOFTWARE

# What the parent handles and a child leaves to it.
SIGNALS = [
    getattr(signal, name)
    for name in ("SIGTERM", "SIGINT", "SIGTSTP", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGCHLD")
    if hasattr(signal, name)
]


class Child:
    """A forked worker, as its parent sees it.

    Attributes:
        told: whether it was told to end.
        retiring_since: since when it starts nothing more because a task of it is overdue.
        timed_out: the rows, with their limits in seconds, for which it is being ended.
        ended: whether we end it, for a reason that is no fault of the tasks it runs.
        failed: whether it came to another end than it should.
    """

    def __init__(self, claimant: Claimant, pid: int, pipe: int, marks: Marks) -> None:
        self.claimant = claimant
        self.pid = pid
        self.marks = marks
        self.started = elapsed()
        self.told = False
        self.retiring_since: float | None = None
        self.timed_out: dict[int, float] = {}
        self.ended = False
        self.failed = False
        self._pipe = pipe

    @classmethod
    def fork(
        cls, claimant: Claimant, options: Options, siblings: Iterable[Child], slow: bool
    ) -> Child:
        """Start a child. It never returns from here.

        Raises:
            OSError: there is no memory for it, or there are too many processes.
        """
        marks = Marks(slots_for(options))
        marks.slow = slow
        reader, writer = os.pipe()
        os.set_blocking(writer, False)
        _close_connections()
        _flush()
        # Until the child has handlers of its own, signals wait.
        blocked = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        try:
            pid = os.fork()
        except OSError:
            os.close(writer)
            marks.close()
            raise
        else:
            if pid == 0:
                for pipe in (writer, *(sibling._pipe for sibling in siblings)):
                    os.close(pipe)  # held open here, nobody would notice the parent's death
                _live(claimant, marks, options, reader)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
            os.close(reader)
        return cls(claimant, pid, writer, marks)

    def wait(self) -> int | None:
        """Its status if it has ended or was stopped; None if it runs."""
        try:
            pid, status = os.waitpid(self.pid, os.WNOHANG | os.WUNTRACED)
        except ChildProcessError:  # somebody else has waited for it
            return 0
        return status if pid else None

    def tell(self) -> None:
        """Tell it to end, once."""
        if not self.told:
            self.told = True
            self.marks.stopping = True
            self._signal(signal.SIGTERM)  # which a task may have a handler of its own for
            self.poke()

    def cancel(self) -> None:
        """Have it cancel its coroutines."""
        if not self.marks.cancelling:
            self.marks.cancelling = True
            self.poke()

    def end(self) -> None:
        """End it now, through no fault of its tasks."""
        self.ended = True
        self._signal(signal.SIGKILL)

    def poke(self) -> None:
        """Have it look for work."""
        with suppress(BrokenPipeError, BlockingIOError):
            os.write(self._pipe, b".")

    def retire(self, retiring: bool) -> None:
        """Have it start nothing more, or go on after all."""
        self.retiring_since = elapsed() if retiring else None
        self.marks.retiring = retiring
        self.poke()

    def forget(self) -> None:
        os.close(self._pipe)
        self.marks.close()

    def story(self, status: int) -> str:
        """What became of it."""
        who = f"worker process {self.pid} on {socket.gethostname()}"
        if self.timed_out:
            why = "ran too long" if any(self.timed_out.values()) else "was revoked"
            return f"{who} was ended, for one of its tasks {why}"
        if self.ended:
            return f"{who} was ended by its supervisor"
        if os.WIFSIGNALED(status):
            number = os.WTERMSIG(status)
            names = {signum.value: signum.name for signum in signal.Signals}
            return f"{who} was killed by {names.get(number, f'signal {number}')}"
        return f"{who} exited with status {os.WEXITSTATUS(status)}"

    def _signal(self, signum: int) -> None:
        with suppress(ProcessLookupError):
            os.kill(self.pid, signum)


def _live(claimant: Claimant, marks: Marks, options: Options, reader: int) -> None:
    """A child's whole life."""
    code = CRASHED
    try:
        signal.set_wakeup_fd(-1)
        worker = Worker(claimant, marks, options, reader, crash_status=CRASHED)
        for number in SIGNALS:
            signal.signal(number, _leave_it_to_the_parent)
        signal.signal(signal.SIGTERM, worker.stop)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
        code = 0 if worker.run() else 1
    except BaseException:
        logger.exception("A child of the supervisor ends.")
    finally:
        try:
            logging.shutdown()
            _flush()
        finally:
            os._exit(code)  # whatever happens: this process must not go on as a supervisor


def _leave_it_to_the_parent(signum: int, frame: FrameType | None) -> None:
    """Does nothing. To ignore the signal would make the subprocesses of tasks ignore it too."""


def _close_connections() -> None:
    """A connection must not be shared: closing it in the child would end the parent's.

    A pool keeps its connections when Django closes them, so that it must go as well.
    """
    connections.close_all()
    for connection in connections.all(initialized_only=True):
        if hasattr(connection, "close_pool"):
            connection.close_pool()


def _flush() -> None:
    """Empty the buffers, or a child would write them again. Whoever reads them may be gone."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError, AttributeError):  # closed, broken, or none at all
            stream.flush()
