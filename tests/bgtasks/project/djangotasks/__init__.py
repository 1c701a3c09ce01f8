"""An app whose tasks are Django's own, and whose receivers write down what they are told."""

import sys

from django.apps import AppConfig


class DjangoTasks(AppConfig):
    name = "tests.bgtasks.project.djangotasks"
    label = "djangotasks"

    def ready(self) -> None:
        from bgtasks.dialects.django_tasks.framework import task_finished, task_started

        from .tasks import note

        def tell(signal: object, task_result: object, **kwargs: object) -> None:
            name = "started" if signal is task_started else "finished"
            error = sys.exc_info()[0]
            words = task_result.task.name, task_result.status, error and error.__name__
            note(name, *words, task_result.attempts)

        for signal in (task_started, task_finished):
            signal.connect(tell, weak=False)
