"""The settings of the tests' smallest project, with the tasks that are measured."""

from tests.bgtasks.project.settings import *  # noqa: F403
from tests.bgtasks.project.settings import INSTALLED_APPS

INSTALLED_APPS = [
    "bench.project" if app == "tests.bgtasks.project" else app for app in INSTALLED_APPS
]
TASKS = {"default": {"BACKEND": "bgtasks.dialects.django_tasks.DatabaseBackend"}}
