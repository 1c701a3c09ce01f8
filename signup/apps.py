from typing import Any

from django.apps import AppConfig
from django.db.models.signals import post_migrate


class SignupConfig(AppConfig):
    name = "signup"

    def ready(self) -> None:
        from signup import signals  # noqa: F401  connects them

        post_migrate.connect(schedule_sweep, sender=self)


def schedule_sweep(using: str, plan: Any = (), **kwargs: Any) -> None:
    """See to it that the hourly sweep of the storage is on the queue, once."""
    from background_task.models import Task
    from django.db import connections

    from signup.tasks import sweep_files

    tables = connections[using].introspection.table_names()
    if Task._meta.db_table not in tables:  # a partial migrate, of another app
        return
    if not Task.objects.using(using).filter(task_name=sweep_files.name).exists():
        sweep_files(repeat=Task.HOURLY)
