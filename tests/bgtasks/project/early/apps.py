"""An app that stands before bgtasks, and calls tasks in its ready()."""

import os

from django.apps import AppConfig


class Early(AppConfig):
    name = "tests.bgtasks.project.early"
    label = "early"

    def ready(self) -> None:
        exec(os.environ.get("IN_READY", ""))
