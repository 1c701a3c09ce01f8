"""Celery with its defaults, but for a queue of our own and no results."""

import os

from celery import Celery

from bench.ledger import note

QUEUE = os.environ["BENCH_QUEUE"]
app = Celery("bench", broker=os.environ["BENCH_BROKER"])
app.conf.update(task_default_queue=QUEUE, task_ignore_result=True)


@app.task
def noop(number: int) -> None:
    note(number)


def fill(tasks: int) -> None:
    with app.producer_pool.acquire(block=True) as producer:
        for number in range(tasks):
            noop.apply_async((number,), producer=producer)


def clear() -> None:
    """Remove the queue, and the exchange that Celery names after it."""
    with app.connection_for_write() as connection:
        channel = connection.default_channel
        channel.queue_delete(QUEUE)
        channel.exchange_delete(QUEUE)
