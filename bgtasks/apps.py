from background_task.apps import BackgroundTasksAppConfig
from django.apps import AppConfig

# django-background-tasks names no default_auto_field. Its tables were made with
# AutoField, so under Django 6's BigAutoField `makemigrations` would want to write a
# migration into site-packages. Set here, on the class: apps are created in the
# order of INSTALLED_APPS, models are imported only after all of them.
BackgroundTasksAppConfig.default_auto_field = "django.db.models.AutoField"


class BgtasksConfig(AppConfig):
    name = "bgtasks"
    verbose_name = "Background tasks"
