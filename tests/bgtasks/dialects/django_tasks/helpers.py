"""Django's own tasks for the tests of their dialect."""

from __future__ import annotations

from typing import Any

import django
import pytest

if django.VERSION >= (6,):
    from django import tasks as framework
    from django.tasks import base
else:
    import django_tasks as framework
    from django_tasks import base


BACKEND = "bgtasks.dialects.django_tasks.DatabaseBackend"


TASKS = {"default": {"BACKEND": BACKEND}}


APP = "tests.bgtasks.project.djangotasks"


READY, RUNNING, FAILED, SUCCESSFUL = (
    base.TaskResultStatus[name] for name in ("READY", "RUNNING", "FAILED", "SUCCESSFUL")
)


in_database = pytest.mark.django_db


def backend() -> Any:
    return framework.task_backends["default"]


def declare(function: Any, **options: Any) -> Any:
    """As `@task` does. The function is this module's, whatever made it."""
    return framework.task(**options)(function)
