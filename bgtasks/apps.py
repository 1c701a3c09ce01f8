from typing import Any

import background_task
from background_task.apps import BackgroundTasksAppConfig
from django.apps import AppConfig, apps
from django.core.exceptions import ImproperlyConfigured
from django.db import connections, router
from django.db.models.signals import post_migrate, pre_migrate

# django-background-tasks sets no default_auto_field, and its tables were made with AutoField. The
# default of Django 6 is BigAutoField, so `makemigrations` would write a migration into
# site-packages. It is set on the class, before Django imports any models: Django first creates the
# configs of all apps, which imports this module, and then imports the models.
BackgroundTasksAppConfig.default_auto_field = "django.db.models.AutoField"

_stock_background = background_task.background


def _install_patches() -> None:
    from bgtasks.patches import table

    table.install()


def _background(*args: Any, **options: Any) -> Any:
    """Takes the place of ``background_task.background``, and first installs the patches.

    The models.py of an app that stands before bgtasks may declare tasks, before our own models are
    imported.
    """
    _install_patches()
    return _stock_background(*args, **options)


background_task.background = _background

# The modules of bgtasks that declare tasks. A worker imports them with every app's ``tasks.py``.
OWN_TASKS = ("bgtasks.dialects.django_q", "bgtasks.mail")


class BgtasksConfig(AppConfig):
    # This module has two AppConfigs, as it imports one. This is the one for Django to use.
    default = True
    name = "bgtasks"
    verbose_name = "Background tasks"
    default_auto_field = "django.db.models.BigAutoField"

    def import_models(self) -> None:
        if not apps.is_installed("background_task"):
            raise ImproperlyConfigured(
                "bgtasks stands on the tables of django-background-tasks. Write both into "
                'INSTALLED_APPS, in this order: "bgtasks", "background_task".'
            )
        super().import_models()
        # Not in `ready`: that of an app which stands before this one may call tasks.
        _install_patches()

    def ready(self) -> None:
        from bgtasks import checks
        from bgtasks.engines import setting
        from bgtasks.tasks import registry

        registry.add_modules(*OWN_TASKS)
        checks.register_all()
        setting.prepare()
        pre_migrate.connect(_drop_constraints, sender=self)
        post_migrate.connect(_restore_fields, sender=self)
        post_migrate.connect(_restore_tables, sender=self)


def _drop_constraints(using: str, plan: Any = (), **_: Any) -> None:
    from bgtasks.queue import separate

    if router.allow_migrate(using, "bgtasks"):
        separate.drop_constraints(using, plan)


def _restore_fields(**_: Any) -> None:
    from bgtasks.queue import separate

    separate.restore_fields()


def _restore_tables(using: str, **_: Any) -> None:
    """After every `migrate`, restore the indexes and the sequences of the task tables.

    If SQLite has remade a table, or a dump was restored, the tables have the indexes that the
    models declare, and their ids may begin at 1 again. `migrate bgtasks zero` restores upstream's
    indexes, and then this leaves them alone.
    """
    from bgtasks.queue import indexes, sequences

    if router.allow_migrate(using, "bgtasks"):
        indexes.keep(connections[using])
        sequences.lift(connections[using])
