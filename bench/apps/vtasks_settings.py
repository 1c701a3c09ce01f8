"""A Django project for django-vtasks with its defaults, under a key prefix of our own."""

import os

SECRET_KEY = "bench-only"
USE_TZ = True
INSTALLED_APPS = ["django_vtasks"]
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}}
VTASKS_VALKEY_PREFIX = os.environ["BENCH_PREFIX"]
TASKS = {
    "default": {
        "BACKEND": "django_vtasks.backends.valkey.ValkeyTaskBackend",
        "OPTIONS": {"BROKER_URL": os.environ["BENCH_BROKER"]},
    }
}
