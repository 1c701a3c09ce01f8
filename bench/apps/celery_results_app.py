"""Celery in a Django project, which keeps the results in the project's database."""

import os

import django
from celery import Celery

from bench.apps import celery_app
from bench.ledger import note

app = Celery("bench", broker=os.environ["BENCH_BROKER"])
app.conf.update(
    task_default_queue=celery_app.QUEUE, result_backend="django-db", result_extended=True
)


@app.task
def noop(number: int) -> None:
    note(number)


def fill(tasks: int) -> None:
    django.setup()
    for number in range(tasks):
        noop.delay(number)


clear = celery_app.clear
