"""An app that runs rows its own way."""

from django.apps import AppConfig


class Running(AppConfig):
    name = "tests.bgtasks.project.running"
    label = "running"

    def ready(self) -> None:
        from background_task.tasks import DBTaskRunner, tasks

        class Runner(DBTaskRunner):
            pass

        tasks._runner = Runner()
