"""The jobs, as a project would write them: plain functions with a decorator."""

from __future__ import annotations

import os
import time

from bgtasks import background, current_task

from .orders import Orders
from .reports import Event, tell

ORDERS = Orders.read(os.environ)


class InjectedFailure(Exception):
    """The harness wants this attempt to fail."""


@background
def job(number: int, at: float, padding: str) -> None:
    """A job as most are: enqueued at some time, to be run as soon as possible."""
    tell(Event.STARTED, time.time() - at)
    work()
    tell(Event.ENDED, time.time() - at)


@background
def failing(number: int, kind: str, failures: int, padding: str) -> None:
    """A job that the plan of the harness lets fail.

    Args:
        kind: "poison" if it never succeeds, else "transient".
        failures: how many attempts of a transient one fail.
    """
    task = current_task()
    assert task
    work()
    if kind == "transient" and task.attempt > failures:
        tell(Event.RECOVERED)
        return
    last = task.attempt >= ORDERS.max_attempts
    tell(Event.EXHAUSTED if last and kind == "poison" else Event.FAILED)
    raise InjectedFailure(f"{kind}, attempt {task.attempt}")


@background
def planned(number: int, due: float, padding: str) -> None:
    """A job of a herd, which was enqueued for a time in the future."""
    tell(Event.HERD_STARTED, time.time() - due)
    work()
    tell(Event.HERD_ENDED)


def work() -> None:
    """Take the time that a job is to take."""
    if ORDERS.work:
        time.sleep(ORDERS.work)
