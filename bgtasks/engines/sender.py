"""Publishes in a thread of its own, so that a broker that is silent holds up nobody for long."""

from __future__ import annotations

import queue
import threading
from collections.abc import Sequence
from concurrent.futures import Future, wait
from typing import NamedTuple

from django.db import close_old_connections, connections

from bgtasks.clock import elapsed
from bgtasks.engines.base import Engine, Message, Unreachable

# So many times that many seconds after which a row is published again, a thread that still sends is
# abandoned, and another one tries: its connection may be dead without knowing. The number doubles
# each time, so that a broker that hangs for days costs few threads.
ABANDON = 10


class Batch(NamedTuple):
    """Messages to be published, and what tells that they are."""

    messages: Sequence[Message]
    sent: Future[None]


class Sender:
    """Publishes messages, and gives up if the broker neither takes nor refuses them.

    A broker may keep its connections and take nothing: if it has no memory or no disk left, or if
    the network between loses all packets. A client then waits for minutes or for ever.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._batches: queue.SimpleQueue[Batch] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._last: Future[None] | None = None
        self._began = 0.0
        self._abandon = ABANDON

    def publish(self, messages: Sequence[Message]) -> None:
        """Publish messages. If this fails, they may be sent all the same, now or later.

        Raises:
            Unreachable: the broker refuses them, or has not taken them within the seconds after
                which they would be published again, or it still has to take earlier ones.
        """
        if self._last and not self._last.done():
            if elapsed() < self._began + self._abandon * self._engine.again_after:
                raise self._is_silent()
            self._thread = None
            self._abandon *= 2
        if self._thread is None:
            self._start()
        batch = Batch(messages, Future())
        self._last, self._began = batch.sent, elapsed()
        self._batches.put(batch)
        wait([batch.sent], self._engine.again_after)
        if not batch.sent.done():
            raise self._is_silent()
        self._abandon = ABANDON
        batch.sent.result()

    def _start(self) -> None:
        """Start a thread with a queue of its own. Nobody waits for it at the end of the process."""
        self._batches = queue.SimpleQueue()
        self._thread = threading.Thread(
            target=self._serve, args=[self._batches], name="bgtasks-sender", daemon=True
        )
        self._thread.start()

    def _is_silent(self) -> Unreachable:
        return Unreachable(
            "the broker is connected and takes nothing. It may have no memory or no disk left."
        )

    def _serve(self, batches: queue.SimpleQueue[Batch]) -> None:
        while True:
            messages, sent = batches.get()
            try:
                close_old_connections()  # a fleet may keep its messages in a database
                self._engine.publish(messages)
            except BaseException as error:
                connections.close_all()
                sent.set_exception(error)
            else:
                sent.set_result(None)
