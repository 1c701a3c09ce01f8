"""The Celery app of a project whose rows Celery runs."""

import os

from celery import Celery

from bench.apps import celery_app, rows

app = Celery("bench", broker=os.environ["BENCH_BROKER"])
app.conf.update(task_default_queue=celery_app.QUEUE)

fill = rows.fill
clear = celery_app.clear
