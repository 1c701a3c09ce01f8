"""Tasks whose effects and outcome are one transaction, and what may happen to those meanwhile."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from contextlib import suppress
from pathlib import Path

from asgiref.sync import sync_to_async
from background_task import signals
from background_task.models import Task
from django.contrib.auth.models import User
from django.db import DatabaseError, connection, transaction
from django.db.models.signals import post_delete
from django.utils import timezone

from bgtasks import background, current_task


def note(*words: object) -> None:
    from tests.bgtasks.project import tasks

    tasks.note(*words)


def effects(key: object) -> None:
    """Write a row and enqueue a task, which both name this attempt."""
    User.objects.create(username=f"{key} {current_task().attempt}")
    leave_a_trace(key, current_task().attempt)


@background
def leave_a_trace(key: object, attempt: int) -> None:
    note("trace", key, attempt)


@background(atomic=True, backoff=0, max_attempts=3)
def change(key: object, fault: str = "") -> str:
    """Have effects, and something go wrong in the first attempt."""
    note("change", key)
    is_first = current_task().attempt == 1
    if is_first and fault == "dies before":
        os.kill(os.getpid(), signal.SIGKILL)
    if is_first and fault in AS_IT_IS_RECORDED:
        signals.task_successful.connect(AS_IT_IS_RECORDED[fault], weak=False)
    if is_first and fault == "a late receiver swallows an error":
        post_delete.connect(swallow_an_error, sender=Task, weak=False)
    effects(key)
    if is_first and fault in AFTERWARDS:
        AFTERWARDS[fault]()
    return f"changed {key}"


def die(**kwargs: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def write_and_die(**kwargs: object) -> None:
    User.objects.create(username="a receiver")
    die()


def write_and_raise(**kwargs: object) -> None:
    User.objects.create(username="a receiver")
    raise_error()


def swallow_an_error(**kwargs: object) -> None:
    """Django notes at the connection that its transaction cannot go on."""
    User.objects.create(username="a receiver")
    with suppress(DatabaseError):
        User.objects.create(username="a receiver")


def raise_error(**kwargs: object) -> None:
    raise ValueError("as it should")


def die_when_committed() -> None:
    transaction.on_commit(die)


def raise_when_committed() -> None:
    transaction.on_commit(raise_error)


def query_in_vain_when_committed() -> None:
    transaction.on_commit(lambda: connection.cursor().execute("SELECT * FROM no_such_table"))


def leave_a_block_open() -> None:
    transaction.atomic().__enter__()


def catch_an_error() -> None:
    """PostgreSQL carries out nothing more in this transaction; SQLite does."""
    with suppress(DatabaseError), connection.cursor() as cursor:
        cursor.execute("SELECT * FROM no_such_table")


def ask_for_a_rollback() -> None:
    transaction.set_rollback(True)


def close_the_connection() -> None:
    connection.close()


def commit_by_hand() -> None:
    connection.cursor().execute("COMMIT")


def delete_own_row() -> None:
    Task.objects.filter(pk=current_task().id).delete()


def lose_the_connection() -> None:
    connection.connection.close()


AS_IT_IS_RECORDED = {
    "dies as it is recorded": die,
    "a receiver writes and dies": write_and_die,
    "a receiver writes and raises": write_and_raise,
    "a receiver swallows an error": swallow_an_error,
}
AFTERWARDS = {
    "dies after": die,
    "dies when committed": die_when_committed,
    "raises": raise_error,
    "raises when committed": raise_when_committed,
    "queries in vain when committed": query_in_vain_when_committed,
    "leaves a block open": leave_a_block_open,
    "catches an error": catch_an_error,
    "asks for a rollback": ask_for_a_rollback,
    "deletes its row": delete_own_row,
    "closes the connection": close_the_connection,
    "commits by hand": commit_by_hand,
    "loses its connection": lose_the_connection,
}


@background(atomic=True)
def return_an_object(key: object) -> object:
    effects(key)
    return object()


@background(atomic=True)
async def change_in_coroutine(key: object) -> str:
    await User.objects.acreate(username=f"{key} 1")
    await leave_a_trace.adelay(key, 1)
    await sync_to_async(lambda: note("atomic", connection.in_atomic_block))()
    if key == "in vain":
        raise ValueError("as it should")
    return "changed"


@background(atomic=True, timeout=1, max_attempts=1)
def change_for_too_long(key: object) -> None:
    effects(key)
    note("begin", key)
    time.sleep(3600)


@background(atomic=True, timeout=1, max_attempts=1)
async def await_for_too_long(key: object) -> None:
    await User.objects.acreate(username=f"{key} 1")
    note("begin", key)
    try:
        await asyncio.sleep(3600)
    finally:
        await asyncio.sleep(0.3)
        note("cleaned up", key)


@background(atomic=True, timeout=1.5, max_attempts=1)
def change_in_time(key: object) -> None:
    effects(key)
    note("deadline", (current_task().deadline - timezone.now()).total_seconds())
    time.sleep(0.5)


def leak(**kwargs: object) -> None:
    transaction.atomic().__enter__()
    User.objects.create(username="a receiver")


@background
def have_receivers_leak() -> None:
    signals.task_started.connect(leak, weak=False)


@background(atomic=True)
def change_slowly(key: object, seconds: float) -> None:
    """Keep the transaction open for a while after its first write."""
    effects(key)
    note("begin", key)
    time.sleep(seconds)
    note("end", key)


@background(atomic=True)
def write_once(key: object, seconds: float) -> None:
    """Write a row that names the task, and may take a while for it."""
    note("begin", key)
    User.objects.create(username=f"{key} {current_task().attempt}")
    time.sleep(seconds)


@background(atomic=True)
def change_until(key: object, path: str) -> None:
    """Keep the transaction open until a file appears."""
    effects(key)
    note("begin", key)
    while not Path(path).exists():
        time.sleep(0.01)


@background(atomic=True)
def change_and_fork(key: object) -> None:
    """A copy of this process returns from the function too."""
    effects(key)
    if pid := os.fork():
        os.waitpid(pid, 0)
    note("returns", key)


@background(atomic=True)
def change_and_leak_elsewhere(key: object) -> None:
    effects(key)
    transaction.atomic(using="elsewhere").__enter__()
    User.objects.using("elsewhere").exists()


@background(atomic=True)
def count_up() -> None:
    """Add a row whose name is how many there were: two at once would want the same name."""
    User.objects.create(username=f"{User.objects.count()}")


def users() -> list[str]:
    return sorted(User.objects.values_list("username", flat=True))
