"""Signals, sent so that one bad receiver harms nobody else.

An error that a receiver raises is logged and the work goes on; with upstream it could end the
worker or make a finished task run again. Inside a transaction every receiver that uses the
database has a savepoint of its own: on PostgreSQL one failed statement would otherwise undo the
whole transaction.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from asgiref.sync import async_to_sync
from background_task import signals
from background_task.models import CompletedTask, Task
from django.db.models.signals import post_delete, post_save, pre_delete, pre_save
from django.dispatch import Signal

from bgtasks.exceptions import BrokenTransaction
from bgtasks.logs import get_logger
from bgtasks.queue import patience
from bgtasks.queue.database import alias, connection

logger = get_logger(__name__)


def send(signal: Signal, sender: Any, **kwargs: Any) -> None:
    """Send a signal, and log whatever its receivers raise."""
    if not signal.receivers:
        return
    # Signal.send_robust() would do, but it cannot make a savepoint around each receiver.
    plain, coroutines = signal._live_receivers(sender)
    for receiver in (*plain, *map(async_to_sync, coroutines)):
        try:
            with _savepoint_when_needed(), patience.suspended():
                receiver(signal=signal, sender=sender, **kwargs)
        # SystemExit too: a receiver must not end a worker any more than a task may.
        except BaseException:
            logger.exception(
                "Receiver %s of a task's signal raised; the task's outcome stands.",
                getattr(receiver, "__qualname__", receiver),
            )


@contextmanager
def _savepoint_when_needed() -> Iterator[None]:
    """Make a savepoint before the first statement inside. Most receivers execute none."""
    database = connection()
    if not database.in_atomic_block or database.needs_rollback:
        yield
        return
    made: list[Any] = []

    def make_first(execute: Any, *statement: Any) -> Any:
        if not made:
            made.append(None)  # first, for making the savepoint executes a statement too
            made[0] = database.savepoint()
        return execute(*statement)

    hooks = len(database.run_on_commit)
    try:
        with database.execute_wrapper(make_first):
            yield
        if database.needs_rollback:
            raise BrokenTransaction(
                "It caught an error of the database, or called set_rollback(). What it wrote was "
                "undone. Write `with transaction.atomic():` around a statement that may fail."
            )
        if made:
            database.savepoint_commit(made[0])
    except BaseException:
        # As `atomic` does: what was done inside is undone, and not the whole transaction.
        database.needs_rollback = False
        if made:
            database.savepoint_rollback(made[0])
        del database.run_on_commit[hooks:]
        raise


def any_for_success() -> bool:
    """Whether a receiver is connected for any signal that a success sends.

    Such successes are recorded by `bgtasks.queue.finish.record_with_receivers`, which makes the
    instances that the signals carry.
    """
    return any(signal.has_listeners(sender) for signal, sender in _OF_A_SUCCESS if signal.receivers)


_OF_A_SUCCESS = [
    (signals.task_successful, Task),
    *((signal, model) for signal in (pre_save, post_save) for model in (Task, CompletedTask)),
    *((signal, Task) for signal in (pre_delete, post_delete)),
]


def saved(instance: Task | CompletedTask, created: bool) -> None:
    send(
        post_save,
        type(instance),
        instance=instance,
        created=created,
        raw=False,
        using=alias(),
        update_fields=None,
    )


def saving(instance: Task | CompletedTask) -> None:
    send(pre_save, type(instance), instance=instance, raw=False, using=alias(), update_fields=None)


def deleting(instance: Task) -> None:
    send(pre_delete, Task, instance=instance, using=alias(), origin=instance)


def deleted(instance: Task) -> None:
    send(post_delete, Task, instance=instance, using=alias(), origin=instance)
