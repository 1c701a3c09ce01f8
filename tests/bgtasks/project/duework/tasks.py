"""Tasks with an effect outside the database: a line in the ledger each time, or one file."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

from django.conf import settings
from django.tasks import task

from . import faults

# How often the task `fail` has failed in this process, by its argument.
failures: Counter[str] = Counter()


def ledger() -> Path:
    return Path(getattr(settings, "LEDGER", os.devnull))


def write_line(key: str) -> None:
    faults.point(faults.BEFORE)
    with ledger().open("a") as lines:
        lines.write(f"effect {key} {os.getpid()}\n")
    faults.point(faults.AFTER)


@task
def effect(key: str) -> None:
    write_line(key)


@task(on_worker_lost="fail")
def effect_at_most_once(key: str) -> None:
    write_line(key)


@task
def effect_that_may_be_repeated(key: str) -> None:
    """Leaves a file: to do it again changes nothing."""
    faults.point(faults.BEFORE)
    ledger().with_name(f"effect-{key}").touch()
    faults.point(faults.AFTER)


@task(max_attempts=3, backoff=3600)
def fail(key: str) -> None:
    failures[key] += 1
    raise ConnectionError("the provider is away")
