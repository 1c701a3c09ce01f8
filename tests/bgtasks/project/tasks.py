"""Tasks that behave well, and tasks that do not."""

from __future__ import annotations

import asyncio
import ctypes
import fcntl
import gc
import inspect
import os
import signal
import sqlite3
import sys
import threading
import time
from pathlib import Path

from asgiref.sync import sync_to_async
from background_task.models import Task
from background_task.tasks import tasks
from django.apps import apps
from django.conf import settings
from django.contrib.auth.models import User
from django.db import connection, transaction
from django.utils import timezone, translation

if apps.is_installed("bgtasks"):
    from bgtasks import background, current_task
    from tests.bgtasks.project.forking import *  # noqa: F403
    from tests.bgtasks.project.policied import *  # noqa: F403
    from tests.bgtasks.project.sessions import *  # noqa: F403

    if "atomic" in inspect.signature(background).parameters:  # the previous release has it not
        from tests.bgtasks.project.atomic import *  # noqa: F403
else:
    from tests.bgtasks.project.stock import background


def note(*words: object) -> None:
    """Append a line to the ledger, whole or not at all."""
    with Path(settings.LEDGER).open("ab", buffering=0) as ledger:
        ledger.write((" ".join(map(str, (*words, os.getpid()))) + "\n").encode())


@background
def work(key: object = 0) -> None:
    note("work", key)


@background
def note_creator() -> None:
    note("creator", current_task().creator.username)


@background
def slow(key: object, seconds: float) -> None:
    note("begin", key)
    time.sleep(seconds)
    note("end", key)


@background
async def gathering(key: object, count: int) -> None:
    """Run until so many of these run at the same time."""
    note("begin", key)
    while len(Path(settings.LEDGER).read_text().splitlines()) < count:
        await asyncio.sleep(0.01)
    note("end", key)


@background
async def patient_coroutine(key: object) -> None:
    """Run until cancelled, and then clean up."""
    note("begin", key)
    try:
        await asyncio.sleep(3600)
    finally:
        note("cleaned up", key)


@background
async def leaves_one_behind(key: object) -> None:
    """Start a task of the event loop's that nobody awaits."""
    asyncio.get_running_loop().create_task(patient_coroutine.task_function(key))
    await asyncio.sleep(0)


@background
async def exit_in_coroutine() -> None:
    raise SystemExit(3)


@background
async def exit_in_a_task_of_its_own() -> None:
    async def end() -> None:
        sys.exit(3)

    await asyncio.gather(asyncio.create_task(end()), return_exceptions=True)


@background
async def leak_in_coroutine() -> None:
    def leak() -> None:
        transaction.atomic().__enter__()
        User.objects.create(username="never committed")

    await sync_to_async(leak)()
    note("leak")


@background
async def language_in_coroutine(key: object, language: str = "") -> None:
    note("language", translation.get_language())
    if language:
        translation.activate(language)


@background
def until(key: object, path: str) -> None:
    """Run until a file appears."""
    note("begin", key)
    while not Path(path).exists():
        time.sleep(0.01)
    note("end", key)


@background
async def coroutine(key: object, seconds: float = 0.0) -> None:
    note("begin", key)
    await asyncio.sleep(seconds)
    await User.objects.acount()
    note("end", key)


@background(timeout=1)
async def endless_coroutine(key: object) -> None:
    note("begin", key)
    await asyncio.sleep(3600)


@background(timeout=1)
def endless(key: object) -> None:
    note("begin", key)
    threading.Event().wait()


@background
def hold_interpreter(key: object, seconds: int) -> None:
    """Keep the interpreter lock: no other thread of this process runs."""
    note("begin", key)
    ctypes.PyDLL(None).sleep(seconds)
    note("end", key)


@background
def fail(key: object = 0) -> None:
    note("fail", key)
    raise ValueError(f"as it should: {key}")


@background
def raise_named(name: str) -> None:
    note("raise", name)
    raise {"SystemExit": SystemExit(3), "KeyboardInterrupt": KeyboardInterrupt()}[name]


