from __future__ import annotations

import logging
import queue
import time
from logging.handlers import QueueHandler, QueueListener

from django.apps import AppConfig
from django.conf import settings

from bgtasks.signals import worker_started, worker_stopping

handler = QueueHandler(queue.SimpleQueue())


class Slow(logging.FileHandler):
    """As one that sends each record over a network."""

    def emit(self, record: logging.LogRecord) -> None:
        time.sleep(0.02)
        super().emit(record)


listeners: list[QueueListener] = []


def listen(**_: object) -> None:
    # The one that a thread of the parent process reads may be locked for ever in this one.
    handler.queue = queue.SimpleQueue()
    listeners.append(QueueListener(handler.queue, Slow(settings.QUEUED_LOG)))
    listeners[-1].start()


def write_the_rest(**_: object) -> None:
    listeners[-1].stop()


class QueuedLog(AppConfig):
    name = "tests.bgtasks.project.queued_log"
    label = "queued_log"

    def ready(self) -> None:
        root = logging.getLogger()
        root.handlers = [handler]
        listen()
        if getattr(settings, "RESTART_LOG", False):
            worker_started.connect(listen)
            worker_stopping.connect(write_the_rest)
