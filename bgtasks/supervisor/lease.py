"""A worker's lease on its claims, and the chores that every living worker does.

The chores are: enqueueing by cron lines, noting how far the ids of the rows are, rescuing the rows
of dead workers, and pruning.
"""

from __future__ import annotations

import os
import secrets
import socket
from collections.abc import Callable, Iterator

from django.db import DatabaseError, DataError, InterfaceError, connections, reset_queries

from bgtasks import __version__, conf
from bgtasks.clock import elapsed
from bgtasks.exceptions import LeaseLost
from bgtasks.logs import get_logger
from bgtasks.models import Worker
from bgtasks.queue import claims, id_marks, partitions, pruning, rescue, workers
from bgtasks.queue import database as db
from bgtasks.queue.database import WORKER_PREFIX
from bgtasks.queue.database_file import DatabaseFile, File
from bgtasks.supervisor import lock_file
from bgtasks.supervisor.cron import Cron
from bgtasks.supervisor.heartbeat_file import HeartbeatFile
from bgtasks.supervisor.status import Describe
from bgtasks.tasks import registry
from bgtasks.worker.options import Options

logger = get_logger(__name__)

# Seconds between two sweeps (see `Lease._sweep`), and between two prunings.
SWEEP = 60.0
PRUNE = 600.0


