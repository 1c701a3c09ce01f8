"""Tasks in Django's own words. They import nothing of bgtasks."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path
from typing import Any

import django
from asgiref.sync import sync_to_async
from django.conf import settings
from django.db import transaction

if django.VERSION >= (6,):
    from django.tasks import TaskContext, task
else:
    from django_tasks import TaskContext, task


def note(*words: object) -> None:
    """Append a line to the ledger, whole or not at all."""
    with Path(getattr(settings, "LEDGER", os.devnull)).open("ab", buffering=0) as ledger:
        ledger.write((" ".join(map(str, (*words, os.getpid()))) + "\n").encode())


class Unlucky(Exception):
    """An exception of the project's own."""


@task
def double(number: Any) -> Any:
    note("double", number)
    return number * 2


@task(priority=5, queue_name="default")
def urgent() -> str:
    return "done"


@task
async def double_later(number: int) -> int:
    await asyncio.sleep(0)
    return number * 2


@task
def double_dictionary(key: Any) -> Any:
    return {key: key * 2}


@task
def fail(text: str = "of no use") -> None:
    note("fail")
    raise Unlucky(text)


@task
async def fail_later() -> None:
    raise Unlucky("later")


@task(takes_context=True, max_attempts=3, backoff=0)
def flaky(context: TaskContext, good: int) -> int:
    """Fails until the attempt of that number."""
    if context.attempt < good:
        raise Unlucky(f"attempt {context.attempt}")
    return context.attempt


@task(takes_context=True)
def told(context: TaskContext, word: str) -> dict[str, Any]:
    return told_by(context, word)


@task(takes_context=True)
async def told_later(context: TaskContext, word: str) -> dict[str, Any]:
    return told_by(context, word)


def told_by(context: TaskContext, word: str) -> dict[str, Any]:
    result = context.task_result
    return {
        "word": word,
        "attempt": context.attempt,
        "id": result.id,
        "status": result.status,
        "enqueued_at": result.enqueued_at and result.enqueued_at.isoformat(),
        "started_at": result.started_at and result.started_at.isoformat(),
        "args": result.args,
        "worker_ids": result.worker_ids,
        "task": result.task.name,
    }


@task
def returns(what: str) -> Any:
    return {"object": object(), "tuple": (1, 2), "bytes": b"abc", "nan": {1: 2}}[what]


@task(ignore_result=True)
def returns_what_nobody_keeps() -> object:
    return object()


@task
def leaves_a_transaction_open() -> None:
    transaction.atomic().__enter__()


@task(unique=True)
def once(key: str) -> None: ...


@task(takes_context=True)
def killed_at_first(context: TaskContext) -> int:
    note("begin", context.attempt)
    if context.attempt == 1:
        time.sleep(3600)
    return context.attempt


@task(on_worker_lost="fail")
def killed_once() -> None:
    note("begin")
    time.sleep(3600)


@task(timeout=0.2)
async def endless() -> None:
    await asyncio.sleep(3600)


@task(takes_context=True)
async def enqueues_another(context: TaskContext, number: int) -> str:
    result = await double.aenqueue(number)
    return str(result.id)


@task
async def counts() -> int:
    from django.contrib.auth import get_user_model

    return await sync_to_async(get_user_model().objects.count)()
