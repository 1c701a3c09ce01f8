"""Sets up the tests' own project when it is imported, as a fork server does; see `warm`."""

import os

import django

from tests.harness.warm import SETTINGS

os.environ["DJANGO_SETTINGS_MODULE"] = SETTINGS
os.environ["DATABASE_URL"] = "sqlite://:memory:"
os.environ["MORE_SETTINGS"] = "{}"
django.setup()

import bgtasks.management.commands.process_tasks  # noqa: E402, F401  needs the models
