"""Publishes in a thread of its own, so that a broker that is silent holds up nobody for long."""

from __future__ import annotations

import queue
import threading
from collections.abc import Sequence
from concurrent.futures import Future, wait
from typing import NamedTuple

from bgtasks.engines.base import Engine, Message, Unreachable


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

    def publish(self, messages: Sequence[Message]) -> None:
        """Publish messages. If this fails, they may be sent all the same, now or later.

        Raises:
            Unreachable: the broker refuses them, or has not taken them within the seconds after
                which they would be published again, or it still has to take earlier ones.
        """
        if self._last and not self._last.done():
            raise self._is_silent()
        if self._thread is None:
            # Nobody waits for it at the end of the process.
            self._thread = threading.Thread(target=self._serve, name="bgtasks-sender", daemon=True)
            self._thread.start()
        batch = Batch(messages, Future())
        self._last = batch.sent
        self._batches.put(batch)
        wait([batch.sent], self._engine.again_after)
        if not batch.sent.done():
            raise self._is_silent()
        batch.sent.result()

    def _is_silent(self) -> Unreachable:
        return Unreachable(
            "the broker is connected and takes nothing. It may have no memory or no disk left."
        )

    def _serve(self) -> None:
        while True:
            messages, sent = self._batches.get()
            try:
                self._engine.publish(messages)
            except BaseException as error:
                sent.set_exception(error)
            else:
                sent.set_result(None)
