from __future__ import annotations

import logging
import queue
from logging.handlers import QueueHandler, QueueListener

from django.apps import AppConfig
from django.conf import settings

from bgtasks.signals import worker_started

records: queue.SimpleQueue[logging.LogRecord] = queue.SimpleQueue()


def listen(**_: object) -> None:
    QueueListener(records, logging.FileHandler(settings.QUEUED_LOG)).start()


class QueuedLog(AppConfig):
    name = "tests.bgtasks.project.queued_log"
    label = "queued_log"

    def ready(self) -> None:
        root = logging.getLogger()
        root.handlers = [QueueHandler(records)]
        listen()
        if getattr(settings, "RESTART_LOG", False):
            worker_started.connect(listen)
