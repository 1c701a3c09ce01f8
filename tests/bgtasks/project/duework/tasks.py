"""Tasks with an effect: a row in the database each time, or one file."""

from __future__ import annotations

import uuid
from collections import Counter
from pathlib import Path

from django.conf import settings
from django.contrib.auth.models import Group
from django.tasks import task

from . import faults

# How often the task `fail` has failed in this process, by its argument.
failures: Counter[str] = Counter()


@task(atomic=True)
def effect(key: str) -> None:
    faults.point(faults.BEFORE)
    Group.objects.create(name=f"effect-{key} {uuid.uuid4()}")
    faults.point(faults.AFTER)


@task
def effect_that_may_be_repeated(key: str) -> None:
    """Leaves a file: to do it again changes nothing."""
    faults.point(faults.BEFORE)
    Path(settings.LEDGER).with_name(f"effect-{key}").touch()
    faults.point(faults.AFTER)


@task(max_attempts=3, backoff=3600)
def fail(key: str) -> None:
    failures[key] += 1
    raise ConnectionError("the provider is away")
