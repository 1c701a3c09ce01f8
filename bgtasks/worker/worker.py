"""A worker: a thread that claims and records, and the threads that run the claimed rows.

Plain functions run in threads, coroutines in one event loop. If there is one thread for plain
functions, it is the main thread of the process, as in django-background-tasks: some tasks set
signal handlers or need the main thread for another reason.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence

from bgtasks.logs import get_logger
from bgtasks.queue import patience, receivers
from bgtasks.queue.claims import Claimant
from bgtasks.queue.counters import Counts
from bgtasks.queue.pacing import Pace
from bgtasks.running import tracing
from bgtasks.signals import worker_started, worker_stopping
from bgtasks.worker.bell import LoopBell
from bgtasks.worker.claiming import Claiming
from bgtasks.worker.event_loop import EventLoop
from bgtasks.worker.handing_back import HandingBack
from bgtasks.worker.keeper import Keeper
from bgtasks.worker.options import Options
from bgtasks.worker.recorder import Recorder
from bgtasks.worker.recording import Recording
from bgtasks.worker.runner import Runner
from bgtasks.worker.shared_state import Marks
from bgtasks.worker.trouble import Trouble
from bgtasks.worker.wakeup import WakeUp
from bgtasks.worker.workload import Workload

logger = get_logger(__name__)


class Worker:
    """Runs rows until it is stopped, or until none is ready if it drains the queue.

    Each part below is given the parts that it calls, and none calls back up::

        worker ── keeper ── recording ── claiming ── handing_back ── workload
             └─── event_loop ── runner ── recording, workload

    Args:
        claimant: the child whose name stands in its claims.
        marks: where it marks the rows that it has begun.
        options: the options of ``process_tasks``.
        parent: the reading end of the parent's pipe, if there is a parent.
        crash_status: the status with which the process ends if a thread of the worker fails by an
            error of bgtasks, so that the parent takes its rows back; None: the worker stops, and
            the process lives on.
    """

    def __init__(
        self,
        claimant: Claimant,
        marks: Marks,
        options: Options,
        parent: int | None = None,
        crash_status: int | None = None,
    ) -> None:
        self._marks = marks
        self._crash_status = crash_status
        self._threads = options.threads
        self._wakeup = wakeup = WakeUp(parent)
        bell, pace = LoopBell(), Pace()
        counts = Counts(claimant.worker)
        recorder = Recorder(marks, pace, counts)
        self._work = work = Workload(options, wakeup, marks, bell)
        handing_back = HandingBack(claimant, work, recorder)
        self._claiming = Claiming(claimant, options, work, pace, handing_back)
        recording = Recording(work, recorder, self._claiming)
        self._keeper = Keeper(
            options, work, self._claiming, recording, handing_back, wakeup, counts
        )
        lonely = options.threads * options.processes == 1
        self._runner = Runner(work, marks, recording, wakeup, lonely)
        self._loop = EventLoop(work, self._runner, bell)

    def stop(self, *_: object) -> None:
        """Claim no more rows, hand back those that have not started, end when all runs have ended.

        Safe in a signal handler.
        """
        self._keeper.stop()

    def poke(self) -> None:
        """Poll the queue now."""
        self._claiming.poll_again()
        self._wakeup.poke()

    def run(self) -> bool:
        """Run rows, until the worker is stopped or has drained the queue.

        Returns:
            False if it ended because its parent has died.
        """
        receivers.send(worker_started, type(self))
        keeper = threading.Thread(target=self._serve, args=[self._keep], name="bgtasks-keeper")
        keeper.start()
        run_plain = self._runner.run_plain
        if self._threads == 1:
            self._serve(run_plain)
        else:
            threads = [
                threading.Thread(target=self._serve, args=[run_plain], name=f"bgtasks-{number}")
                for number in range(self._threads)
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        keeper.join()
        self._loop.join()
        tracing.flush()
        receivers.send(worker_stopping, type(self))
        return not self._wakeup.orphaned

    def close(self) -> None:
        """Free the sockets of the wake-up. Only signal handlers may still poke this worker.

        A child process need not call it: it exits.
        """
        self._wakeup.close()

    def troubles(self) -> Sequence[Trouble]:
        """None that are its own; see `bgtasks.supervisor.in_process.Runnable`."""
        return ()

    def _keep(self) -> None:
        """The keeper's loop: record endings, claim rows for the runners, and rest."""
        with patience.limited():
            while not self._keeper.is_done():
                self._heed_supervisor()
                self._keeper.work()
                self._loop.start_if_needed()
                self._keeper.rest()
            self._keeper.close()

    def _heed_supervisor(self) -> None:
        """Do what the supervisor asks for in shared memory. At the end, let no runner sleep on."""
        if self._marks.stopping:
            self._keeper.stop()
        if self._marks.cancelling:
            self._loop.cancel()
        for row_id in self._marks.revoked():
            self._loop.cancel_one(row_id)
        if self._work.closed:
            self._runner.ending.set()

    def _serve(self, loop: Callable[[], None]) -> None:
        """Run the loop of a thread. If it fails, end the worker: the others would wait for ever."""
        try:
            loop()
        except BaseException:
            try:
                name = threading.current_thread().name
                logger.critical("Thread %s failed, and with it this worker.", name, exc_info=True)
            finally:
                if self._crash_status is not None:
                    os._exit(self._crash_status)
                self.stop()
                self._work.close()
