"""The processes of a fleet's worker: the main one, and a seat for each that is forked from it."""

from __future__ import annotations

import itertools
import os
import threading
from collections.abc import Iterator

from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper

from bgtasks.engines.seat import Seat
from bgtasks.queue import database as db

# The most seconds that the main process waits for the thread that keeps the lease, which may wait
# for the database.
LONGEST_WAIT = 5.0


class Seats:
    """The seats of a worker's processes, of which the first is the main process's own.

    Args:
        slots: how many rows each process can run at the same time.

    Attributes:
        main: the process id of the main process.
        mine: the seat of the process that asks.
        keeper: the thread that keeps the lease.
        connected: held by whoever uses a connection of the main process: an open connection to
            SQLite must not be inherited.
        closed: whether the processes that are forked from now on get no seats.
    """

    def __init__(self, slots: int) -> None:
        self._slots = slots
        self.main = os.getpid()
        self._numbers = itertools.count(1)
        self.mine = self._make()
        self.mine.take()
        self._all = [self.mine]
        self._coming: Seat | None = None
        self._holds = False
        self.keeper: threading.Thread | None = None
        self.connected = threading.Lock()
        self._connections: list[BaseDatabaseWrapper] = []
        self.closed = False
        os.register_at_fork(
            before=self._before_fork,
            after_in_parent=self._after_in_parent,
            after_in_child=self._after_in_child,
        )

    def __iter__(self) -> Iterator[Seat]:
        return iter(list(self._all))

    def _make(self) -> Seat:
        return Seat(next(self._numbers), self._slots)

    @property
    def is_main(self) -> bool:
        """Whether the process that asks is the main process."""
        return os.getpid() == self.main

    def others(self) -> Iterator[Seat]:
        """The seats that a process has taken, without that of the main process."""
        return (seat for seat in self if seat.pid not in (0, self.main))

    def put_last(self, seat: Seat) -> None:
        self._all.remove(seat)
        self._all.append(seat)

    def remove(self, seat: Seat) -> None:
        """Free what the main process has of a process that is dead."""
        self._all.remove(seat)
        seat.close()

    def begun(self) -> set[int]:
        """The ids of the rows that have begun in any process, and are not recorded yet."""
        return set[int]().union(*(seat.marks.begun() for seat in self))

    def share_connections(self) -> None:
        """Let another thread close the connections of the one that calls, before it forks."""
        self._connections = list(connections.all(initialized_only=True))
        for each in self._connections:
            if not each.allow_thread_sharing:
                each.inc_thread_sharing()

    # --- forks

    def _before_fork(self) -> None:
        if self.closed or not self.is_main or threading.current_thread() is self.keeper:
            return
        self._coming = self._make()
        # A process that inherits a connection to PostgreSQL leaves it alone: the drivers look whose
        # it is.
        if not db.on_postgresql():
            self._holds = self.connected.acquire(timeout=LONGEST_WAIT)
            for each in self._connections if self._holds else ():
                each.close()

    def _after_in_parent(self) -> None:
        if self._coming:
            self._all.append(self._coming)
            self._coming = None
            self._let_go()

    def _after_in_child(self) -> None:
        if self._coming:
            self.mine = self._coming
            self.mine.take()
            self._coming = None
            self._let_go()

    def _let_go(self) -> None:
        if self._holds:
            self._holds = False
            self.connected.release()
