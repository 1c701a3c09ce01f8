"""A run of the adapter: its threads, its worker, and how both end."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from django.core.management import call_command

from . import reports, samples
from .controls import Controls
from .depths import Observer
from .orders import Orders
from .producer import Herder, Producer
from .stopping import Stopping
from .tally import Tally
from .worker import Worker

logger = logging.getLogger(__name__)

LOOK = 0.1  # seconds between two looks at the gate, at the worker, and at whether to end
LAST_WORDS = 0.5  # seconds that threads, and the last reports in the pipe, may take at the end


def run(orders: Orders, stopping: Stopping) -> int:
    """Do what the harness asks for, until a signal comes; returns the status to exit with."""
    call_command("migrate", verbosity=0, interactive=False)
    samples.write([samples.descriptor(orders)])
    adapter = Adapter(orders, stopping)
    adapter.start()
    worker = adapter.work()
    adapter.end(worker)
    return 1 if stopping.failed else 0


class Adapter:
    """All parts of the adapter, which share a tally."""

    def __init__(self, orders: Orders, stopping: Stopping) -> None:
        self._orders = orders
        self._stopping = stopping
        self._stop = threading.Event()
        self._tally = Tally()
        self._controls = Controls(orders)
        self._observer = Observer(self._stop)
        shared = (orders, self._controls, self._tally, self._stop)
        self._producer = Producer(*shared)
        self._herder = Herder(*shared)
        self._sampler = samples.Sampler(
            orders, self._controls, self._tally, self._observer, self._herder, self._stop
        )
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        """Begin to enqueue and to tell."""
        parts = [self._producer.run, self._sampler.run]
        if self._orders.instance == 0:
            parts += [self._observer.run, *([self._herder.run] if self._orders.herd_file else [])]
        for part in parts:
            self._in_thread(part)

    def work(self) -> Worker | None:
        """Start the worker as soon as it may start, and watch it until this is to end."""
        worker = None
        while not self._stopping.wanted:
            if worker is None and self._controls.gate_is_open():
                worker = self._start_worker()
            if worker and worker.status() is not None:
                logger.error("The worker has ended by itself, with %s.", worker.status())
                self._stopping.fail()
            time.sleep(LOOK)
        return worker

    def _start_worker(self) -> Worker:
        worker = Worker(self._orders)
        self._in_thread(lambda: reports.hear(worker.reports, self._tally.heard))
        return worker

    def end(self, worker: Worker | None) -> None:
        """Stop everything, and tell what has happened since the last tick."""
        self._stop.set()
        if worker:
            worker.stop()
        deadline = time.monotonic() + LAST_WORDS
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        try:
            self._sampler.tell()
        except BrokenPipeError:
            samples.give_up_stdout()

    def _in_thread(self, part: Callable[[], None]) -> None:
        """Run a part beside the others; if it fails, the adapter ends with an error."""

        def guarded() -> None:
            try:
                part()
            except BrokenPipeError:
                self._stopping.wanted = True  # nobody reads what is told
            except Exception:
                logger.exception("A part of the adapter has failed.")
                self._stopping.fail()

        # A daemon: one that hangs in a call to the database may not keep the process from ending.
        self._threads.append(threading.Thread(target=guarded, daemon=True))
        self._threads[-1].start()
