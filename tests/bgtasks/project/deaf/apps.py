"""An app that makes a system of those that do not tell of changes to files."""

from typing import Any

from django.apps import AppConfig


class Deaf(AppConfig):
    name = "tests.bgtasks.project.deaf"
    label = "deaf"

    def ready(self) -> None:
        from bgtasks.queue import listen

        def unknown(*arguments: Any) -> None:
            raise OSError("no inotify here")

        listen.FileChanges = unknown
