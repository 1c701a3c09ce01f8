"""Tasks for the tests of `bgtasks.testing`."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from datetime import timedelta
from typing import Any

from asgiref.sync import sync_to_async
from background_task.tasks import tasks as registry
from django.contrib.auth.models import Group
from django.db import IntegrityError, transaction
from django.utils import timezone

from bgtasks import Cancel, Retry, Snooze, background, current_task, set_progress

NAME = __name__


ran: list[Any] = []


before = set(registry._tasks)


@background
def note(key: Any) -> Any:
    ran.append(key)
    return key


@background
def chain(length: int) -> None:
    ran.append(length)
    if length:
        chain(length - 1)


@background
def endless() -> None:
    endless()


@background(atomic=True, max_attempts=1)
def settle(key: str, fault: bool = False) -> str:
    """Have effects of each kind, and fail after them if that is asked for."""
    Group.objects.create(name=key)
    note(f"enqueued by {key}")
    transaction.on_commit(lambda: ran.append(f"committed by {key}"))
    if fault:
        raise ValueError(key)
    return key


@background(atomic=True, max_attempts=1)
def settle_and_raise_on_commit() -> None:
    Group.objects.create(name="settled")
    transaction.on_commit(lambda: 1 // 0)


@background(backoff=60)
def fail(key: str = "no") -> None:
    ran.append(key)
    raise ValueError(key)


@background(max_attempts=1)
def fail_for_good() -> None:
    fail.now("for good")


@background(backoff=0, max_attempts=3)
def retry_at_once() -> int:
    task = current_task()
    assert task
    ran.append(task.attempt)
    if task.attempt < 3:
        raise Retry
    return task.attempt


@background(max_attempts=1)
def retry_in_vain() -> None:
    try:
        fail.now("cause")
    except ValueError as error:
        raise Retry(60) from error


@background
def snooze() -> None:
    raise Snooze(60)


@background
def cancel() -> None:
    raise Cancel("not wanted")


@background
async def tell_from_a_coroutine() -> int:
    for step in range(4):
        set_progress(step, 3, "done" if step == 3 else "")
    return 3


@background
async def coroutine(key: str) -> int:
    ran.append(key)
    await Group.objects.acreate(name=key)
    if key == "no":
        raise ValueError(key)
    return await Group.objects.acount()


@background
async def coroutine_of_coroutines() -> int:
    return int(await sync_to_async(lambda: coroutine.delay("inner").get())())


@background(timeout=0.01)
async def never() -> None:
    ran.append("never")  # before it awaits anything: it may take longer than the time-out to resume
    await asyncio.Event().wait()


@background(unique=True)
def unique() -> None:
    ran.append("unique")
    if len(ran) < 2:
        unique()


@background
def tell_progress() -> None:
    set_progress(1, 4)
    set_progress(3, 4, "nearly")


@background
def write_then_fail(key: str) -> None:
    """Write twice what may be there once."""
    Group.objects.create(name=key)
    Group.objects.create(name=key)


@background
def catch_what_fails(key: str) -> None:
    Group.objects.create(name=key)
    with suppress(IntegrityError):
        Group.objects.create(name=key)


@background(max_attempts=1)
def leak() -> None:
    transaction.atomic().__enter__()
    Group.objects.create(name="leaked")


@background
def on_commit(key: str) -> None:
    with transaction.atomic():
        transaction.on_commit(lambda: ran.append(key))
    ran.append("after")


@background
def interrupt() -> None:
    raise KeyboardInterrupt


@background
def not_json() -> object:
    return object()


@background
def wait_inside() -> Any:
    return note.delay("inner").get()


OURS = {name: proxy for name, proxy in registry._tasks.items() if name not in before}


for _name in OURS:
    del registry._tasks[_name]  # nor shall other tests find coroutines among the tasks


def later(**delay: float) -> Any:
    return timezone.now() + timedelta(**delay)
