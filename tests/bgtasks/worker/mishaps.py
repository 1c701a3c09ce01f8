"""What goes wrong between two steps, made to happen."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from background_task.models import Task

from bgtasks.queue import claims
from signup.tasks import discard_files as task

needs_rows = pytest.mark.django_db(transaction=True)


TOKEN = "bg~000000000000.1-1"


def claimed(count: int = 1) -> list[Task]:
    Task.objects.all().delete()
    for number in range(count):
        task([str(number)])
    return claims.claim(TOKEN, [task.name], count)


def broken(error: Exception) -> Callable[..., Any]:
    def call(*args: Any, **kwargs: Any) -> None:
        raise error

    return call
