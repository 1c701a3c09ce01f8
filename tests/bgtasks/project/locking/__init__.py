"""An app by which somebody else locks the database when a task starts, until a file appears."""

import sqlite3
import threading
import time
from pathlib import Path
from typing import Any

from django.apps import AppConfig


class Locking(AppConfig):
    name = "tests.bgtasks.project.locking"

    def ready(self) -> None:
        from background_task.signals import task_started

        task_started.connect(lock, weak=False)


def lock(**_: Any) -> None:
    from django.conf import settings
    from django.db import connection

    unlock = Path(settings.LEDGER).with_name("unlock")
    if unlock.exists():
        return
    other = sqlite3.connect(
        connection.settings_dict["NAME"], timeout=20, isolation_level=None, check_same_thread=False
    )
    other.execute("BEGIN IMMEDIATE")

    def release() -> None:
        while not unlock.exists():
            time.sleep(0.01)
        other.close()

    threading.Thread(target=release).start()
