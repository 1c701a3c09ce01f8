"""The main process of a fleet's worker, which keeps the lease and looks after the others.

It stands in the workers' table. A thread of it renews the lease, ends the processes whose runs take
too long or were revoked, and takes back the rows of those that have died. So a task that keeps its
own process busy does not lose its row.
"""

from __future__ import annotations

import mmap
import os
import signal
import threading
from typing import NoReturn

from django.db import DatabaseError, InterfaceError, connections

from bgtasks.clock import elapsed
from bgtasks.engines.seats import LONGEST_WAIT, Seats
from bgtasks.exceptions import LeaseLost
from bgtasks.logs import flush_output, get_logger
from bgtasks.queue import patience, rescue
from bgtasks.supervisor import status
from bgtasks.supervisor.lease import Lease
from bgtasks.supervisor.revocations import Revocations
from bgtasks.worker.options import Options

logger = get_logger(__name__)

# The most seconds between two looks at the processes.
LOOK_EVERY = 0.2
# Seconds between two searches for rows that a process has taken over when its rows had been taken
# back already, because it was dead.
STRAYS = 60.0
# The bytes that a worker's name has room for.
NAME = 64


class Member:
    """The main process of a fleet's worker, and the processes that are forked from it.

    Args:
        engine: the fleet's name.
        processes: how many run rows.
        threads: how many rows each of them can run at the same time.
        chores: whether it does what every worker does for all; see `bgtasks.supervisor.lease`.
        may_kill: whether this process itself may be killed if a run in it is overdue.
    """

    def __init__(
        self,
        engine: str,
        processes: int = 1,
        threads: int = 1,
        chores: bool = True,
        may_kill: bool = False,
    ) -> None:
        self._engine = engine
        self._may_kill = may_kill
        options = Options(processes=processes, threads=threads)
        self._lease = Lease(options, self._describe, chores)
        self._revocations = Revocations()
        # After a lost lease it has another name, which the forked processes must see.
        self._shared_name = mmap.mmap(-1, NAME)
        self.seats = Seats(threads)
        self._finishing = False
        self._strays_at = 0.0
        self._ended = threading.Event()

    @property
    def name(self) -> str:
        """Its name in the workers' table, in whichever of its processes."""
        return self._shared_name[:].rstrip(b"\0").decode()

    def abandon(self) -> None:
        """Have this process, a copy that a task has forked, hold no proof that the worker lives."""
        self._lease.abandon()

    # --- the thread

    def start(self) -> None:
        """Register, and go on, in a thread: the database may be away."""
        patience.break_dead_connections()
        thread = threading.Thread(target=self._keep_on, name="bgtasks-lease", daemon=True)
        self.seats.keeper = thread
        thread.start()

    def wait_until_registered(self, timeout: float) -> bool:
        """Wait, in whichever of its processes, until it stands in the workers' table.

        Args:
            timeout: seconds to wait at most.
        """
        until = elapsed() + timeout
        while not self.name and elapsed() < until:
            self._ended.wait(0.01)
        return bool(self.name)

    def finish(self) -> None:
        """Note that the worker was asked to end when its runs have ended."""
        self._finishing = True

    def _acquire(self) -> None:
        self._lease.acquire_patiently(self._ended.wait, self._ended.is_set)
        self._shared_name[:] = self._lease.name.encode().ljust(NAME, b"\0")
        self._lease.tell()
        connections.close_all()

    def _keep_on(self) -> None:
        with patience.limited(0.5):
            self._keep_the_lease()

    def _keep_the_lease(self) -> None:
        pause = 0.0
        with self.seats.connected:
            self._acquire()
        while not self._ended.wait(pause):
            with self.seats.connected:
                pause = self._turn()
                self.seats.share_connections()
        connections.close_all()

    def _turn(self) -> float:
        """Do everything that is due. Returns the seconds until something may be due again."""
        try:
            for seat in self.seats:
                seat.look()
            self._end_overdue()
            due = self._lease.keep()
            self._revocations.heed(self.name, [seat.marks for seat in self.seats])
            self._release_strays()
            self._bury()
        except LeaseLost as error:
            self._start_over(error)
            return 0.0
        except (DatabaseError, InterfaceError) as error:
            logger.warning("The database does not answer: %s", error)
            connections.close_all()
            return 1.0
        # The heartbeats have to go on, for without them other workers would take the rows.
        except Exception:
            logger.exception("The fleet's worker goes on after an error.")
            connections.close_all()
            return 1.0
        return min(due, LOOK_EVERY)

    def _end_overdue(self) -> None:
        """Kill processes in which a run is overdue or revoked, and those that were asked to end."""
        for seat in self.seats:
            if seat.marks.retiring and not self._finishing:
                seat.end()  # it alone was asked to end, and not its worker
            if seat.pid == 0 or seat.dead or seat.ended or not (overdue := seat.marks.overdue()):
                continue
            if seat.pid == self.seats.main:
                if self._may_kill:
                    self._end_itself(overdue)
                continue
            seat.timed_out = overdue
            seat.end()

    def _end_itself(self, overdue: dict[int, float]) -> NoReturn:
        """Take back the rows of this process, leave, and kill it."""
        self.seats.mine.timed_out = overdue
        self._lease.limit_waits()
        self._lease.release()
        begun = self.seats.mine.marks.begun()
        rescue.rescue(f"{self.name}.", self.seats.mine.story, begun, overdue, stopped=True)
        logger.warning("%s.", self.seats.mine.story)
        flush_output()
        os.kill(self.seats.main, signal.SIGKILL)
        raise AssertionError("a process lives on after SIGKILL")

    def _bury(self) -> None:
        """Take back the rows of processes that have died."""
        for seat in [seat for seat in self.seats if seat.dead]:
            # If it fails, for somebody has locked a row of it, the next try begins with another.
            self.seats.put_last(seat)
            self._lease.limit_waits()
            count = rescue.rescue(
                seat.prefix(self.name),
                seat.story,
                begun=seat.marks.begun(),
                timed_out=seat.timed_out,
                stopped=seat.was_asked_to_end or self._finishing,
            )
            if count:
                logger.warning("%s. Tasks taken back: %d.", seat.story, count)
            self.seats.remove(seat)
            self._strays_at = min(self._strays_at, elapsed() + 1.0)

    def _release_strays(self) -> None:
        if elapsed() >= self._strays_at:
            self._lease.limit_waits()
            rescue.release_strays(self.name, [seat.number for seat in self.seats])
            self._strays_at = elapsed() + STRAYS

    def _start_over(self, error: LeaseLost) -> None:
        """End the processes, whose rows other workers have now, and register anew."""
        logger.error("%s It registers anew.", error)
        for seat in self.seats.others():
            if seat.marks.busy:
                seat.end()
        self._acquire()

    def _describe(self) -> status.Status:
        running = [*self.seats.others()]
        if self.seats.mine.marks.busy:
            running.append(self.seats.mine)
        return status.of(self._ended.is_set(), running) | {"fleet": self._engine}

    def leave(self) -> None:
        """Hand back what is still held, and leave the workers' table."""
        self._ended.set()
        self.seats.closed = True
        if not self.seats.connected.acquire(timeout=LONGEST_WAIT):
            logger.warning("This worker could not leave: the database does not answer.")
            return
        story = f"the fleet's worker {self.seats.main} ended"
        try:
            self._lease.limit_waits()
            self._lease.release()
            rescue.rescue(f"{self.name}.", story, begun=self.seats.begun(), stopped=True)
        except (DatabaseError, InterfaceError) as error:
            logger.warning("This worker could not hand back what it holds: %s", error)
        finally:
            connections.close_all()
            self.seats.connected.release()