@background
def kill_worker(key: object = 0) -> None:
    note("kill", key)
    os.kill(os.getpid(), signal.SIGKILL)


@background
def exit_hard(key: object = 0) -> None:
    note("exit", key)
    os._exit(7)


@background
def stop_worker(key: object = 0) -> None:
    note("stop", key)
    # Another thread may receive a signal to the process, and meanwhile this one may end its run. A
    # signal to this thread stops the process before the call returns.
    signal.pthread_kill(threading.get_ident(), signal.SIGSTOP)
    note("continued", key)


@background
def exhaust_memory() -> None:
    note("memory")
    bytearray(sys.maxsize)


@background
def leak_transaction() -> None:
    transaction.atomic().__enter__()
    User.objects.create(username="never committed")
    note("leak")


@background
def leak_raw_transaction() -> None:
    with connection.cursor() as cursor:
        cursor.execute("BEGIN")
    User.objects.create(username="never committed")
    note("leak")


@background
def leak_language() -> None:
    translation.activate("de")
    timezone.activate("Asia/Tokyo")
    note("leak")


@background
def tell_language() -> None:
    note("language", translation.get_language(), timezone.get_current_timezone_name())


@background
def lose_connection() -> None:
    """Break this thread's connection under Django's feet."""
    User.objects.exists()
    connection.connection.close()
    note("lost")
    User.objects.exists()


@background
def query(key: object = 0) -> None:
    note("query", key, User.objects.count())


@background
def nul(key: object = 0) -> None:
    raise ValueError("a \x00 and half a pair \ud800")


@background
def chatter() -> None:
    print("printed", flush=True)
    print("on stderr", file=sys.stderr)
    note("chatter")


@background
def enqueue_another(key: object) -> None:
    work(key)


@background
def delete_own_row(key: object) -> None:
    Task.objects.filter(task_params__contains=f'"{key}"').delete()
    note("deleted", key)


@background
def main_thread() -> None:
    note("main", threading.current_thread() is threading.main_thread())


@background
def alone(key: object, path: str) -> None:
    """Run until a file appears, and tell if another process does the same meanwhile."""
    with Path(f"{settings.LEDGER}.{key}.lock").open("wb") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            note("overlap", key)
        until.now(key, path)


@background
def fail_until(path: str) -> None:
    """Fail until a file appears."""
    if not Path(path).exists():
        raise ValueError("not yet")
    note("succeeded")


@background
def complain() -> None:
    print("on stderr", file=sys.stderr)
    note("complain")


@background
def query_until(key: object, path: str) -> None:
    """Use the database, then run until a file appears."""
    User.objects.exists()
    until.now(key, path)


def count_connections() -> int:
    """The open connections of all threads of this process."""
    return sum(isinstance(thing, sqlite3.Connection) for thing in gc.get_objects())


@background
def watch_connections(most: int) -> None:
    """Run until this process has no more than so many connections."""
    note("watch", count_connections())
    while count_connections() > most:
        time.sleep(0.1)
    note("few", count_connections())


@background
def size(text: str) -> None:
    note("size", len(text))


@background
def nothing() -> None:
    pass


@background
def cut_connection(key: object) -> None:
    """Succeed, and leave a connection behind that is closed under Django's feet."""
    User.objects.exists()
    note("cut", key)
    connection.connection.close()


@tasks.background(schedule=3600)
def later() -> None:
    note("later")


@tasks.background()
def echo(value: object) -> object:
    return value


@tasks.background()
def as_ever() -> object:
    """Declared with the decorator of django-background-tasks."""
    return object()


@background
def unshowable() -> None:
    """Raise what neither ``traceback`` nor ``logging`` can format."""
    raise SyntaxError("its text is a number", ("file", 1, 1, 5))


@background
async def unshowable_coroutine() -> None:
    raise SyntaxError("its text is a number", ("file", 1, 1, 5))


@background
async def cancel_everybody() -> None:
    """Cancel what runs in the event loop, and what is about to."""
    for task in asyncio.all_tasks() - {asyncio.current_task()}:
        task.cancel()


@background
def be_deaf_to_sigterm() -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    note("deaf")
