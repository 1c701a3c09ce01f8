"""An app whose tasks have crontab lines, and whose process can be killed between two writes."""

import os
import signal
from pathlib import Path

from django.apps import AppConfig
from django.conf import settings


class Ticking(AppConfig):
    name = "tests.bgtasks.project.ticking"
    label = "ticking"

    def ready(self) -> None:
        from background_task.models import Task
        from django.db.models.signals import post_save

        def die(**kwargs: object) -> None:
            if Path(f"{settings.LEDGER}.die").exists():
                os.kill(os.getpid(), signal.SIGKILL)

        post_save.connect(die, sender=Task, weak=False)
