"""Fixtures of the tests of the dialect."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from typing import Any

import django
import pytest
from background_task.models import Task

if django.VERSION >= (6,):
    from django.tasks import signals
else:
    from django_tasks import signals
from tests.bgtasks.dialects.django_tasks.helpers import APP, TASKS


@pytest.fixture(autouse=True)
def _ours(request: pytest.FixtureRequest, settings: Any) -> None:
    settings.TASKS = TASKS
    if request.node.get_closest_marker("django_db"):
        Task.objects.all().delete()


@pytest.fixture
def tasks(_ours: None) -> Any:
    """The app's tasks, which are declared in the first test that uses them."""
    return importlib.import_module(f"{APP}.tasks")


@pytest.fixture
def told() -> Iterator[list[tuple[str, Any, Any, type[BaseException] | None]]]:
    """What Django's signals tell: of which, by whom, the status, and the current exception."""
    heard: list[tuple[str, Any, Any, type[BaseException] | None]] = []
    receivers = []
    for name in ("enqueued", "started", "finished"):

        def hear(sender: type, task_result: Any, name: str = name, **kwargs: Any) -> None:
            heard.append((name, sender, task_result.status, sys.exc_info()[0]))

        getattr(signals, f"task_{name}").connect(hear)
        receivers.append(hear)
    yield heard
    for name, hear in zip(("enqueued", "started", "finished"), receivers, strict=True):
        assert getattr(signals, f"task_{name}").disconnect(hear)
