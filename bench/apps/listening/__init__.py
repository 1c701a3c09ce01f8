"""An app with one receiver, for every model there is."""

import os

from django.apps import AppConfig

VARIABLE = "BENCH_HEARD"


class Listening(AppConfig):
    name = "bench.apps.listening"
    label = "bench_listening"

    def ready(self) -> None:
        from background_task.models import CompletedTask
        from django.db.models.signals import post_save

        heard = os.open(os.environ[VARIABLE], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

        def count(sender: type, **kwargs: object) -> None:
            """One byte for each completed row that is saved, past the database."""
            if sender is CompletedTask:
                os.write(heard, b".")

        post_save.connect(count, weak=False)
