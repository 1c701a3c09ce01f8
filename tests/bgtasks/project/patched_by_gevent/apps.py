from __future__ import annotations

from django.apps import AppConfig


class Patched(AppConfig):
    name = "tests.bgtasks.project.patched_by_gevent"
    label = "patched_by_gevent"

    def ready(self) -> None:
        from gevent import monkey

        monkey.patch_all()
