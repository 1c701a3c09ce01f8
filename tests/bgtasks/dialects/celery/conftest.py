"""Fixtures of the tests of the Celery dialect."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from background_task.models import Task as Row
from background_task.tasks import tasks as registry
from django.utils import timezone

from tests.bgtasks.dialects.celery.helpers import NOON


@pytest.fixture
def empty_queue(db: None) -> None:
    """The site's own hourly task is not in the way."""
    Row.objects.all().delete()


@pytest.fixture
def registered() -> Iterator[None]:
    before = dict(registry._tasks)
    yield
    registry._tasks.clear()
    registry._tasks.update(before)


@pytest.fixture
def at_noon(empty_queue: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """The clock stands."""
    monkeypatch.setattr(timezone, "now", lambda: NOON)
