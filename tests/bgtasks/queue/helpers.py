"""Rows of the queue, and claims of them, for the tests of its statements."""

from __future__ import annotations

from typing import Any

from background_task.models import Task

from bgtasks.models import Worker
from bgtasks.queue import claims, workers
from signup.tasks import discard_files as task

NAMES = [task.name]


TOKEN = "bg~000000000000.1-1"


def rows(count: int, **options: Any) -> list[Task]:
    return [task([str(number)], **options) for number in range(count)]


def claim(limit: int = 100, token: str = TOKEN, **options: Any) -> list[Task]:
    return claims.claim(token, NAMES, limit, **options)


def register(name: str) -> Worker:
    worker = Worker(name=name, host="h", pid=1, processes=1, threads=1, version="0", lease=15)
    workers.register(worker)
    return worker
