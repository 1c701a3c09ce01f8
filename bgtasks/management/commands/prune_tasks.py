"""The command ``manage.py prune_tasks``, which deletes old finished tasks now."""

from __future__ import annotations

import argparse
import time
from datetime import timedelta
from typing import Any

from django.core.management.base import BaseCommand

from bgtasks import conf
from bgtasks.queue import pruning

# Seconds between two tries to drop a table that another transaction reads.
PAUSE = 0.5


def days(text: str) -> timedelta:
    """An argument that is a number of days, 0 or more."""
    number = float(text)
    if not 0 <= number < 36500:
        raise argparse.ArgumentTypeError(f"{text} is no sensible number of days")
    return timedelta(days=number)


class Command(BaseCommand):
    help = "Delete finished tasks that are older than BGTASKS_RETENTION says, in small batches."

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument(
            "--older-than",
            type=days,
            metavar="DAYS",
            help="Delete tasks of all states at this age, instead of BGTASKS_RETENTION.",
        )
        parser.add_argument(
            "--stock",
            type=days,
            metavar="DAYS",
            help="Also delete tasks that django-background-tasks' own worker finished this long "
            "ago.",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        retention = conf.retention()
        if options["older_than"] is not None:
            retention = dict.fromkeys(retention, options["older_than"])
        count = 0
        for deleted in pruning.prune(retention, all_old=options["older_than"] is not None):
            count += deleted
            if not deleted:
                time.sleep(PAUSE)
        if options["stock"] is not None:
            count += sum(pruning.prune_upstream(options["stock"]))
        if options["verbosity"]:
            self.stdout.write(f"Finished tasks deleted: {count}.")
