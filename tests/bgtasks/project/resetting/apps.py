from __future__ import annotations

from django.apps import AppConfig
from django.db import connection

from bgtasks.signals import task_finished


def reset_session(**_: object) -> None:
    with connection.cursor() as cursor:
        cursor.execute("RESET search_path")


class Resetting(AppConfig):
    name = "tests.bgtasks.project.resetting"
    label = "resetting"

    def ready(self) -> None:
        task_finished.connect(reset_session)
