"""The adapter: one process that enqueues, starts a worker, and prints what the harness wants.

It takes no arguments. What it is asked for stands in its environment.
"""

from __future__ import annotations

import os
import sys

import django
from adapter.orders import Orders
from adapter.stopping import Stopping

SCENARIO = "long_horizon"


def main() -> int:
    stopping = Stopping()
    scenario = os.environ.get("SCENARIO") or SCENARIO
    if scenario != SCENARIO:
        print(f"SCENARIO is {scenario!r}; there is only {SCENARIO!r}.", file=sys.stderr)
        return 2
    orders = Orders.read(os.environ)
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "adapter.settings")
    django.setup()
    from adapter.run import run  # its tasks need Django to be set up

    return run(orders, stopping)


if __name__ == "__main__":
    sys.exit(main())
