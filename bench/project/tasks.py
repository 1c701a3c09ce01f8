"""The tasks that are measured.

Each appends 16 bytes to the ledger: a number of its own and ``time.monotonic()``, as doubles.
The clock is the same in all processes.
"""

from __future__ import annotations

import asyncio
import os
import struct
import time
import uuid
from functools import cache
from typing import Any

import django
from django.conf import settings
from django.contrib.contenttypes.models import ContentType
from PIL import Image

from bgtasks import background
from bgtasks.dialects.celery import shared_task

if django.VERSION >= (6,):
    from django.tasks import task
else:
    from django_tasks import task


@cache
def ledger(pid: int) -> int:
    """The ledger, open for appending, in this process."""
    return os.open(settings.LEDGER, os.O_WRONLY | os.O_APPEND | os.O_CREAT)


def record(number: float) -> None:
    os.write(ledger(os.getpid()), struct.pack("<dd", number, time.monotonic()))


@background
def tick(number: int = 0) -> None:
    """As good as nothing."""
    record(number)


def insert_row() -> None:
    ContentType.objects.create(app_label="bench", model=uuid.uuid4().hex)
    record(0)


@background
def insert() -> None:
    insert_row()


@background(atomic=True)
def insert_atomically() -> None:
    insert_row()


def returning(result: Any) -> Any:
    record(0)
    return result


@background
def stored(result: Any) -> Any:
    return returning(result)


@background(ignore_result=True)
def ignored(result: Any) -> Any:
    """The same, and it is not kept."""
    return returning(result)


@background(unique=True)
def once(number: int) -> None: ...


@shared_task
def add(x: int, y: int) -> int:
    return x + y


@task
def framework(x: int, y: int) -> int:
    return x + y


def function(x: int, y: int) -> int:
    """For Django Q's words, which want no declaration."""
    return x + y


@background
def late(called: float) -> None:
    """Tell how late it is, in seconds."""
    record(time.monotonic() - called)


@background
def wait(seconds: float) -> None:
    began = time.monotonic()
    time.sleep(seconds)
    record(began)


@background
async def wait_async(seconds: float) -> None:
    began = time.monotonic()
    await asyncio.sleep(seconds)
    record(began)


def render(source: str) -> None:
    """Make three renditions of a picture, as the site does, from all of its pixels."""
    with Image.open(source) as image:
        image.load()
        for width in (1600, 800, 400):
            small = image.resize((width, width * 3 // 4), Image.Resampling.LANCZOS)
            small.save(os.devnull, "WEBP", quality=80)


@background
def rendition(source: str) -> None:
    began = time.monotonic()
    render(source)
    record(began)
