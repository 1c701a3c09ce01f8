"""The smallest project that bgtasks runs in, on the database of the harness."""

import logging
import os

from psycopg.conninfo import conninfo_to_dict

from .orders import Orders

_ORDERS = Orders.read(os.environ)
_DATABASE = conninfo_to_dict(os.environ["DATABASE_URL"])

SECRET_KEY = "nothing here is signed"
USE_TZ = True
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": _DATABASE.pop("dbname", ""),
        "USER": _DATABASE.pop("user", ""),
        "PASSWORD": _DATABASE.pop("password", ""),
        "HOST": _DATABASE.pop("host", ""),
        "PORT": _DATABASE.pop("port", ""),
        "OPTIONS": {"connect_timeout": 5, **_DATABASE},
    }
}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
INSTALLED_APPS = [
    "django.contrib.contenttypes",
    "django.contrib.auth",
    "bgtasks",
    "background_task",
    "adapter",
]

# The harness gives an adapter five seconds to end.
BGTASKS_GRACE = 2
BACKGROUND_TASK_MAX_ATTEMPTS = _ORDERS.max_attempts


def is_no_injected_failure(record: logging.LogRecord) -> bool:
    """Whether a record is worth its place: a storm of wanted failures would hide all others."""
    raised = record.exc_info and record.exc_info[0]
    return not (raised and raised.__name__ == "InjectedFailure")


# To stderr, which is for people. What is printed to stdout is read by the harness.
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"line": {"format": "%(process)d %(levelname)s %(name)s: %(message)s"}},
    "filters": {
        "wanted": {
            "()": "django.utils.log.CallbackFilter",
            "callback": is_no_injected_failure,
        }
    },
    "handlers": {
        "stderr": {"class": "logging.StreamHandler", "formatter": "line", "filters": ["wanted"]}
    },
    "root": {"handlers": ["stderr"], "level": "WARNING"},
}
