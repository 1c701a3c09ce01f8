"""Tasks as they are written for Celery, and one that a worker is killed in."""

import asyncio
import time
from pathlib import Path

from django.conf import settings

from bgtasks.dialects.celery import shared_task
from tests.bgtasks.project.tasks import note


@shared_task
def add(x, y):
    return x + y


@shared_task
def multiply(x, y):
    return x * y


@shared_task
async def add_later(x, y):
    await asyncio.sleep(0)
    return x + y


@shared_task
def fail(text):
    note("failing")
    raise ValueError(text)


@shared_task(bind=True, max_retries=2)
def stubborn(self, key, countdown=0):
    note("try", self.request.retries)
    try:
        raise KeyError(key)
    except KeyError as error:
        raise self.retry(exc=error, countdown=countdown)  # noqa: B904  (as they are written)


@shared_task(bind=True)
def third_time(self, key):
    """Fail twice: first by word, then by its result."""
    note("try", self.request.retries, self.request.id, *self.request.args)
    if self.request.retries == 0:
        self.retry(countdown=0)
    if self.request.retries == 1:
        self.retry(countdown=0, throw=False)
    return self.request.retries


@shared_task(bind=True, autoretry_for=(OSError,), retry_kwargs={"max_retries": 1, "countdown": 0})
async def unreachable(self, host):
    note("try", self.request.retries)
    raise ConnectionError(host)


@shared_task(bind=True)
def waits(self, key):
    """Run for as long as nobody has written its key; the second run need not wait."""
    note("begin", key, self.request.retries)
    self.update_state(meta={"current": 3, "total": 4, "status": "nearly"})
    while not Path(f"{settings.LEDGER}.{key}").exists():
        time.sleep(0.01)
    note("end", key)
    return self.request.retries


@shared_task(time_limit=0.2)
def endless():
    note("begin", "endless")
    time.sleep(3600)


@shared_task(ignore_result=True)
def ignored():
    return 7