class Lease:
    """A worker's registration in the workers' table, which heartbeats keep alive.

    Args:
        describe: returns what the worker does, for its heartbeats.
        chores: whether it does what every worker does for all; see the module.

    Attributes:
        name: the worker's name, with which its claims begin.
    """

    def __init__(
        self, options: Options, describe: Describe = lambda: None, chores: bool = True
    ) -> None:
        self._options = options
        self._chores = chores
        self._describe = describe
        self._length = conf.lease()
        self._beat_every = self._length / 3
        self.name = ""
        self._presence = lock_file.Presence()
        self._heartbeat_file = HeartbeatFile(options.heartbeat_file)
        self._cron = Cron()
        self._file = DatabaseFile()
        self._rows_to_run = False
        self._names: list[str] = []
        self._reset()

    def _reset(self) -> None:
        self._beat_at = self._look_at = self._sweep_at = self._ids_at = 0.0
        self._ids = id_marks.IdWatch()
        self._prune_at = elapsed() + self._length
        self._pruning: Iterator[int] | None = None
        # Since when a worker's heartbeat cannot be read.
        self._odd_since: dict[str, float] = {}
        self._cron.reset()
        # Since when all heartbeats have reached the database; None if the last one has not.
        self._in_contact_since: float | None = None
        self._last_beat = 0.0

    def acquire(self) -> None:
        """Register under a new name.

        Raises:
            DatabaseError, InterfaceError: the database does not answer.
            LeaseLost: others have declared this worker dead before it had registered.
        """
        # The name is a new one each time: others may have declared the bearer of the last one dead.
        self.name = f"{WORKER_PREFIX}{secrets.token_hex(6)}"
        self._reset()
        self._file.note()
        self._presence.hold(self.name)
        self._names = sorted(registry.names())
        workers.register(
            Worker(
                name=self.name,
                host=socket.gethostname(),
                pid=os.getpid(),
                processes=self._options.processes,
                threads=self._options.threads,
                queues=list(self._options.queues) if self._options.queues else None,
                names=list(self._names),
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
        """Register, and wait for the database if it does not answer.

        Args:
            wait: waits so many seconds, or until a signal or a poke comes.
            over: returns whether to give up.

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
            except LeaseLost as error:
                logger.warning("%s It registers anew.", error)
                wait(1.0)
        return False

    def release(self) -> None:
        """Leave the workers' table. All rows of this worker should have been handed back before."""
        self._heartbeat_file.remove()
        workers.deregister(self.name)
        self._presence.let_go()

    def abandon(self) -> None:
        """Have this process, which is a copy of a worker's, hold no proof that the worker lives."""
        self._presence.abandon()

    def keep(self) -> float:
        """Send a heartbeat and do the chores, as far as they are due. Errors are logged.

        Returns:
            Seconds until something is due again.

        Raises:
            LeaseLost: this worker was declared dead, or the database is another one now.
        """
        try:
            if self._file_is_gone():
                return 1.0
            if self._due_in() <= 0:
                self._do_what_is_due()
                reset_queries()  # with DEBUG, Django keeps each statement
        except LeaseLost:
            raise
        except DataError:  # what somebody has written into a table: the database does answer
            logger.exception("A chore failed; the heartbeats go on.")
            return 1.0
        except (DatabaseError, InterfaceError) as error:
            if self._in_contact_since is not None:
                logger.warning("No heartbeat: the database does not answer (%s).", error)
            self._in_contact_since = None
            connections.close_all()
            return 1.0
        # An error of bgtasks itself, or of a receiver. The heartbeats have to go on, for without
        # them other workers would take this worker's rows.
        except Exception:
            logger.exception("A chore failed; the heartbeats go on.")
            connections.close_all()
            return 1.0
        return max(0.0, self._due_in())

    def _file_is_gone(self) -> bool:
        """Whether there is no file of the SQLite database any more, which is logged once.

        The connections stay open meanwhile: to open one would make an empty file.

        Raises:
            LeaseLost: the file was replaced. This worker stands in no table of the new one.
        """
        state = self._file.state()
        if state is File.SAME:
            return False
        text = f"The database file {self._file.path} {state.value}."
        if state is File.GONE:
            if self._in_contact_since is not None:
                logger.warning("%s Waiting for it.", text)
            self._in_contact_since = None
            return True
        connections.close_all()
        self._file.note()
        raise LeaseLost(text)

    def take_rows_to_run(self) -> bool:
        """Whether `keep` has made rows ready since this was called last.

        It has taken them back from a dead worker, or enqueued them by a cron line. Then the caller
        should wake those who claim rows.
        """
        found, self._rows_to_run = self._rows_to_run, False
        return found

    def limit_waits(self) -> None:
        """Limit how long a statement waits for a lock, so that no heartbeat is late."""
        workers.limit_waits(self._beat_every / 2)

    def _due_in(self) -> float:
        if not self._chores:
            return self._beat_at - elapsed()
        due = min(self._beat_at, self._ids_at, self._look_at, self._sweep_at, self._prune_at)
        return min(due - elapsed(), self._cron.due_in())

    def pulse(self) -> None:
        """Send a heartbeat if one is due. Call it between the steps of long work.

        Raises:
            LeaseLost: this worker was declared dead.
        """
        if elapsed() >= self._beat_at:
            workers.beat(self.name, self._describe())
            self._beaten()
            if len(names := registry.names()) != len(self._names):  # a module was imported late
                self._names = sorted(names)
                workers.correct_names(self.name, self._names)

    def tell(self) -> None:
        """Have the next `keep` send a heartbeat, for what the worker does has changed."""
        self._beat_at = 0.0

    def _do_what_is_due(self) -> None:
        self.limit_waits()
        self.pulse()
        if not self._chores:
            return
        if self._cron.due_in() <= 0:
            for enqueued in self._cron.run_in_steps():
                self._rows_to_run |= enqueued
                self.pulse()
        if elapsed() >= self._ids_at:
            self._ids.look()
            self._ids_at = elapsed() + id_marks.EVERY
        if elapsed() >= self._look_at:
            self._look_after_peers()
        if elapsed() >= self._sweep_at:
            self._sweep()
        if elapsed() >= self._prune_at:
            self._prune_a_little()

    def _beaten(self) -> None:
        """Note that a heartbeat has reached the database."""
        now = elapsed()
        # If none has for a whole lease, the database was away, or this process did not run. Then
        # the other workers may have been unable to send heartbeats too, so contact begins anew.
        if self._in_contact_since is None or now - self._last_beat > self._length:
            self._in_contact_since = now
        self._last_beat = now
        self._beat_at = now + self._beat_every
        self._heartbeat_file.renew()

    def _look_after_peers(self) -> None:
        """Declare workers dead whose lease has run out, and take back their rows.

        This worker does so only after it has been in contact with the database for a whole lease:
        after an outage of the database, all leases have run out though nobody is dead. A worker on
        the same host that is proven dead by its lock file needs no such wait.
        """
        now = elapsed()
        entitled_at = (self._in_contact_since or now) + self._length
        self._look_at = now + self._beat_every
        peers = workers.peers(self.name, self._length)
        for peer in peers:
            left = self._left_of(peer, now)
            if lock_file.gone(peer.name):
                self._rescue(peer, gone=True)
            elif left > 0:
                self._look_at = min(self._look_at, now + left + 0.05)
            elif now < entitled_at:
                self._look_at = min(self._look_at, entitled_at)
            else:
                self._rescue(peer, gone=False)
        odd = {peer.name for peer in peers if peer.left is None}
        self._odd_since = {name: at for name, at in self._odd_since.items() if name in odd}

    def _left_of(self, peer: workers.Peer, now: float) -> float:
        """Seconds until a worker's lease runs out.

        If its heartbeat cannot be read, its next one mends that, if it lives: the lease runs from
        when that was first seen.
        """
        if peer.left is not None:
            return peer.left
        if peer.name not in self._odd_since:
            logger.warning(
                "%s: its heartbeat in the workers' table is no date, or lies in the future. If it "
                "lives, its next heartbeat mends that; if not, its tasks are taken back in %d s.",
                peer, peer.lease,
            )  # fmt: skip
        return self._odd_since.setdefault(peer.name, now) + peer.lease - now

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
        """Release locks that nobody else releases, and warn of rows that this worker cannot run.

        The locks are those of upstream's workers that are too old, and those of workers of ours
        that are no longer in the workers' table.
        """
        self._sweep_at = elapsed() + SWEEP
        if claims.release_expired() + rescue.rescue_orphans(self._length):
            self._rows_to_run = True
        if unknown := claims.unknown(registry.names(), self._options.queues):
            logger.warning(
                "Rows wait for tasks that this worker does not know: %s. A worker imports the "
                "tasks.py of each app in INSTALLED_APPS: if a task is declared in another module, "
                "import it in tasks.py. If the tasks are newer than this worker, restart it.",
                ", ".join(unknown),
            )

    def _prune_a_little(self) -> None:
        """Make the partitions of the next days, and delete one batch of what is too old.

        Between two batches there may be a heartbeat.
        """
        self._prune_at = elapsed() + PRUNE
        if self._pruning is None:
            partitions.prepare()
        pruned, self._pruning = self._pruning or pruning.prune(conf.retention()), None
        try:
            if next(pruned, None) is not None:
                self._prune_at, self._pruning = elapsed() + 0.5, pruned
        except (DatabaseError, InterfaceError) as error:
            if not db.is_given_up(error):
                raise
            logger.warning("Pruning takes too long, and is tried again later: %s", error)
        except Exception:  # usually of a receiver of post_delete, which must not end the worker
            logger.exception("Finished tasks are not pruned.")
