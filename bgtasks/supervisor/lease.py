"""A worker's lease on its claims, and the chores that come with being alive."""

from __future__ import annotations

import logging
import os
import secrets
import socket
from collections.abc import Callable

from django.db import DatabaseError, InterfaceError, connections

from bgtasks import __version__, conf
from bgtasks.clock import elapsed
from bgtasks.exceptions import LeaseLost
from bgtasks.models import Worker
from bgtasks.queue import claims, pruning, rescue, workers
from bgtasks.queue.database import WORKER_PREFIX
from bgtasks.supervisor import lock_file
from bgtasks.supervisor.cron import Cron
from bgtasks.tasks import registry
from bgtasks.worker.options import Options

logger = logging.getLogger(__name__)

# Seconds between looks for abandoned locks and unknown tasks, and between prunings.
SWEEP = 60.0
PRUNE = 600.0


class Lease:
    """One registration in the workers' table."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._length = conf.lease()
        self._beat_every = self._length / 3
        self.name = ""
        self._presence = lock_file.Presence()
        self._cron = Cron()
        self._rows_to_run = False
        self._reset()

    def _reset(self) -> None:
        self._beat_at = self._look_at = self._sweep_at = 0.0
        self._prune_at = elapsed() + self._length
        self._cron.reset()
        # Since when every heartbeat has reached the database; None: the last one did not.
        self._in_contact_since: float | None = None
        self._last_beat = 0.0

    def acquire(self) -> None:
        """Register under a new name."""
        # A name of its own: whoever bore the last one is dead or was declared so.
        self.name = f"{WORKER_PREFIX}{secrets.token_hex(6)}"
        self._reset()
        self._presence.hold(self.name)
        workers.register(
            Worker(
                name=self.name,
                host=socket.gethostname(),
                pid=os.getpid(),
                processes=self._options.processes,
                threads=self._options.threads,
                queues=list(self._options.queues) if self._options.queues else None,
                version=__version__,
                lease=self._length,
            )
        )
        self._beaten()
        if abs(skew := workers.skew().total_seconds()) > 1:
            logger.warning(
                "This host's clock is %.1f s %s the database's. Tasks start by the clocks of the "
                "hosts that enqueue them; let NTP set them all.",
                abs(skew),
                "ahead of" if skew > 0 else "behind",
            )

    def acquire_patiently(self, wait: Callable[[float], object], over: Callable[[], bool]) -> bool:
        """Register, waiting for the database if need be.

        Args:
            wait: waits so many seconds, or until there is something new.
            over: whether to give up.

        Returns:
            Whether it is registered.
        """
        said = False
        while not over():
            try:
                self.acquire()
                return True
            except (DatabaseError, InterfaceError) as error:
                if not said:
                    logger.warning("Waiting for the database: %s", str(error).strip())
                said = True
                connections.close_all()
                wait(1.0)
        return False

    def release(self) -> None:
        """Leave the workers' table. Everything it held must have been handed back."""
        workers.deregister(self.name)
        self._presence.let_go()

    def keep(self) -> float:
        """Do what is due.

        Returns:
            Seconds until something is due again.

        Raises:
            LeaseLost: this worker was declared dead.
        """
        try:
            if self._due_in() <= 0:
                self._do_what_is_due()
        except (DatabaseError, InterfaceError) as error:
            if self._in_contact_since is not None:
                logger.warning("No heartbeat: the database does not answer (%s).", error)
            self._in_contact_since = None
            connections.close_all()
            return 1.0
        except LeaseLost:
            raise
        except Exception:  # of ours or of a receiver; without heartbeats all tasks would be lost
            logger.exception("A chore failed; the heartbeats go on.")
            connections.close_all()
            return 1.0
        return max(0.0, self._due_in())

    def take_rows_to_run(self) -> bool:
        """Whether `keep` has made rows ready since the last call of this.

        It took them back from a dead worker, or enqueued them by a cron line. Whoever keeps the
        lease lets those know that claim rows.
        """
        found, self._rows_to_run = self._rows_to_run, False
        return found

    def limit_waits(self) -> None:
        """Have no statement wait for a lock so long that a heartbeat is late."""
        workers.limit_waits(self._beat_every / 2)

    def _due_in(self) -> float:
        due = min(self._beat_at, self._look_at, self._sweep_at, self._prune_at)
        return min(due - elapsed(), self._cron.due_in())

    def pulse(self) -> None:
        """Send a heartbeat in the middle of long work, if one is due.

        Raises:
            LeaseLost: this worker was declared dead.
        """
        if elapsed() >= self._beat_at:
            workers.beat(self.name)
            self._beaten()

    def _do_what_is_due(self) -> None:
        self.limit_waits()
        self.pulse()
        if self._cron.due_in() <= 0:
            for enqueued in self._cron.run_in_steps():
                self._rows_to_run |= enqueued
                self.pulse()
        if elapsed() >= self._look_at:
            self._look_after_peers()
        if elapsed() >= self._sweep_at:
            self._sweep()
        if elapsed() >= self._prune_at:
            self._prune_a_little()

    def _beaten(self) -> None:
        now = elapsed()
        # After a gap, an outage or our own absence, we know nothing of the others.
        if self._in_contact_since is None or now - self._last_beat > self._length:
            self._in_contact_since = now
        self._last_beat = now
        self._beat_at = now + self._beat_every

    def _look_after_peers(self) -> None:
        """Declare those dead whose lease has run out, once we ourselves had one whole lease."""
        now = elapsed()
        entitled_at = (self._in_contact_since or now) + self._length
        self._look_at = now + self._beat_every
        for peer in workers.peers(self.name):
            if lock_file.gone(peer.name):
                self._rescue(peer, gone=True)
            elif peer.left > 0:
                self._look_at = min(self._look_at, now + peer.left + 0.05)
            elif now < entitled_at:
                self._look_at = min(self._look_at, entitled_at)
            else:
                self._rescue(peer, gone=False)

    def _rescue(self, peer: workers.Peer, gone: bool) -> None:
        steps = rescue.rescue_worker(peer, gone)
        if steps is None:
            return
        self._rows_to_run = True
        count = 0
        for rows in steps:
            count += rows
            self.pulse()
        logger.warning("%s is dead. Tasks taken back: %d.", peer, count)
        lock_file.forget(peer.name)

    def _sweep(self) -> None:
        """Locks that nobody will release, and rows that nobody knows how to run."""
        self._sweep_at = elapsed() + SWEEP
        if claims.release_expired() + rescue.rescue_orphans(self._length):
            self._rows_to_run = True
        if unknown := claims.unknown(registry.names(), self._options.queues):
            logger.warning(
                "Rows wait for tasks that this worker does not know: %s. Is their app in "
                "INSTALLED_APPS, and does its tasks.py import? If they are newer than this worker, "
                "restart it.",
                ", ".join(unknown),
            )

    def _prune_a_little(self) -> None:
        """One batch at a time, so that a heartbeat is never late for it."""
        self._prune_at = elapsed() + PRUNE
        try:
            if next(pruning.prune(conf.retention()), 0):
                self._prune_at = elapsed() + 0.5
        except (DatabaseError, InterfaceError):
            raise
        except Exception:  # a receiver of post_delete, as a rule: it must not end the worker
            logger.exception("Finished tasks are not pruned.")
