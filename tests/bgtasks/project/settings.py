"""The smallest project that bgtasks runs in: contenttypes and auth, nothing else."""

import faulthandler
import os
import select
import time

import environ

faulthandler.enable()  # SIGABRT has a process say where its threads are

if "FAKETIME_TIMESTAMP_FILE" in os.environ:
    # libfaketime 0.9.10, told to leave the monotonic clock alone, lets nobody sleep until a time by
    # that clock, which is how Python's own function sleeps.
    time.sleep = lambda seconds: select.select([], [], [], seconds) and None

env = environ.Env()
SECRET_KEY = "tests-only"
USE_TZ = True
DATABASES = {"default": env.db_url("DATABASE_URL")}

DATABASES["default"]["OPTIONS"] = env.json("DATABASE_OPTIONS", default={})
if "sqlite" in DATABASES["default"]["ENGINE"]:
    DATABASES["default"]["OPTIONS"] = {
        "timeout": 20,
        "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL",
        **env.json("DATABASE_OPTIONS", default={}),
    }
if "DIRECT_URL" in env:
    # The same database past a pooler.
    DATABASES["direct"] = {**DATABASES["default"], **env.db_url("DIRECT_URL")}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
INSTALLED_APPS = [
    "django.contrib.contenttypes",
    "django.contrib.auth",
    *env.list("ENGINE_APPS", default=["bgtasks", "background_task"]),
    "tests.bgtasks.project",
    *env.list("MORE_APPS", default=[]),
]
# Where tasks write down that they ran, past the database and its transactions.
LEDGER = os.environ.get("LEDGER", os.devnull)
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"line": {"format": "%(process)d %(levelname)s %(name)s: %(message)s"}},
    "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "line"}},
    "root": {"handlers": ["console"], "level": os.environ.get("LOG_LEVEL", "INFO")},
}
# Settings of the package under test, by their own names.
globals().update(env.json("MORE_SETTINGS", default={}))
