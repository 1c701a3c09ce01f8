"""The command ``manage.py task_health``: whether what waits will be run. For probes."""

from __future__ import annotations

import json
import math
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import Error

from bgtasks.operations.unserved import PATIENCE, living, unserved


class Command(BaseCommand):
    help = (
        "Check that a worker runs and serves all that waits. The exit code is 1 if not; the reason "
        "is written."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--patience",
            type=float,
            default=PATIENCE,
            metavar="S",
            help=f"Seconds that a task may have been due ({PATIENCE:g}).",
        )
        parser.add_argument("--json", action="store_true", help="Write JSON.")

    def handle(self, *args: Any, **options: Any) -> None:
        if not 0 <= options["patience"] < math.inf:
            raise CommandError("--patience is a number of seconds, 0 or more.")
        try:
            problems = [str(each) for each in unserved(options["patience"])]
            workers = len(living())
        except Error as error:
            problems = [f"The database does not answer, or is not migrated: {error}".strip()]
            workers = None
        if options["json"]:
            facts = {"healthy": not problems, "problems": problems, "workers": workers}
            self.stdout.write(json.dumps(facts))
        elif not problems:
            self.stdout.write(f"Workers that run: {workers}. All that waits is served.")
        if problems:
            raise CommandError("" if options["json"] else "\n".join(problems))
