#!/usr/bin/env python
"""Django's command line, with site/ on the path.

``site/`` is a plain directory, never a package: the standard library owns the
module name ``site``. What stands in it (``config``) is imported by its own name.
"""

import os
import sys
from pathlib import Path


def main() -> None:
    sys.path.insert(1, str(Path(__file__).resolve().parent / "site"))
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
    try:
        from django.core.management import execute_from_command_line
    except ImportError as error:
        raise SystemExit(
            f"Django is not installed in {sys.executable} ({error}). "
            "Run `make run`, or `python -m venv .venv` and "
            "`.venv/bin/pip install -r requirements.txt`, then use .venv/bin/python."
        ) from error
    execute_from_command_line(sys.argv)


if __name__ == "__main__":
    main()
