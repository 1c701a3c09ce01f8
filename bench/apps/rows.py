"""Rows for the tables of django-background-tasks."""

import django
from django.db import transaction


def fill(tasks: int) -> None:
    django.setup()
    from background_task.models import Task

    rows = (Task.objects.new_task("bench.apps.noop.tasks.noop", (n,)) for n in range(tasks))
    with transaction.atomic():
        Task.objects.bulk_create(rows, batch_size=1000)
