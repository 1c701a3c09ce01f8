"""Tasks with results and policies, for our engine alone."""

from __future__ import annotations

import asyncio
import os
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from asgiref.sync import sync_to_async
from django.conf import settings
from django.db import transaction

from bgtasks import AsyncResult, Cancel, Retry, Snooze, background, current_task, set_progress


def note(*words: object) -> None:
    with Path(settings.LEDGER).open("ab", buffering=0) as ledger:
        ledger.write((" ".join(map(str, (*words, os.getpid()))) + "\n").encode())


class Refused(ValueError):
    """Has a constructor that its arguments do not fit."""

    def __init__(self, code: int, *, reason: str) -> None:
        super().__init__(code, reason)
        self.code = code


@background
def add(x: Any, y: Any) -> Any:
    return x + y


@background
def enqueue_some(count: int) -> None:
    for number in range(count):
        add(number, number)


@background
async def add_later(x: Any, y: Any) -> Any:
    await asyncio.sleep(0)
    return x + y


@background(max_attempts=1)
def refuse(code: int) -> None:
    raise Refused(code, reason="no")


@background(max_attempts=1)
def leave() -> None:
    raise SystemExit(3)


@background(max_attempts=3, backoff=0)
def fail_often(key: str) -> None:
    note("try", key)
    raise ValueError(key)


@background(backoff=[0, 3600])
def fail_by_list(key: str) -> None:
    note("try", key)
    raise ValueError(key)


def not_again_for_key_errors(error: BaseException, result: AsyncResult) -> float | None:
    note("asked", type(error).__name__, result.id, result.attempts)
    return None if isinstance(error, KeyError) else 0


@background(backoff=not_again_for_key_errors)
def fail_by_function(key: str) -> None:
    if current_task().attempt < 3:
        raise ValueError(key)
    raise KeyError(key)


@background
def retry_once(key: str) -> str:
    if current_task().attempt == 1:
        raise Retry(after=0)
    return key


@background
def snooze_once(key: str) -> int:
    note("begin", key)
    if len(Path(settings.LEDGER).read_text().splitlines()) == 1:
        raise Snooze(0)
    return current_task().attempt


@background
def cancel(reason: str) -> None:
    raise Cancel(reason)


@background
def return_object() -> object:
    return object()


@background(ignore_result=True)
def return_ignored() -> object:
    return object()


@background
def tell_about_myself() -> dict[str, Any]:
    task = current_task()
    return {
        "id": task.id,
        "attempt": task.attempt,
        "queue": task.queue,
        "name": task.name,
        "deadline": task.deadline,
        "creator": task.creator and task.creator.pk,
    }


@background
def progressing(key: str) -> str:
    """Tell how far this has come inside a transaction, and wait until somebody has seen it."""
    with transaction.atomic():
        for step in range(1, 11):
            set_progress(step, 20, f"step {step}")
        note("halfway", key)
        while not (Path(settings.LEDGER).parent / key).exists():
            time.sleep(0.01)
    set_progress(20, 20, "done")
    return key


@background
def ask_for(task_id: int) -> Any:
    return AsyncResult(task_id).get(timeout=30)


@background
def add_and_ask(x: int, y: int) -> Any:
    return add.delay(x, y).get(timeout=30)


@background
async def add_and_await(x: int, y: int) -> Any:
    result = await sync_to_async(add.delay)(x, y)
    return await result.aget(timeout=30)


@background(on_worker_lost="fail")
def die_once(key: str) -> None:
    note("dying", key)
    os._exit(1)


@background(timeout=3600)
def long(key: str) -> None:
    note("begin", key)
    time.sleep(3600)


@background(unique=True)
def unique_by_arguments(key: str, wait: str = "") -> str:
    note("begin", key)
    while wait and not Path(wait).exists():
        time.sleep(0.01)
    return key


@background(unique=lambda user, *_, **__: user)
def unique_by_user(user: int, text: str = "") -> int:
    return user


@background
def when() -> datetime:
    return datetime.now(tz=UTC)


@background(max_attempts=1)
def patient_once(key: str) -> None:
    note("begin", key)
    while not (Path(settings.LEDGER).parent / key).exists():
        time.sleep(0.01)


@background
def endless_without_limit(key: str) -> None:
    note("begin", key)
    time.sleep(3600)


@background
def tell_oddly() -> list[str]:
    """Tell what is no progress; returns what that raised."""
    raised = []
    for told in [("a",), (None,), (float("nan"),), (10**400,), (1, "b")]:
        try:
            set_progress(*told)
        except ValueError as error:
            raised.append(type(error).__name__)
    set_progress(1, 2, None)
    set_progress(1, 2, 5)
    return raised


@background(max_attempts=1, timeout=0.5)
def raise_unprintable() -> None:
    raise ValueError(10**5000)


@background(max_attempts=1)
def stop_iterating() -> None:
    raise StopIteration(3)


@background
async def nest(depth: int) -> int:
    """Wait for another of these, for another, and so on."""
    if not depth:
        return 0
    result = await sync_to_async(nest.delay)(depth - 1)
    return 1 + await result.aget(timeout=60)


def at_once_while_early(error: BaseException, result: AsyncResult) -> float:
    return 0 if result.attempts < 3 else 3600


@background(backoff=at_once_while_early)
async def fail_and_ask(key: str) -> None:
    note("try", key)
    raise ValueError(key)


@background(on_worker_lost="fail")
def precious(key: str) -> None:
    note("precious", key)
    time.sleep(3600)


@background(on_worker_lost="fail")
async def precious_coroutine(key: str) -> None:
    note("precious", key)
    await asyncio.sleep(3600)
