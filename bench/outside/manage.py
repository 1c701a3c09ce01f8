"""Django's commands for the project of the adapter; its worker is started by this."""

from __future__ import annotations

import os
import sys

from adapter import leash
from django.core.management import execute_from_command_line

if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "adapter.settings")
    leash.fasten(os.environ)
    execute_from_command_line(sys.argv)
