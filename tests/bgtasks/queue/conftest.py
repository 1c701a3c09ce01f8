"""Fixtures of the tests of the queue."""

from __future__ import annotations

import pytest
from background_task.models import Task


@pytest.fixture(autouse=True)
def _empty(request: pytest.FixtureRequest) -> None:
    if request.node.get_closest_marker("django_db"):
        Task.objects.all().delete()
