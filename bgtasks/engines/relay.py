"""The relay: a worker that runs nothing, and publishes the rows that it claims."""

from __future__ import annotations

from bgtasks.engines.base import Engine
from bgtasks.engines.published import Published
from bgtasks.logs import get_logger
from bgtasks.queue import patience
from bgtasks.queue.claims import Claimant
from bgtasks.queue.counters import Counts
from bgtasks.queue.deliveries import RELAY
from bgtasks.queue.pacing import Pace
from bgtasks.supervisor.in_process import InProcess
from bgtasks.worker.bell import KeeperBell
from bgtasks.worker.claiming import Claiming
from bgtasks.worker.keeper import Keeper
from bgtasks.worker.options import Options
from bgtasks.worker.trouble import Trouble
from bgtasks.worker.wakeup import WakeUp

logger = get_logger(__name__)


class Relays:
    """A relay, and the next one if others have declared it dead, until it is stopped.

    It runs no task, so there is nothing that could not begin anew.
    """

    def __init__(self, engine: Engine, options: Options) -> None:
        self._engine, self._options = engine, options
        self._stopping = False
        self._current = self._make()

    def _make(self) -> InProcess:
        return InProcess(self._options, lambda name: Relay(name, self._engine, self._options))

    def stop(self, *_: object) -> None:
        """Send nothing more, and end. Safe in a signal handler, and before `run`."""
        self._stopping = True
        self._current.stop()

    def run(self) -> None:
        """Send rows until it is stopped, the queue is drained, or the duration is over."""
        while True:
            self._current.run()
            if self._stopping or not self._current.lost:
                return
            logger.warning("The relay registers anew.")
            self._current = self._make()
            if self._stopping:  # a signal came meanwhile
                self._current.stop()


class Relay:
    """Claims due rows and publishes them, until it is stopped.

    Args:
        worker: the name of the worker that it is in the workers' table.
    """

    def __init__(self, worker: str, engine: Engine, options: Options) -> None:
        claimant = Claimant(worker, RELAY)
        self._wakeup = WakeUp()
        self._published = Published(engine, claimant, KeeperBell(self._wakeup), options.drain)
        work = self._published
        self._claiming = Claiming(claimant, options, work, Pace(), work)
        self._published.ended = self._claiming.poll_again
        self._keeper = Keeper(
            options, work, self._claiming, work, work, self._wakeup, Counts(worker)
        )

    def stop(self, *_: object) -> None:
        """Publish nothing more, and end. Safe in a signal handler."""
        self._keeper.stop()

    def poke(self) -> None:
        """Poll the queue now."""
        self._claiming.poll_again()
        self._wakeup.poke()

    def run(self) -> None:
        """Publish rows until it is stopped, or has drained the queue."""
        with patience.limited():
            while not self._keeper.is_done():
                self._keeper.work()
                self._keeper.rest()
            self._keeper.close()

    def troubles(self) -> list[Trouble]:
        """What keeps it from its work; another thread asks."""
        return self._published.troubles()

    def close(self) -> None:
        """Free the sockets of the wake-up."""
        self._wakeup.close()
