"""An app whose worker is killed, or whose receivers raise, where the environment says so."""

from django.apps import AppConfig


class DueWork(AppConfig):
    name = "tests.bgtasks.project.duework"
    label = "duework"

    def ready(self) -> None:
        from background_task import signals
        from django.db import transaction

        from bgtasks.dialects.django_tasks.framework import task_finished, task_started

        from . import faults

        def connect(signal: object, moment: str) -> None:
            if faults.asked_for(moment):
                signal.connect(lambda **_: faults.point(moment), weak=False)

        def commit(**_: object) -> None:
            transaction.on_commit(lambda: faults.point(faults.RECORDED))

        connect(task_started, faults.STARTS)
        connect(task_finished, faults.FINISHES)
        connect(signals.task_successful, faults.RECORDS)
        if faults.asked_for(faults.RECORDED):
            signals.task_successful.connect(commit, weak=False)
