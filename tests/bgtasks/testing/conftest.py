"""Fixtures of the tests of `bgtasks.testing`: each test in both kinds of test case."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from background_task.models import Task
from background_task.tasks import tasks as registry
from django.db import connection

from tests.bgtasks.testing.helpers import OURS, ran


@pytest.fixture(autouse=True)
def _tasks() -> Iterator[None]:
    registry._tasks.update(OURS)
    ran.clear()
    yield
    for name in OURS:
        del registry._tasks[name]


@pytest.fixture(
    params=[
        "atomic",
        pytest.param("transaction", marks=pytest.mark.django_db(transaction=True)),
    ]
)
def either(request: pytest.FixtureRequest) -> None:
    """In a test's transaction, and without one. The site's own rows are not in the way."""
    request.getfixturevalue("transactional_db" if request.param == "transaction" else "db")
    Task.objects.all().delete()
    assert connection.in_atomic_block == (request.param == "atomic")


@pytest.fixture
def atomic(db: None) -> None:
    Task.objects.all().delete()
