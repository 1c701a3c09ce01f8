"""Celery as the engine: the rows are run by the project's own Celery workers.

A message is the id of a row and the claim by which it was published, and nothing else. It
never has an ETA: dates stay in the rows.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from celery import current_app, shared_task, signals
from celery.concurrency import get_implementation
from django.utils.module_loading import import_string
from kombu.exceptions import OperationalError

from bgtasks.engines import fleet
from bgtasks.engines.base import Engine, Message, Unreachable
from bgtasks.exceptions import InvalidEngine


def _run(row_id: int, token: str) -> None:
    """Run a row. This is a task of Celery's."""
    _handle_signals()
    fleet.run(CeleryEngine.name, row_id, token)


def _handle_signals() -> None:
    """Let a forked process finish its run when it gets SIGTERM, as its main process does.

    A terminal, honcho and systemd send signals to the whole group. Celery's own handler would raise
    SystemExit in the task, which would be a failure of the task.
    """
    if fleet.is_main() or threading.current_thread() is not threading.main_thread():
        return
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
        before = signal.getsignal(number)
        if callable(before) and not isinstance(before, partial):
            signal.signal(number, partial(_end, before, number == signal.SIGQUIT))


def _end(before: Callable[..., Any], at_once: bool, number: int, frame: Any) -> None:
    if fleet.may_end_here(at_once):
        before(number, frame)


# A message may get lost, and may come twice, so it does not matter when it is acknowledged.
run = shared_task(name="bgtasks.run", ignore_result=True, max_retries=0)(_run)


class CeleryEngine(Engine):
    """Sends the messages by the project's Celery app."""

    name = "Celery"
    start = "celery -A <project> worker"
    options = Engine.options | {"APP"}

    def __init__(self, options: Mapping[str, Any]) -> None:
        super().__init__(options)
        if path := options.get("APP"):  # `celery -A` imports it, and `manage.py` does not
            _app(path).set_default()
        if current_app.conf.task_always_eager:
            raise InvalidEngine(
                "Celery's task_always_eager is set, so there is nobody to send rows to. Unset it, "
                "or remove BGTASKS_ENGINE and let process_tasks run the rows."
            )

    def publish(self, messages: Sequence[Message]) -> None:
        try:
            with current_app.producer_or_acquire() as producer:
                for message in messages:
                    run.apply_async(
                        (message.row_id, message.token),
                        queue=self.queue_for(message),
                        producer=producer,
                        retry=False,
                    )
        except Exception as error:
            if isinstance(error, _broken_connections()):
                raise Unreachable(
                    f"the broker refuses them, or does not answer ({error})."
                ) from error
            raise


def _app(path: str) -> Any:
    try:
        return import_string(path)
    except ImportError as error:
        raise InvalidEngine(
            f"BGTASKS_ENGINE['APP'] is {path!r}, which cannot be imported: {error}. It is the "
            "dotted path of the project's Celery app."
        ) from error


def _broken_connections() -> tuple[type[Exception], ...]:
    """What is raised if the broker cannot be reached: it depends on the kind of broker."""
    transport = current_app.connection_for_write().transport
    return (OperationalError, OSError, *transport.connection_errors, *transport.channel_errors)


def _join(sender: Any, **_: Any) -> None:
    """Make the main process of a Celery worker a member, before it forks the others."""
    # Celery has not resolved "auto" yet.
    many = sender.concurrency if isinstance(sender.concurrency, int) else os.cpu_count() or 1
    forks = issubclass(get_implementation(sender.pool_cls), get_implementation("prefork"))
    processes, threads = (many, 1) if forks else (1, many)
    fleet.join(CeleryEngine.name, processes, threads)


def _finish(how: str, **_: Any) -> None:
    if how == "Warm":
        fleet.finish()


def _flush(**_: Any) -> None:
    fleet.flush()


def _leave(**_: Any) -> None:
    fleet.leave()


signals.worker_init.connect(_join, weak=False)
signals.worker_process_shutdown.connect(_flush, weak=False)
signals.worker_shutting_down.connect(_finish, weak=False)
signals.worker_shutdown.connect(_leave, weak=False)
