"""Functions as they are written for Django Q, beside tasks of other dialects."""

import functools
import os
import time
from os import system  # noqa: F401  (what a row must not reach)
from pathlib import Path

from django.conf import settings
from django.contrib.auth.models import Group
from django.core.exceptions import ValidationError

from bgtasks import Snooze, background
from bgtasks.dialects.celery import shared_task


def note(*words):
    """Append a line to the ledger, past the database and its transactions."""
    with Path(settings.LEDGER).open("ab", buffering=0) as ledger:
        ledger.write((" ".join(map(str, (*words, os.getpid()))) + "\n").encode())


def multiply(x, y):
    note("multiply", x, y)
    return x * y


def named(**words):
    return words


async def multiply_later(x, y):
    return x * y


def fail(text):
    raise ValueError(text)


def waits(key):
    """Run for as long as nobody has written its key."""
    note("begin", key)
    while not Path(f"{settings.LEDGER}.{key}").exists():
        time.sleep(0.01)
    note("end", key)


def unkeepable():
    return object()


def tell(task):
    note("told", task.func, task.success, task.attempt_count, task.name)


def unsure(task):
    """A hook that fails."""
    raise LookupError(task.id)


@background(max_attempts=2)
def declared(x):
    note("declared", x)
    return x


@shared_task(bind=True)
def shared(self, x):
    note("shared", x, self.request.called_directly)
    return x


@functools.lru_cache
def cached():
    return 1


class Thing:
    def method(self):
        return 1


working_directory = os.getcwd
squared = functools.partial(multiply, 2)
anonymous = lambda: 1  # noqa: E731
number = 5


def breaks_a_rule():
    Group.objects.create(name="one")
    Group.objects.create(name="one")


def invalid():
    raise ValidationError({"name": ["not this"]}, code=7)


def not_now():
    raise Snooze(60)
