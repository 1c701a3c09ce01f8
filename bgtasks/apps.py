from typing import Any

from background_task.apps import BackgroundTasksAppConfig
from django.apps import AppConfig, apps
from django.core.exceptions import ImproperlyConfigured
from django.db import connections, router
from django.db.models.signals import post_migrate

# django-background-tasks names no default_auto_field. Its tables were made with
# AutoField, so under Django 6's BigAutoField `makemigrations` would want to write a
# migration into site-packages. Set here, on the class: apps are created in the
# order of INSTALLED_APPS, models are imported only after all of them.
BackgroundTasksAppConfig.default_auto_field = "django.db.models.AutoField"


# The modules of ours that declare tasks. A worker imports them with every app's ``tasks.py``.
OWN_TASKS = ("bgtasks.dialects.django_q", "bgtasks.mail")


class BgtasksConfig(AppConfig):
    # Django takes the only AppConfig of this module, and there is an imported one.
    default = True
    name = "bgtasks"
    verbose_name = "Background task runs"
    default_auto_field = "django.db.models.BigAutoField"

    def import_models(self) -> None:
        if not apps.is_installed("background_task"):
            raise ImproperlyConfigured(
                "bgtasks stands on the tables of django-background-tasks. Write both into "
                'INSTALLED_APPS, in this order: "bgtasks", "background_task".'
            )
        super().import_models()

    def ready(self) -> None:
        from bgtasks import checks
        from bgtasks.patches import table
        from bgtasks.tasks import registry

        table.install()
        registry.add_modules(*OWN_TASKS)
        checks.register_all()
        post_migrate.connect(_put_right, sender=self)


def _put_right(using: str, **_: Any) -> None:
    """After every `migrate`, unless ours is undone: then the stock indexes are meant to be there.

    A SQLite table that was remade, or a dump that was restored, has those of its models. Its ids
    may begin anew as well.
    """
    from bgtasks.queue import indexes, sequences

    if router.allow_migrate(using, "bgtasks"):
        indexes.keep(connections[using])
        sequences.lift(connections[using])
