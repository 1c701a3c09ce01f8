"""The Celery app, for a site whose tasks a Celery fleet runs: set ``ENGINE=celery``."""

import os
from typing import Any

from celery import Celery, signals

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")

app = Celery("config")
app.config_from_object("django.conf:settings", namespace="CELERY")


def _leave_logging(**_: Any) -> None:
    """Do nothing: as somebody sets up the logging here, Celery leaves Django's LOGGING alone."""


signals.setup_logging.connect(_leave_logging, weak=False)
