"""Sets up the tests' own project when it is imported, as a fork server does; see `warm`."""

import os

import django

from tests.harness.warm import SETTINGS

os.environ["DJANGO_SETTINGS_MODULE"] = SETTINGS
os.environ["DATABASE_URL"] = "sqlite://:memory:"
os.environ["MORE_SETTINGS"] = "{}"
django.setup()

# What a worker imports when it starts. These need the models.
import bgtasks.dialects.django_q  # noqa: E402
import bgtasks.mail.sending  # noqa: E402
import bgtasks.management.commands.process_tasks  # noqa: E402
import bgtasks.supervisor.supervisor  # noqa: E402, F401
