from __future__ import annotations

from django.apps import AppConfig
from django.conf import settings
from django.db import connection

from bgtasks.signals import task_successful


def wait(**_: object) -> None:
    from tests.bgtasks.project.tasks import note

    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_sleep(%s)", [settings.RECEIVER_SLEEPS])
    note("received")


class Patient(AppConfig):
    name = "tests.bgtasks.project.patient"
    label = "patient"

    def ready(self) -> None:
        task_successful.connect(wait)
