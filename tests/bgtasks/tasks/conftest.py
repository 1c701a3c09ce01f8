"""Fixtures of the tests of declaring tasks and running them here."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from background_task.models import Task
from background_task.tasks import tasks as registry

from tests.bgtasks.tasks.helpers import ran


@pytest.fixture(autouse=True)
def _registry() -> Iterator[None]:
    before = dict(registry._tasks)
    ran.clear()
    yield
    registry._tasks.clear()
    registry._tasks.update(before)


@pytest.fixture
def empty_queue(db: None) -> None:
    """The site's own hourly task is not in the way."""
    Task.objects.all().delete()
