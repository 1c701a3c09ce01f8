from __future__ import annotations

import io
import logging
import os
import threading
import time
from pathlib import Path

from django.apps import AppConfig
from django.conf import settings

parent = os.getpid()


class SlowFile(io.FileIO):
    """As one on a slow disk, in the parent."""

    def write(self, data: object) -> int:
        if os.getpid() == parent:
            time.sleep(0.2)
        return super().write(data)  # type: ignore[arg-type]


class BusyLog(AppConfig):
    name = "tests.bgtasks.project.busy_log"
    label = "busy_log"

    def ready(self) -> None:
        stream = io.TextIOWrapper(io.BufferedWriter(SlowFile(settings.BUSY_LOG, "ab")))
        handler = logging.StreamHandler(stream)
        logging.getLogger().addHandler(handler)
        write = past_the_log if settings.PAST_THE_LOG else by_the_log
        threading.Thread(target=write, args=[stream], daemon=True).start()
        while not Path(settings.BUSY_LOG).stat().st_size:
            time.sleep(0.01)


def by_the_log(stream: io.TextIOWrapper) -> None:
    while True:
        logging.getLogger("busy").info("a line")


def past_the_log(stream: io.TextIOWrapper) -> None:
    while True:
        stream.write("a line\n")
        stream.flush()
