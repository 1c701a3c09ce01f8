"""Tasks of the Celery dialect."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from background_task.models import Task as Row

from bgtasks.dialects.celery import shared_task

HERE = __name__


NOON = datetime(2024, 5, 6, 12, tzinfo=UTC)


@shared_task
def add(x: int, y: int = 0) -> int:
    """The sum."""
    return x + y


@shared_task
def fail(text: str) -> None:
    raise ValueError(text)


@shared_task(bind=True, max_retries=2, default_retry_delay=0)
def stubborn(self: Any, how: str) -> None:
    """Never succeed."""
    if how == "no reason":
        self.retry()
    if how == "made":
        self.retry(exc=KeyError(how))
    try:
        raise KeyError(how)
    except KeyError as error:
        self.retry(exc=None if how == "handled" else error, max_retries=3 if how == "3" else None)


@shared_task(bind=True, max_retries=None, default_retry_delay=0)
def endless(self: Any, most: int) -> int:
    if self.request.retries < most:
        self.retry()
    return self.request.retries


queue = pytest.mark.usefixtures("empty_queue")


declaring = pytest.mark.usefixtures("registered")


def delays() -> list[float]:
    """Seconds from noon until each row is ready."""
    return [(row.run_at - NOON).total_seconds() for row in Row.objects.order_by("pk")]
