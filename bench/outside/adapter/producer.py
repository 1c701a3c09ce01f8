"""What enqueues: ``task.map(...)``, by which any project enqueues many calls at once."""

from __future__ import annotations

import base64
import itertools
import logging
import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime

from django.db import Error, connection

from . import depths, pacing, tasks
from .controls import Controls, FailurePlan, Herd
from .orders import Orders
from .tally import Tally

logger = logging.getLogger(__name__)

OTHER_ARGUMENTS = 48  # bytes that the arguments of a job have besides its padding
AGAIN = 0.2  # seconds until a part of a herd is tried again


def padding(orders: Orders) -> str:
    """The text that makes the arguments of a job as long as the harness wants them."""
    length = max(0, orders.payload - OTHER_ARGUMENTS)
    if orders.noise:
        return base64.b64encode(os.urandom(length))[:length].decode()
    return "x" * length


class Producer:
    """Enqueues as the harness wants it, until it is stopped.

    What cannot be enqueued, as the database is away, is not tried again: the next jobs are due.
    """

    def __init__(
        self, orders: Orders, controls: Controls, tally: Tally, stop: threading.Event
    ) -> None:
        self._orders = orders
        self._controls = controls
        self._tally = tally
        self._stop = stop
        self._padding = padding(orders)
        self._next = 0
        self._queues = itertools.cycle(orders.queue_names())
        self._away = False

    def run(self) -> None:
        for jobs in self._amounts():
            numbers = range(self._next, self._next + jobs)
            self._next += jobs
            try:
                self._enqueue(numbers)
            except Error as error:
                self._lost(jobs, error)
            else:
                self._away = False

    def _amounts(self) -> Iterator[int]:
        orders, rate = self._orders, self._controls.rate
        if orders.mode == "depth-target":
            return pacing.by_depth(_waiting, orders.depth, orders.period, orders.batch, self._stop)
        if orders.paced_by_harness:
            return pacing.by_tokens(sys.stdin.fileno(), rate, self._stop)
        return pacing.by_clock(rate, orders.period, orders.batch, self._stop)

    def _enqueue(self, numbers: range) -> None:
        plan, queue = self._controls.failures(), next(self._queues)
        sound = [number for number in numbers if not plan.kind(number)]
        if sound:
            began, at = time.monotonic(), time.time()
            tasks.job.map(sound, at=at, padding=self._padding, queue=queue)
            self._tally.enqueued(len(sound), time.monotonic() - began)
        if len(sound) < len(numbers):
            self._enqueue_failing([n for n in numbers if plan.kind(n)], plan, queue)

    def _enqueue_failing(self, numbers: list[int], plan: FailurePlan, queue: str | None) -> None:
        began, kinds = time.monotonic(), [plan.kind(number) for number in numbers]
        tasks.failing.map(
            numbers, kinds, failures=plan.failures, padding=self._padding, queue=queue
        )
        self._tally.enqueued(len(numbers), time.monotonic() - began)

    def _lost(self, jobs: int, error: Error) -> None:
        if not self._away:  # once for each time that the database is away
            logger.warning("%d jobs, and those that follow, cannot be enqueued: %s", jobs, error)
        self._away = True
        renew_connection()


def _waiting() -> int | None:
    found = depths.count_if_possible()
    return None if found is None else found.waiting


def renew_connection() -> None:
    """Have this thread connect anew: its connection may be one that the server has ended."""
    with suppress(Error):
        connection.close()


class Herder:
    """Enqueues the herds that the harness orders: jobs that are due at a later time.

    Attributes:
        took: seconds for which the last herd was enqueued; None before there was one.
    """

    def __init__(
        self, orders: Orders, controls: Controls, tally: Tally, stop: threading.Event
    ) -> None:
        self.took: float | None = None
        self._controls = controls
        self._tally = tally
        self._stop = stop
        self._padding = padding(orders)
        self._queues = itertools.cycle(orders.queue_names())

    def run(self) -> None:
        while not self._stop.wait(pacing.LOOK):
            if herd := self._controls.herd():
                self._enqueue(herd)

    def _enqueue(self, herd: Herd) -> None:
        self.took, began = None, time.monotonic()
        for numbers, due in herd.batches():
            while not self._enqueued(numbers, due / 1000):
                if self._stop.wait(AGAIN):
                    return
        self.took = time.monotonic() - began

    def _enqueued(self, numbers: range, due: float) -> bool:
        """Try to enqueue a part; a herd may not be short of one."""
        when, queue = datetime.fromtimestamp(due, UTC), next(self._queues)
        try:
            tasks.planned.map(numbers, due=due, padding=self._padding, schedule=when, queue=queue)
        except Error as error:
            logger.warning("A part of a herd is tried again: %s", error)
            renew_connection()
            return False
        self._tally.enqueued_for_later(len(numbers))
        return True
