"""Tasks of every decorator."""

from __future__ import annotations

import background_task
import django

from bgtasks import background
from bgtasks.dialects.celery import shared_task

if django.VERSION >= (6,):
    from django.tasks import task
else:
    from django_tasks import task


@background(unique=True, priority=7)
def refresh(key: int = 0) -> int:
    return key


@background_task.background(unique=True, priority=7, schedule=0.0)
def stock(key: int = 0) -> object:
    return object()  # upstream ignores what its tasks return


@shared_task(priority=7)
def shared(key: int = 0) -> int:
    return key


@task(priority=7)
def of_django(key: int = 0) -> int:
    return key


def plain(key: int = 0) -> int:
    return key
