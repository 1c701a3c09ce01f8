"""Which processes may be forked from one that has set up the tests' own project already.

To set up Django and to import what every worker imports takes most of the processor time of a short
process. Nearly all processes of the tests set up the same project, so one fork server does it for
them; see `preloaded`.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

ROOT = str(Path(__file__).parents[2])
SETTINGS = "tests.bgtasks.project.settings"
FIXED = {"DJANGO_SETTINGS_MODULE": SETTINGS, "PYTHONPATH": ROOT}
# The code of a process that sets Django up begins so.
PRELUDE = "import django; django.setup()\n"
# What is read after the setup, or read again by `renew`: variables of the environment, and settings
# by the beginnings of their names. With any other, a process sets its project up by itself.
VARIABLES = {
    *("PATH", "HOME", "TMPDIR", "PYTHONUNBUFFERED"),
    *("DATABASE_URL", "DATABASE_OPTIONS", "LEDGER", "LOG_LEVEL", "MORE_SETTINGS"),
}
READ_LATER = ("BGTASKS_", "BACKGROUND_TASK_", "MAX_", "SECRET_KEY")


def suits(command: Sequence[str], env: Mapping[str, str]) -> bool:
    """Whether the process would set up the very project that is set up already."""
    command = list(command)
    runs_django = command[:2] == ["-m", "django"]
    return (
        (runs_django or (command[0] == "-c" and command[1].startswith(PRELUDE)))
        and all(env.get(name) == value for name, value in FIXED.items())
        and env.keys() <= VARIABLES | FIXED.keys()
        and all(name.startswith(READ_LATER) for name in json.loads(env.get("MORE_SETTINGS", "{}")))
    )


def renew() -> None:
    """Let Django read the settings again, which come from this process's environment.

    When the process then calls ``django.setup()``, that configures the logging again, and finds the
    apps ready.
    """
    from django.conf import settings
    from django.db import connections
    from django.utils.functional import empty

    del sys.modules[SETTINGS]
    settings._wrapped = empty
    vars(connections).clear()
    type(connections).__init__(connections)
