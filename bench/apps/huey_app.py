"""huey with its defaults."""

import os

from huey import SqliteHuey

from bench.ledger import note

huey = SqliteHuey(filename=os.environ["BENCH_FILE"])


@huey.task()
def noop(number: int) -> None:
    note(number)


def fill(tasks: int) -> None:
    for number in range(tasks):
        noop(number)
