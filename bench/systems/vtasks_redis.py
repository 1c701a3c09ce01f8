"""django-vtasks on Redis: its worker with its defaults."""

from __future__ import annotations

import os
from urllib.parse import urlsplit

from bench.systems.base import Peer

BROKER = os.environ.get("BENCH_REDIS_URL", "redis://127.0.0.1:6379/0")
ADDRESS = urlsplit(BROKER)


class VTasks(Peer):
    name = "django-vtasks, Redis"
    package = "django-vtasks"
    modules = ("django_vtasks", "django_vcache", "django.tasks")
    service = (ADDRESS.hostname or "127.0.0.1", ADDRESS.port or 6379)
    application = "bench.apps.vtasks_app"
    command = ("django", "runworker")
    promise = (
        "Moved to a list of the worker's own while it runs; what a killed one left there "
        "goes to the failed ones, not run again. As durable as that Redis; no success is recorded."
    )

    def own_environment(self) -> dict[str, str]:
        return {
            "BENCH_BROKER": BROKER,
            "BENCH_PREFIX": f"{{{self.token}}}:",
            "DJANGO_SETTINGS_MODULE": "bench.apps.vtasks_settings",
        }

    def clear(self) -> None:
        filled = self.tasks
        super().clear()
        if filled:
            self.tasks = 0
            self.run("clear()")
