"""The task of django-vtasks, and its queue."""

import asyncio

import django
from django.tasks import task, task_backends

from bench.ledger import note

CHUNK = 1000  # tasks in one command to Redis


@task
def noop(number: int) -> None:
    note(number)


def fill(tasks: int) -> None:
    django.setup()
    for start in range(0, tasks, CHUNK):
        numbers = range(start, min(start + CHUNK, tasks))
        task_backends["default"].enqueue_many([(noop, (n,), {}) for n in numbers])


def clear() -> None:
    """Remove every key under our prefix."""
    django.setup()
    asyncio.run(_clear(task_backends["default"]))


async def _clear(backend) -> None:
    for key in await backend.driver.scan_all(f"{backend.prefix}*"):
        await backend.driver.delete(key.decode() if isinstance(key, bytes) else key)
